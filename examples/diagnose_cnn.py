"""Find out in which layer int8 loses most and why, try each repair, search for layers to keep in float, write a report.

    python examples/diagnose_cnn.py                                     the hard net of docs/guide.md
    python examples/diagnose_cnn.py --model cnn.safetensors --data cifar.npz --html report.html

--model is a float model that save() wrote, or a PyTorch state dict of a CifarCNN; --data is as in data.load_dataset.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import tinyml
from tinyml import data, precision
from tinyml.precision.repairs import REPAIRS

HARD_NET = Path(__file__).parent.parent / "docs" / "hard-net.safetensors"


def halve(images: data.ArrayDataset, n: int) -> data.ArrayDataset:
    """The first n images, reduced to 14 x 14 pixels, as the hard net was trained on them."""
    x, y = images[range(min(n, len(images)))]
    return data.ArrayDataset(x[:, :, ::2, ::2].copy(), y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="default: the hard net, on the shipped images")
    parser.add_argument("--data", default="shipped")
    parser.add_argument("--calibration", type=int, default=512, help="training images to calibrate with (default 512)")
    parser.add_argument("--per-tensor", action="store_true", help="one weight scale per layer, not one per channel")
    parser.add_argument("--max-drop", type=float, default=0.5, help="points of accuracy that may be lost (default 0.5)")
    parser.add_argument("--html", type=Path, help="write a report on the repaired model as an HTML page")
    parser.add_argument("--json", type=Path, help="write the figures")
    args = parser.parse_args()

    train, test = data.load_dataset(args.data, "train"), data.load_dataset(args.data, "test")
    if args.model is None:
        model, train, test = tinyml.load(HARD_NET), halve(train, args.calibration), halve(test, len(test))
    else:
        model = tinyml.load_trained_model(args.model) if args.model.suffix in (".pt", ".pth") else tinyml.load(args.model)
    n = min(args.calibration, len(train))
    calibration, tests = [train[range(i, min(i + 64, n))] for i in range(0, n, 64)], data.DataLoader(test, 250)
    options = {"calibration": calibration, "per_channel": not args.per_tensor}

    found = precision.diagnose(model, tests, progress=True, **options)
    print(f"\n{found}\n")

    print("points lost after each repair:")
    lost = {}
    of_cnn = [name for name in REPAIRS if name != "migrate_scales"]     # which needs norms that linear layers read
    for repairs in ([], *([name] for name in of_cnn), of_cnn):
        int8 = model.to_int8(repairs=repairs, **options)
        result = precision.compare(model, int8, tests, show=False, seconds=0)
        lost[" + ".join(repairs) or "none"] = 100 * (result.a.accuracy - result.b.accuracy)
        print(f"  {list(lost)[-1]:<60}{lost[list(lost)[-1]]:6.2f}")

    mixed = model.to_int8(validation=tests, max_drop=args.max_drop, progress=True, **options)
    floats = mixed.info.floats
    print(f"\nfor at most {args.max_drop:g} points, {len(floats) or 'no'} layers stay in float")
    for layer, why in floats.items():
        print(f"  {layer}: {why}")
    if args.html:
        int8.report(data=calibration, diagnosis=found).to_html(args.html)
        print(f"\nwrote {args.html}")
    if args.json:
        args.json.write_text(json.dumps({"diagnosis": found.as_dict(), "lost": lost, "floats": floats,
                                         "frontier": [asdict(point) for point in mixed.info.frontier]}, indent=2))


if __name__ == "__main__":
    main()
