"""A report as a picture, drawn by matplotlib, which is no requirement of tinyml."""

from __future__ import annotations

import io
import warnings
from typing import Any

from ..errors import DtypeError, TinymlError, install_hint
from .charts import short
from .figures import Figures

KINDS = ("png", "svg", "pdf")
COLORS = {"quantize": "#d08a1d", "multiply": "#2f6fd0", "requantize": "#1f9385", "other": "#8b95a0"}


def draw(report: Figures, kind: str) -> bytes:
    """The file's bytes: bytes on disk and times by layer, sensitivity and frontier where the report has them.

    Raises:
        TinymlError: matplotlib is missing; DtypeError: a kind that is none of KINDS.
    """
    figure_class = figures(kind)
    parts = [_bytes]
    parts += [_times] if report.latency_ms is not None else []
    parts += [_sensitivity] if report.diagnosis is not None and report.diagnosis["layers"] else []
    parts += [_frontier] if report.frontier else []
    most = max([len(report.layers) + 1, *([len(report.diagnosis["layers"])] if report.diagnosis else [])])
    figure = figure_class(figsize=(5.2 * len(parts), 1.8 + 0.28 * most), layout="constrained")
    figure.suptitle(f"{report.model}, {report.kind}", parse_math=False)
    for axes, part in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts):
        part(axes, report)
    return written(figure, kind)


def figures(kind: str) -> type:
    """matplotlib's Figure, which can be written as `kind`; raises as `draw` does."""
    if kind not in KINDS:
        raise DtypeError(f"plot: expected a file that ends in .{', .'.join(KINDS)}, got .{kind}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise TinymlError(f"plot: matplotlib is missing; {install_hint('plot')}") from error
    return Figure


def written(figure: Any, kind: str) -> bytes:
    """The bytes of a figure's file."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")      # a name's letter that the font lacks is drawn as a box
        figure.savefig(file, format=kind, dpi=120)
    return file.getvalue()


def _bars(axes: Any, names: list[str], title: str, label: str) -> None:
    """What all horizontal bar charts have: names as they are, no formulas, the first on top."""
    axes.set_yticks(range(len(names)), [short(name) for name in names], fontsize=8)
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(label, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _bytes(axes: Any, report: Figures) -> None:
    names = [*(layer.name for layer in report.layers), "header and description"]
    axes.barh(range(len(names)), [*(layer.disk_bytes for layer in report.layers), report.header_bytes], color="#6a5acd")
    _bars(axes, names, f"{report.file_bytes:,} bytes on disk", "bytes")


def _times(axes: Any, report: Figures) -> None:
    rows, left = range(len(report.layers)), [0.0] * len(report.layers)
    scale = 1 if report.unit == "ms" else 1e3
    for part, color in COLORS.items():
        values = [scale * (getattr(layer, f"{part}_ms") or 0.0) for layer in report.layers]
        axes.barh([row - 0.2 for row in rows], values, 0.4, left, color=color, label=part)
        left = [a + b for a, b in zip(left, values)]
    narrow = [scale * layer.float32_ms if layer.speedup is not None else 0.0 for layer in report.layers]
    axes.barh([row + 0.2 for row in rows], narrow, 0.4, color="#c3c9cf", label="float32")
    axes.legend(fontsize=8, frameon=False)
    _bars(axes, [layer.name for layer in report.layers], f"time of a batch of {report.batch}", report.unit)


def _sensitivity(axes: Any, report: Figures) -> None:
    layers = report.diagnosis["layers"]
    axes.barh(range(len(layers)), [layer["only_drop"] or 0.0 for layer in layers], color="#c4453c")
    axes.axvline(0, color="#59626b", linewidth=0.8)
    metric = report.diagnosis["metric"]
    _bars(axes, [layer["layer"] for layer in layers], "lost with only this layer in int8",
          metric if metric == "loss" else f"points of {metric}")


def _frontier(axes: Any, report: Figures) -> None:
    points = sorted(report.frontier, key=lambda point: point["latency_ms"])
    axes.plot([p["latency_ms"] for p in points], [p["drop"] for p in points], "o", color="#2f6fd0")
    for p in points:
        text = f"{len(p['float_layers'])} float" if p["float_layers"] else "all int8"
        axes.annotate(f"{text}, {p['file_bytes']:,} bytes", (p["latency_ms"], p["drop"]), (4, 4), fontsize=7,
                      textcoords="offset points")
    axes.set_title("drop against latency", fontsize=10)
    axes.set_xlabel("ms", fontsize=9)
    axes.set_ylabel("drop", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
