"""What each repair gains: python -m benchmarks.repairs [--json FILE] prints the table of docs/repairs.md.

The networks are CifarCNN, DepthwiseCNN with one channel scaled up (the hard net), and TinyGPT as it is and with outlier
channels. They are trained briefly on shipped data. Each is converted without and with repairs, with one weight scale per
layer and with one per channel.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from typing import Any

import tinyml
from tinyml import data, models, nn, precision
from tinyml.precision.repairs import REPAIRS
from tinyml.tables import layout

from . import hard_nets

CHOICES = [[], *([name] for name in REPAIRS), list(REPAIRS)]


def networks() -> dict[str, tuple[Callable[[], nn.Module], Any, Any]]:
    """For each network, a function that makes it, its calibration data and its test data."""
    def hard() -> nn.Module:
        return hard_nets.scale_apart(hard_nets.train(models.DepthwiseCNN(in_channels=1, width=8)))

    def cifar() -> nn.Module:
        return hard_nets.train(models.CifarCNN(in_channels=1, width=16))

    images = hard_nets.calibration(), data.DataLoader(hard_nets.images("test", 2000), 250)
    texts = hard_nets.windows()
    return {"hard net": (hard, *images), "CifarCNN": (cifar, *images), "TinyGPT": (hard_nets.train_gpt, *texts),
            "TinyGPT with outliers": (lambda: hard_nets.plant_outliers(hard_nets.train_gpt()), *texts)}


def measure() -> list[dict[str, Any]]:
    """One row per network, choice of repairs, and kind of weight scales."""
    rows = []
    for name, (build, calibration, tests) in networks().items():
        tinyml.manual_seed(0)
        model = build()
        for per_channel in (False, True):
            for repairs in CHOICES:
                start = time.perf_counter()
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message=".* had nothing to do")       # the row shows that
                    int8 = model.to_int8(calibration=calibration, per_channel=per_channel, repairs=repairs)
                seconds = time.perf_counter() - start
                r = precision.compare(model, int8, tests, show=False, seconds=0)
                gpt = isinstance(model, models.TinyGPT)
                lost = r.b.loss - r.a.loss if gpt else 100 * (r.a.accuracy - r.b.accuracy)
                rows.append({"network": name, "per_channel": per_channel, "repairs": repairs, "lost": lost,
                             "unit": "loss" if gpt else "points", "seconds": seconds})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table with one line per network and kind of scales, and one column per choice of repairs."""
    cells = {(r["network"], r["per_channel"], tuple(r["repairs"])): r for r in rows}
    names = ["none", *REPAIRS, "all four"]
    lines = [["lost by", "weight scales", *names]]
    for network, per_channel in dict.fromkeys((r["network"], r["per_channel"]) for r in rows):
        found = [cells[network, per_channel, tuple(choice)] for choice in CHOICES]
        unit = "points" if found[0]["unit"] == "points" else "nats"
        lines.append([f"{network}, {unit}", "one per channel" if per_channel else "one per layer",
                      *(f"{r['lost']:.2f}" if unit == "points" else f"{r['lost']:.4f}" for r in found)])
    return layout(lines, (0, 1), markdown=True)


def main() -> None:
    """Measure, print the table, and write the rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repairs", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE")
    args = parser.parse_args()
    rows = measure()
    print(table(rows))
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
