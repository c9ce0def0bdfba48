"""Train CifarCNN (or ResNet8) on images, quantize it, and print what int8 costs: one row per seed, and the mean.

    python examples/train_cnn.py --data cifar.npz --epochs 20 --seeds 0 1 2
    python examples/train_cnn.py --data fashion-mnist --epochs 5 --mode zero

--data is a .npz of images and labels (x_train, y_train, x_test, y_test), "shipped" (12,000 Fashion-MNIST images),
"fashion-mnist" (all of it, IDX files) or a folder of CIFAR-10's binary files.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import tinyml
from tinyml import data, models, optim


def run(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train, quantize and compare with one seed; returns the figures."""
    tinyml.manual_seed(seed)
    train, test = data.load_dataset(args.data, "train"), data.load_dataset(args.data, "test")
    augment = data.Compose([data.RandomFlip(), data.RandomShift(args.shift, args.mode)])
    loader = data.DataLoader(train, args.batch, shuffle=True, drop_last=True, seed=seed, transform=augment)
    tests = data.DataLoader(test, 100)
    channels = train[0][0].shape[0]
    model = getattr(models, args.model)(in_channels=channels, classes=10, width=args.width)
    optimizer = optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    schedule = optim.OneCycleLR(optimizer, args.lr, args.epochs * len(loader))
    folder = args.checkpoints and Path(args.checkpoints, f"seed{seed}")
    trainer = tinyml.Trainer(model, optimizer, schedule=schedule, checkpoint_dir=folder)
    trainer.fit(loader, args.epochs, validation=tests if args.validate else None, resume=folder is not None)
    int8 = model.to_int8(calibration=[train[range(min(args.calibration, len(train)))]])
    print(f"\nseed {seed}")
    result = tinyml.precision.compare(model, int8, tests)
    if args.save:
        int8.save(f"{args.save}-seed{seed}.safetensors")
    if args.plot:
        tinyml.report.plot_losses(trainer.history, f"{args.plot}-seed{seed}.svg")
    return {"seed": seed, "history": trainer.history, **result.as_dict()}


def main() -> None:
    """Parse the arguments, run all seeds, print the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="shipped")
    parser.add_argument("--model", choices=("CifarCNN", "ResNet8"), default="CifarCNN")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--shift", type=int, default=3, help="largest random shift in pixels")
    parser.add_argument("--mode", choices=("roll", "zero"), default="roll", help="what a shift fills the border with")
    parser.add_argument("--calibration", type=int, default=512, help="training images to calibrate with")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--validate", action="store_true", help="measure the test split after each epoch")
    parser.add_argument("--checkpoints", metavar="FOLDER", help="write checkpoints to FOLDER, and continue from them")
    parser.add_argument("--save", metavar="PREFIX", help="save each int8 model")
    parser.add_argument("--plot", metavar="PREFIX", help="draw the losses of each seed, as .svg")
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE")
    args = parser.parse_args()
    runs = [run(args, seed) for seed in args.seeds]

    def mean(figure) -> float:
        return statistics.mean(figure(r) for r in runs)

    print(f"\nmean of {len(runs)} seeds: float32 {mean(lambda r: r['a']['accuracy']):.2%}, "
          f"int8 {mean(lambda r: r['b']['accuracy']):.2%} "
          f"({mean(lambda r: r['b']['accuracy'] - r['a']['accuracy']) * 100:+.2f} points), "
          f"cross entropy {mean(lambda r: r['b']['loss'] - r['a']['loss']):+.4f}, "
          f"agreement {mean(lambda r: r['agreement']):.2%}")
    if args.json:
        Path(args.json).write_text(json.dumps({"arguments": vars(args), "runs": runs}, indent=2))


if __name__ == "__main__":
    main()
