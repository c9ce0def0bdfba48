"""The commands: the options that each takes, what it does, and the figures that it returns."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from .. import data, demo, optim, precision, random
from .._kernels.dispatch import config, show_config
from ..errors import DtypeError
from ..nn import Module
from ..options import OBSERVER, REPAIRS
from ..plan.plan import Plan
from ..report.pictures import check_picture
from ..tables import layout
from ..timing import median_times
from ..trainer import Trainer
from . import gpt
from .command import Command
from .names import DATA, add_model, batches, dataset, model

Parser = argparse.ArgumentParser
Args = argparse.Namespace


# -- train ------------------------------------------------------------------------------------------------------------
def _train_arguments(p: Parser) -> None:
    add_model(p)
    p.add_argument("--data", required=True, help=DATA)
    p.add_argument("-o", dest="out", required=True, help="file to write")
    p.add_argument("--epochs", type=int, default=5)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--lr", type=float, default=3e-3, help="largest learning rate of AdamW on one cycle (default 0.003)")
    p.add_argument("--weight-decay", type=float, default=0.05)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--checkpoints", metavar="DIR", help="write checkpoints to DIR, and resume from one that is there")


def _train(args: Args) -> dict[str, Any]:
    random.manual_seed(args.seed)
    net = model(args.model, args)
    train = data.DataLoader(dataset(args.data, "train", net), args.batch, shuffle=True, drop_last=True, seed=args.seed)
    optimizer = optim.AdamW(net.parameters(), args.lr, weight_decay=args.weight_decay)
    schedule = optim.OneCycleLR(optimizer, args.lr, args.epochs * len(train))
    trainer = Trainer(net, optimizer, schedule=schedule, checkpoint_dir=args.checkpoints)
    trainer.fit(train, args.epochs, validation=batches(args.data, "test", net, 100), resume=args.checkpoints is not None)
    net.eval().save(args.out)
    print(f"wrote {args.out}: {Path(args.out).stat().st_size:,} bytes")
    return {"history": trainer.history, "file": args.out}


# -- quantize ---------------------------------------------------------------------------------------------------------
def _conversion(p: Parser) -> None:
    """Add the options of to_int8 that several commands take."""
    p.add_argument("--samples", type=int, default=512, help="training samples to calibrate with (default 512)")
    p.add_argument("--observer", choices=precision.OBSERVERS, default=OBSERVER, help="how ranges come from the data")
    p.add_argument("--per-tensor", action="store_true", help="one weight scale per layer, not one per channel")
    p.add_argument("--repairs", nargs="+", choices=REPAIRS, default=[], help="see docs/repairs.md")
    p.add_argument("--skip", nargs="+", default=[], metavar="LAYER", help="layers that stay float")


def _choose_options(args: Args) -> dict[str, Any]:
    return {"observer": args.observer, "per_channel": not args.per_tensor, "repairs": args.repairs, "skip": args.skip}


def _quantize_arguments(p: Parser) -> None:
    add_model(p)
    p.add_argument("--calibration", metavar="DATA", help=f"{DATA}; without it only weights become int8")
    p.add_argument("-o", dest="out", required=True, help="file to write")
    p.add_argument("--max-drop", type=float, metavar="POINTS", help="keep as few layers in float as lose no more")
    p.add_argument("--validation", metavar="DATA", help="data whose test part --max-drop is measured on")
    _conversion(p)


def _quantize(args: Args) -> dict[str, Any]:
    net = model(args.model, args)
    if args.calibration is None:
        changed = args.max_drop is not None or args.validation or args.repairs or args.observer != OBSERVER
        if changed:
            raise DtypeError("--max-drop, --validation, --repairs and --observer need --calibration DATA")
        int8 = net.to_int8(per_channel=not args.per_tensor, skip=args.skip)
    else:
        tests = batches(args.validation, "test", net, 100) if args.validation else None
        int8 = net.to_int8(calibration=batches(args.calibration, "train", net, 64, args.samples), **_choose_options(args),
                           max_drop=args.max_drop, validation=tests, progress=True)
    int8.save(args.out)
    size = Path(args.out).stat().st_size
    print(f"wrote {args.out}: {size:,} bytes, {size / max(net.nbytes, 1):.1%} of the model's {net.nbytes:,} in memory")
    floats = int8.info.floats if isinstance(int8, Plan) else {}
    for layer, why in floats.items():
        print(f"float: {layer}: {why}")
    return {"file": args.out, "file_bytes": size, "float_bytes": net.nbytes, "floats": floats,
            "frontier": [asdict(point) for point in int8.info.frontier] if isinstance(int8, Plan) else []}


# -- compare ----------------------------------------------------------------------------------------------------------
def _compare_arguments(p: Parser) -> None:
    add_model(p, "a", "b")
    p.add_argument("--data", required=True, help=f"data whose test part the models run on: {DATA}")
    p.add_argument("--tolerance", type=float, default=0.5, help="points of accuracy that B may lose (default 0.5)")


def _compare(args: Args) -> dict[str, Any]:
    a, b = model(args.a, args), model(args.b, args)
    return precision.compare(a, b, batches(args.data, "test", a, 64), tolerance=args.tolerance).as_dict()


# -- diagnose ---------------------------------------------------------------------------------------------------------
def _diagnose_arguments(p: Parser) -> None:
    add_model(p)
    p.add_argument("--data", required=True, help=f"calibrate with its training part, measure on its test part: {DATA}")
    _conversion(p)


def _diagnose(args: Args) -> dict[str, Any]:
    net = model(args.model, args)
    found = precision.diagnose(net, batches(args.data, "test", net, 100),
                               batches(args.data, "train", net, 64, args.samples), **_choose_options(args), progress=True)
    print(found)
    return found.as_dict()


# -- report, info, bench ----------------------------------------------------------------------------------------------
def _report_arguments(p: Parser) -> None:
    add_model(p)
    p.add_argument("--html", metavar="OUT", help="write the report as an HTML page")
    p.add_argument("--plot", metavar="OUT", help="draw the charts of the report, as .svg")
    p.add_argument("--data", help=f"data whose test part gives the histograms of activations: {DATA}")
    p.add_argument("--batch", type=int, default=1, help="samples per batch when layers are timed (default 1)")


def _report(args: Args) -> dict[str, Any]:
    if args.plot:
        check_picture("--plot", args.plot)
    net = model(args.model, args)
    found = net.report(data=batches(args.data, "test", net, 64, 512) if args.data else None, batch=args.batch)
    print(found)
    for path, write in ((args.html, found.to_html), (args.plot, found.plot)):
        if path:
            write(path)
            print(f"wrote {path}")
    figures: dict[str, Any] = found.as_dict()
    return figures


def _info(args: Args) -> dict[str, Any]:
    net = model(args.model, args)
    print(net)
    kinds: dict[str, int] = {}
    for t in {id(t): t for _, t in net.named_tensors()}.values():
        kinds[str(t.dtype)] = kinds.get(str(t.dtype), 0) + t.numel()
    about = {"class": type(net).__name__, "bytes": net.nbytes, "elements": kinds,
             "plan": asdict(net.info) if isinstance(net, Plan) else None}
    for name, value in about.items():
        if value:
            print(f"{name}: {f'{value:,}' if isinstance(value, int) else value}")
    return about


def _bench_arguments(p: Parser) -> None:
    add_model(p)
    p.add_argument("--data", required=True, help=f"inputs: {DATA}")
    p.add_argument("--batch", type=int, nargs="+", default=[1, 64], help="batch sizes (default 1 64)")
    p.add_argument("--seconds", type=float, default=1.0, help="how long to time each batch size (default 1)")


def _bench(args: Args) -> list[dict[str, Any]]:
    net = model(args.model, args).eval()
    forms: dict[str, Module] = {"as it is": net}
    if not isinstance(net, Plan) and not any(str(t.dtype) == "int8" for _, t in net.named_tensors()):
        some = batches(args.data, "train", net, 64, 256)
        forms |= {"compile()": net.compile(some[0][0]), "to_int8()": net.to_int8(), "to_int8(calibration)":
                  net.to_int8(calibration=some)}
    rows = []
    for size in args.batch:
        x = batches(args.data, "test", net, size, size)[0][0]
        times = median_times([partial(form, x) for form in forms.values()], args.seconds)
        for (name, form), ms in zip(forms.items(), times):
            rows.append({"batch": len(x), "form": name, "ms": ms, "samples_per_second": 1e3 * len(x) / ms,
                         "bytes": form.nbytes})
    cells = [[str(r["batch"]), str(r["form"]), f"{r['ms']:.3f}", f"{r['samples_per_second']:,.0f}", f"{r['bytes']:,}"]
             for r in rows]
    print(layout([["batch", "form", "ms", "samples per second", "bytes"], *cells], left=(1,)))
    return rows


# -- demo, config -----------------------------------------------------------------------------------------------------
def _demo_arguments(p: Parser) -> None:
    p.add_argument("--model", choices=("cnn", "gpt"), default="cnn", help="what to train (default: cnn)")


def _config(args: Args) -> dict[str, Any]:
    show_config()
    return config()


COMMANDS = [
    Command("demo", "train on shipped data, quantize, print the table", "tinyml demo --model gpt --json figures.json",
            _demo_arguments, lambda args: demo.cnn() if args.model == "cnn" else demo.gpt()),
    Command("train", "train a model and write it to a file",
            "tinyml train tinyml.models:CifarCNN --arg in_channels=1 --data shipped -o cnn.safetensors",
            _train_arguments, _train),
    *gpt.COMMANDS,
    Command("quantize", "convert a model to int8",
            "tinyml quantize cnn.safetensors --calibration shipped -o int8.safetensors", _quantize_arguments, _quantize),
    Command("compare", "what one model loses against another, and what it gains",
            "tinyml compare cnn.safetensors int8.safetensors --data shipped", _compare_arguments, _compare),
    Command("diagnose", "which layers int8 costs most, why, and what to do about it",
            "tinyml diagnose cnn.safetensors --data shipped", _diagnose_arguments, _diagnose),
    Command("report", "what each layer of an int8 model costs and gains",
            "tinyml report int8.safetensors --html report.html", _report_arguments, _report),
    Command("info", "what is in a model", "tinyml info int8.safetensors", add_model, _info),
    Command("bench", "time a model in each of its forms", "tinyml bench cnn.safetensors --data shipped --batch 1 64",
            _bench_arguments, _bench),
    Command("config", "print the instruction set and the number of threads", "tinyml config", lambda parser: None, _config)]
