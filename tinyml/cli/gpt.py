"""The commands for TinyGPT: train a model, generate text with it, measure how well it predicts a text."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, optim, random, report
from ..errors import DtypeError, FileError, ShapeError
from ..models import TinyGPT, perplexity
from ..models.gpt.config import PRESETS
from ..report.pictures import check_picture
from ..trainer import Trainer
from .command import Command
from .names import add_model
from .text import TEXT, Pieces, TextCodec, check_prompt, codec, gpt, ids_of, read_ids, read_text, token_file

Parser = argparse.ArgumentParser
Args = argparse.Namespace
HELD_OUT = 0.1          # the share of the data, at its end, that is held out for evaluation
EVALUATED = 2**16       # the number of ids that an evaluation reads, in windows at even distances


# -- train gpt --------------------------------------------------------------------------------------------------------
def _train_arguments(p: Parser) -> None:
    p.add_argument("--data", required=True, metavar="FILE", help=f"{TEXT}; or bible, which is shipped")
    p.add_argument("-o", dest="out", required=True, help="file to write")
    p.add_argument("--preset", choices=PRESETS, default="char", help="a known architecture (default char)")
    for name in ("context", "layers", "heads", "dim"):
        p.add_argument(f"--{name}", type=int, help=f"{name}, in place of the preset's")
    p.add_argument("--vocab-size", type=int, help="number of token ids; needed for ids with preset char")
    p.add_argument("--dtype", choices=("uint16", "uint32"), default="uint16", help="of a .bin file (default uint16)")
    p.add_argument("--dropout", type=float, default=0.0)
    p.add_argument("--steps", type=int, default=2000, help="updates (default 2000)")
    p.add_argument("--batch", type=int, default=12, help="windows at a time (default 12)")
    p.add_argument("--accumulate", type=int, default=1, help="batches per update (default 1)")
    p.add_argument("--lr", type=float, default=1e-3, help="of AdamW: a warm-up, then a cosine to a tenth (default 0.001)")
    p.add_argument("--weight-decay", type=float, default=0.1)
    p.add_argument("--evaluate", type=int, default=500, metavar="N",
                   help="evaluate on the last tenth every N updates (default 500)")
    p.add_argument("--sample", type=int, default=200, metavar="N",
                   help="characters to generate at each evaluation (default 200)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--checkpoints", metavar="DIR", help="write checkpoints to DIR, and resume from one that is there")
    p.add_argument("--plot", metavar="FILE", help="draw the losses, as .svg")


def _train(args: Args) -> dict[str, Any]:
    if args.plot:
        check_picture("--plot", args.plot)      # a picture that cannot be written must not cost a training run
    if not Path(args.out).absolute().parent.is_dir():
        raise FileError(f"{args.out}: expected a path in a folder that exists")
    random.manual_seed(args.seed)
    net, ids = _model_and_ids(args)
    cut = int(len(ids) * (1 - HELD_OUT))
    train, held_out = (ids[:cut], ids[cut:]) if isinstance(ids, np.ndarray) else ids.split(cut)
    optimizer = optim.AdamW(net.parameters(), args.lr, betas=(0.9, 0.99), weight_decay=args.weight_decay)
    schedule = optim.CosineAnnealingLR(optimizer, args.steps, args.lr / 10, min(100, args.steps // 10))
    windows = data.TextDataset(train, net.context, 1)
    batches = data.RandomBatches(windows, args.batch, args.steps * args.accumulate, args.seed)
    apart = max(net.context, len(held_out) * net.context // EVALUATED)
    validation = data.DataLoader(data.TextDataset(held_out, net.context, apart), args.batch)
    text = codec(args.out, net)
    prompt = held_out[: min(16, net.context)]

    def sample() -> str:
        return text.decode(np.asarray(net.generate(prompt, args.sample, temperature=0.8, top_k=20)))

    print(f"{net.config.parameters:,} parameters, {len(train):,} ids to train on, {len(validation.dataset):,} windows of "
          f"{net.context} to evaluate on", file=sys.stderr)
    trainer = Trainer(net, optimizer, schedule=schedule, clip_norm=1.0, checkpoint_dir=args.checkpoints,
                      accumulate=args.accumulate, evaluate_every=args.evaluate,
                      checkpoint_every=args.evaluate if args.checkpoints else None,
                      sample=sample if args.sample and text.unit == "character" else None)
    trainer.fit(batches, 1, validation, metric="loss", resume=args.checkpoints is not None)
    net.eval().save(args.out)
    print(f"wrote {args.out}: {Path(args.out).stat().st_size:,} bytes")
    if args.plot:
        report.plot_losses(trainer.history, args.plot)
        print(f"wrote {args.plot}")
    return {"history": trainer.history, "file": args.out}


def _model_and_ids(args: Args) -> tuple[TinyGPT, np.ndarray | data.TokenFile]:
    """The model that the options describe, with the characters of the text if the data are a text, and the ids."""
    preset = PRESETS[args.preset]
    changes: dict[str, Any] = {name: getattr(args, name) for name in ("context", "layers", "heads", "dim")
                               if getattr(args, name) is not None}
    # sizes that follow from others follow from the given ones, not from the preset's
    changes |= {"hidden": 4 * changes.get("dim", preset.dim)} if preset.hidden == 4 * preset.dim else {}
    changes |= {"kv_heads": changes.get("heads", preset.heads)} if preset.kv_heads == preset.heads else {}
    ids: np.ndarray | data.TokenFile | None = token_file(args.data, args.dtype)
    if ids is None:
        if args.vocab_size is not None:
            raise DtypeError("--vocab-size is for files of token ids; for a text it is the number of its characters")
        characters = data.CharTokenizer(text := read_text(args.data))
        ids, changes["characters"], changes["vocab_size"] = (
            characters.encode(text), characters.characters, characters.vocab_size)
    elif args.vocab_size is not None:
        changes["vocab_size"] = args.vocab_size
    elif args.preset == "char":
        raise DtypeError(f"{args.data}: the file does not say how many token ids there are; give --vocab-size N")
    return TinyGPT.preset(args.preset, dropout=args.dropout, **changes), ids


# -- generate, perplexity ---------------------------------------------------------------------------------------------
def _precision(p: Parser) -> None:
    """Add the options of commands that run a model."""
    kind = p.add_mutually_exclusive_group()
    kind.add_argument("--int8", action="store_true", help="store weights as int8 once they are read")
    kind.add_argument("--fp16", action="store_true", help="store weights as float16 once they are read")
    p.add_argument("--group", type=int, choices=(32, 64), help="with --int8: how many weights of a row share one scale")
    p.add_argument("--cache", choices=("float32", "float16", "int8"),
                   help="dtype of the key/value cache (default float32)")


def _read(args: Args) -> tuple[TinyGPT, TextCodec]:
    """The model in the precision that the options ask for, and its codec."""
    if args.group and not args.int8:
        raise DtypeError("--group needs --int8")
    net, text = gpt(args)
    if args.int8:
        net = net.to_int8(group=args.group)
    return (net.to_fp16() if args.fp16 else net), text


def _generate_arguments(p: Parser) -> None:
    add_model(p)
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("--prompt", metavar="TEXT", help="what to continue")
    what.add_argument("--ids", type=ids_of, metavar="1,2,3", help="the prompt as ids, for any model")
    p.add_argument("--tokens", type=int, default=200, help="the most tokens to generate (default 200)")
    p.add_argument("--stream", action="store_true", help="print the text as it comes")
    p.add_argument("--temperature", type=float, default=0.8, help="0 always takes the most likely token (default 0.8)")
    p.add_argument("--top-k", type=int, help="draw among the k most likely tokens")
    p.add_argument("--top-p", type=float, default=1.0, help="draw among the likeliest tokens with this total probability")
    p.add_argument("--repetition-penalty", type=float, default=1.0, help="above 1: tokens that came before are less likely")
    p.add_argument("--seed", type=int, help="the same seed gives the same text")
    p.add_argument("--stop", action="append", default=[], metavar="TEXT", help="a token that ends the text (an id with "
                   "--ids); may be given more than once")
    p.add_argument("--full", choices=("slide", "stop"), default="slide",
                   help="when the context is full: forget its beginning (slide, the default) or end the text")
    _precision(p)


def _generate(args: Args) -> dict[str, Any]:
    if args.tokens < 0:
        raise ShapeError(f"--tokens: expected at least 0, got {args.tokens}")
    net, text = _read(args)
    ids, stop = check_prompt(args.ids if args.prompt is None else text.encode(args.prompt), net), _stop(args, text)
    drawn = net.stream(ids, args.tokens, args.temperature, args.top_k, args.seed, args.top_p, args.repetition_penalty, stop,
                       cache=args.cache or "float32", full=args.full)
    pieces, parts, times = Pieces(text.decode, ids), [], [time.perf_counter()]

    def say(part: str) -> None:
        parts.append(part)
        if args.stream:
            print(part, end="", flush=True)

    say(text.decode(ids))
    try:
        for new in _note_times(drawn, times):
            if new not in stop:
                say(pieces.add(new))
    finally:        # an interrupted text is printed and counted too
        say(pieces.rest())
        print("" if args.stream else "".join(parts))
        figures = {"prompt_tokens": len(ids), **_speed(times)}
        print(f"[{len(ids)} {text.unit}s of prompt, {figures['tokens']} new in {figures['seconds']:.2f} s: "
              f"{figures['tokens_per_second']:,.1f} tokens per second]", file=sys.stderr)
    return {"text": "".join(parts), **figures}


def _speed(times: list[float]) -> dict[str, float]:
    """The number of tokens, the seconds and the speed, for a start at times[0] and tokens that came at times[1:].

    The time of the first token includes the forward of the prompt, so it does not count for the speed if others follow.
    """
    count, seconds, first = len(times) - 1, times[-1] - times[0], min(1, len(times) - 2)
    rate = (count - first) / (times[-1] - times[first]) if count else 0.0
    return {"tokens": count, "seconds": seconds, "tokens_per_second": rate}


def _note_times(drawn: Iterator[np.ndarray], times: list[float]) -> Iterator[int]:
    for ids in drawn:
        times.append(time.perf_counter())
        yield int(ids[0])


def _stop(args: Args, text: TextCodec) -> list[int]:
    """The ids of --stop, which end a text."""
    found = []
    for given in args.stop:
        ids = text.encode(given) if args.ids is None else ids_of(given)
        if len(ids) != 1:
            raise ShapeError(f"--stop: expected one {text.unit}, got {given!r:.80}, which is {len(ids)}")
        found.append(int(ids[0]))
    return found


def _perplexity_arguments(p: Parser) -> None:
    add_model(p)
    p.add_argument("--data", required=True, metavar="FILE", help=f"{TEXT}; or bible, which is shipped")
    p.add_argument("--dtype", choices=("uint16", "uint32"), default="uint16", help="of a .bin file (default uint16)")
    p.add_argument("--last", type=float, default=1.0, metavar="SHARE",
                   help=f"the share of the data to measure, from its end; train gpt holds out {HELD_OUT} (default 1)")
    p.add_argument("--context", type=int, help="ids per window (default: the model's context, at most 1024)")
    _precision(p)


def _perplexity(args: Args) -> dict[str, Any]:
    if not 0 < args.last <= 1:
        raise ShapeError(f"--last: expected a share above 0 and at most 1, got {args.last}")
    net, text = _read(args)
    ids = read_ids(args.data, text.encode, args.dtype)
    cut = int(len(ids) * (1 - args.last))
    if cut:
        ids = ids[cut:] if isinstance(ids, np.ndarray) else ids.split(cut)[1]
    start = time.perf_counter()
    found = perplexity(net, ids, args.context or min(net.context, 1024), args.cache, progress=True)
    found["seconds"] = time.perf_counter() - start
    print(f"loss {found['loss']:.4f}, perplexity {found['perplexity']:,.3f}, {found['bits']:.4f} bits per {text.unit} over "
          f"{found['count']:,}; {found['count'] / found['seconds']:,.0f} per second")
    return {**found, "unit": text.unit, "bytes": net.nbytes}


COMMANDS = [
    Command("train gpt", "train a TinyGPT on text or token ids and write it to a file",
            "tinyml train gpt --data shakespeare.txt --checkpoints run -o gpt.safetensors", _train_arguments, _train),
    Command("generate", "continue a text", "tinyml generate gpt.safetensors --prompt 'To be' --stream",
            _generate_arguments, _generate),
    Command("perplexity", "how well a TinyGPT predicts a text",
            "tinyml perplexity gpt.safetensors --data shakespeare.txt --last 0.1 --int8",
            _perplexity_arguments, _perplexity)]
