"""Draw the roofline of JSON files that the benchmarks wrote: python -m benchmarks.plot gemm.json cnn.json -o roofline.svg

The x axis is the operations per byte that a row must move, and the y axis is the operations per second that it reached. No
point can lie above the roof of its precision. None can lie left of the slope, which is the rate of memory, unless a cache
holds all of its data. The command needs matplotlib, which the extra [bench] installs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyml.errors import install_hint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = {"float32": "#1f77b4", "float16 weights": "#2ca02c", "int8": "#d62728"}
ROOFS = {"fma": "float32", "dot4": "int8"}


def figure(runs: list[dict[str, Any]]) -> Figure:
    """The roofs of the first run, on all its threads, and the points of all runs.

    Raises:
        ValueError: no row has operations.
    """
    peaks = runs[0]["peaks"][-1]
    rows = [row for run in runs for row in run["rows"] if row["operations"]]
    if not rows:
        raise ValueError("plot: expected rows with operations (gemm, conv, cnn), got none")
    across = [row["operations"] / row["nbytes"] for row in rows]
    ends = min(*across, 1) / 2, max(*across, peaks["dot4"] / peaks["read"]) * 4
    names = list(dict.fromkeys(row["work"] for row in rows))
    from matplotlib.figure import Figure
    drawn = Figure(figsize=(11, 6), layout="constrained")
    ax = drawn.subplots()
    for roof, precision in ROOFS.items():
        ridge = peaks[roof] / peaks["read"]
        ax.plot([ends[0], ridge, ends[1]], [ends[0] * peaks["read"] / 1e9, peaks[roof] / 1e9, peaks[roof] / 1e9],
                color=COLORS[precision], linewidth=1.5)
        ax.annotate(f"{roof}: {peaks[roof] / 1e9:.0f} Gop/s", (ends[1], peaks[roof] / 1e9), xytext=(0, 3), ha="right",
                    textcoords="offset points", color=COLORS[precision])
    ax.annotate(f"memory: {peaks['read'] / 1e9:.1f} GB/s", (ends[0], ends[0] * peaks["read"] / 1e9), xytext=(12, 0),
                textcoords="offset points", va="center")
    for precision, color in COLORS.items():
        points = [(a, row) for a, row in zip(across, rows) if row["precision"] == precision]
        if points:
            ax.scatter([a for a, _ in points], [row["rate"] / 1e9 for _, row in points], color=color, label=precision, s=18)
        for a, row in points:
            ax.annotate(f"{names.index(row['work']) + 1}", (a, row["rate"] / 1e9), xytext=(4, -2), fontsize=7,
                        textcoords="offset points", color=color)
    ax.set(xscale="log", yscale="log", xlabel="operations per byte", ylabel="Gop/s",
           title=f"{runs[0]['machine']['cpu']}, {runs[0]['threads']} thread{'s' if runs[0]['threads'] > 1 else ''}")
    ax.grid(alpha=0.3, which="both", linewidth=0.5)
    ax.legend(loc="lower right")
    key = "\n".join(f"{i}  {name}" for i, name in enumerate(names, 1))
    ax.text(1.02, 1, key, transform=ax.transAxes, va="top", fontsize=8)
    return drawn


def main(arguments: list[str] | None = None) -> None:
    """Draw the rows of all files into one picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("-o", "--out", default="roofline.svg", help=".svg or .png (default roofline.svg)")
    args = parser.parse_args(arguments)
    try:
        import matplotlib as mpl
    except ImportError:
        parser.error(f"matplotlib is not installed; {install_hint('bench')}")
    runs = [json.loads(Path(f).read_text(encoding="utf-8")) for f in args.files]
    # so that the same figures give the same file, byte for byte
    with mpl.rc_context({"svg.hashsalt": "tinyml", "svg.fonttype": "none"}):
        figure(runs).savefig(args.out, metadata={"Date": None} if args.out.endswith(".svg") else None)


if __name__ == "__main__":
    main()
