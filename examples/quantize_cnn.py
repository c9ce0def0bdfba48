"""Quantize a CNN in every way that tinyml has, and print what each costs: observers, clipped weights, QAT, float16.

    python examples/quantize_cnn.py                                    trains on the shipped images first, some minutes
    python examples/quantize_cnn.py --model cnn.safetensors --data cifar.npz

Static int8 takes its ranges from calibration images. QAT continues the training for --epochs, and so does float32 for a
fair comparison. --data is that of examples/train_cnn.py; --model is a float model that save() wrote.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import tinyml
from tinyml import data, models, nn, optim, precision
from tinyml.tables import layout

STATIC: dict[str, dict[str, Any]] = {
    **{f"static, {name}": {"observer": name} for name in precision.OBSERVERS},
    "static, weights clipped": {"weights": "mse"},
    "static, one scale per layer": {"per_channel": False},
    "static, head in float": {"skip": ["head"]},
}


def fit(model: nn.Module, loader: data.DataLoader, epochs: int, lr: float) -> None:
    """Train with AdamW on a one-cycle schedule."""
    optimizer = optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    tinyml.Trainer(model, optimizer, schedule=optim.OneCycleLR(optimizer, lr, epochs * len(loader))).fit(loader, epochs)


def last_layer(model: nn.Module) -> str:
    """The name of the last layer with weights, which is often kept in float."""
    return [name for name, m in model.named_modules() if m.stored_weights][-1]


def table(rows: list[tuple[str, precision.Comparison]]) -> str:
    """One line per form: accuracy, its change with the 95% interval, loss, agreement, bytes, speed."""
    lines = [["", "accuracy", "change (95% interval)", "loss", "same", "bytes on disk", "as fast"]]
    for name, c in rows:
        lo, hi = (100 * v for v in c.accuracy_interval)
        change = f"{100 * (c.b.accuracy - c.a.accuracy):+.2f} ({lo:+.2f} to {hi:+.2f}) points"
        lines.append([name, f"{c.b.accuracy:.2%}", change, f"{c.b.loss:.4f}", f"{c.agreement:.2%}", f"{c.b.file_bytes:,}",
                      f"{c.a.latency_ms / c.b.latency_ms:.2f}x"])
    return layout(lines, rules=())


def main() -> None:
    """Parse the arguments, train or load, convert in every way, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="shipped")
    parser.add_argument("--model", metavar="FILE", help="a float model (default: train one)")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--train-epochs", type=int, default=5, help="epochs of the float model, if none is given")
    parser.add_argument("--epochs", type=int, default=1, help="further epochs, of QAT and of float32")
    parser.add_argument("--lr", type=float, default=5e-4, help="learning rate of the further epochs")
    parser.add_argument("--calibration", type=int, default=512, help="training images to calibrate with")
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE")
    args = parser.parse_args()

    tinyml.manual_seed(0)
    train, test = data.load_dataset(args.data, "train"), data.load_dataset(args.data, "test")
    loader = data.DataLoader(train, 64, shuffle=True, drop_last=True, seed=0, transform=data.RandomFlip())
    tests = data.DataLoader(test, 100)
    if args.model:
        model = tinyml.load(args.model)
    else:
        model = models.CifarCNN(in_channels=train[0][0].shape[0], width=args.width)
        fit(model, loader, args.train_epochs, 4e-3)
    calibration = [train[range(i, min(i + 64, len(train)))] for i in range(0, min(args.calibration, len(train)), 64)]

    rows = []

    def add(name: str, converted: nn.Module, than: nn.Module) -> None:
        print(f"{name} ...", flush=True)
        rows.append((name, precision.compare(than, converted, tests, show=False, seconds=0.5)))

    for name, options in STATIC.items():
        if "skip" in options:
            options = {"skip": [last_layer(model)]}
        add(name, model.to_int8(calibration=calibration, **options), model)
    add("dynamic", model.to_int8(), model)
    add("float16", model.to_fp16(), model)
    longer = model.copy()
    fit(longer, loader, args.epochs, args.lr)
    add("float32, trained on", longer, model)
    for name, learn in (("QAT", False), ("QAT, learned scales", True)):
        prepared = precision.prepare_qat(model, calibration, learn_scales=learn,
                                         freeze_after=args.epochs * len(loader) // 2)
        fit(prepared, loader, args.epochs, args.lr)
        add(f"{name}, against that", prepared.to_int8(), longer)
    first = rows[0][1].a
    print(f"\nfloat32: accuracy {first.accuracy:.2%}, loss {first.loss:.4f}, {first.file_bytes:,} bytes\n")
    print(table(rows))
    if args.json:
        Path(args.json).write_text(json.dumps({name: c.as_dict() for name, c in rows}, indent=2))


if __name__ == "__main__":
    main()
