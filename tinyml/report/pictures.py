"""The charts of a report, for its HTML page and for a picture, which is one SVG file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from .. import checks
from ..atomic import write_whole
from ..errors import DtypeError
from .charts import WIDTH, Bars, Chart, bars, points
from .figures import PARTS, Figures, duration, in_unit
from .style import LIGHT, picture_style

# characters that can be in a name but not in XML
NO_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
EDGE, TITLE, HEADING, KEY = 24, 36, 24, 20      # units around charts; heights of the title, a chart's heading, its key


def layer_charts(report: Figures) -> list[Chart]:
    """The bytes and the time of each layer."""
    rows = [Bars(layer.name, f"{layer.disk_bytes:,}", [[("bytes", layer.disk_bytes)]])
            for layer in report.layers if layer.disk_bytes]
    rows.append(Bars("header and description", f"{report.header_bytes:,}", [[("float", report.header_bytes)]]))
    found = [bars("bytes", "Bytes on disk", rows)]
    rows = [Bars(layer.name, f"{layer.memory_bytes:,}", [[("bytes", layer.memory_bytes)]])
            for layer in report.layers if layer.memory_bytes]
    if rows:
        found.append(bars("memory", "Bytes in memory", rows))
    if report.latency_ms is not None:
        rows = []
        for layer in (layer for layer in report.layers if layer.total_ms):
            times = [[(part, getattr(layer, f"{part}_ms") or 0.0) for part in PARTS]]
            text = in_unit(layer.total_ms, report.unit)
            if layer.speedup is not None:
                times.append([("float", layer.float32_ms)])
                text += f" against {in_unit(layer.float32_ms, report.unit)}"
            rows.append(Bars(layer.name, f"{text} {report.unit}", times))
        key = [*((part, part) for part in PARTS), ("float", "float32")]
        found.append(bars("times", "Time", rows, key))
    return found


def sort_layers(diagnosis: dict[str, Any]) -> list[dict[str, Any]]:
    """The layers of a diagnosis; the one that costs most by itself comes first."""
    return sorted(diagnosis["layers"], key=lambda layer: -(layer["only_drop"] or 0.0))


def sensitivity_charts(diagnosis: dict[str, Any]) -> list[Chart]:
    """The loss of the metric with only one layer in int8, and with all but one."""
    unit = "loss" if diagnosis["metric"] == "loss" else "points"
    return [bars(name, title, [Bars(layer["layer"], "" if layer[field] is None else f"{layer[field]:+.3g} {unit}",
                                    [[("drop", layer[field] or 0.0)]]) for layer in sort_layers(diagnosis)])
            for name, field, title in (("only", "only_drop", "Lost with only this layer in int8"),
                                       ("without", "without_drop", "Lost with all but this layer in int8"))]


def frontier_charts(frontier: list[dict[str, Any]]) -> list[Chart]:
    """The drop against latency and against size."""
    def label(point: dict[str, Any]) -> str:
        names = point["float_layers"]
        return "all int8" if not names else f"{names[0]} float" if len(names) == 1 else f"{len(names)} layers float"

    def full(point: dict[str, Any]) -> str:
        return (f"float: {', '.join(point['float_layers']) or 'none'}; metric {point['metric']:.4g}, "
                f"drop {point['drop']:.3g}, {point['file_bytes']:,} bytes, {duration(point['latency_ms'])}")

    return [points(name, title, x_label, "drop", [(p[field], p["drop"], label(p), full(p)) for p in frontier])
            for name, field, title, x_label in (("latency", "latency_ms", "Drop against latency", "ms"),
                                                ("size", "file_bytes", "Drop against size", "bytes on disk"))]


def check_picture(who: str, path: Any, hint: str = "") -> Path:
    """Check that `path` can be that of a picture; `hint` is added to the error.

    Raises:
        DtypeError: the path does not end in .svg, or it is not a path.
    """
    found = Path(checks.path(who, path))
    kind = found.suffix
    if kind.lower() != ".svg":
        raise DtypeError(f"{who}: expected a file that ends in .svg, which browsers show and print, got "
                         f"{kind or 'no ending'}{hint}")
    return found


def write_picture(path: Path, title: str, rows: Sequence[Sequence[Chart]]) -> None:
    """Write charts as one picture: rows of charts beside each other.

    Raises:
        FileError: the file cannot be written.
    """
    top: float = TITLE
    body: list[str] = []
    for row in rows:
        drawn = [_place(chart, EDGE + column * (WIDTH + EDGE), top) for column, chart in enumerate(row)]
        body += [text for text, _ in drawn]
        top = max(end for _, end in drawn) + EDGE
    width = EDGE + max(map(len, rows)) * (WIDTH + EDGE)
    text = (f'<?xml version="1.0" encoding="UTF-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
            f'height="{top:g}" viewBox="0 0 {width} {top:g}"><style>{picture_style()}</style>'
            f'<rect width="100%" height="100%" fill="{LIGHT["card"]}"/>'
            f'<text class="title" x="{EDGE}" y="28">{escape(title)}</text>{"".join(body)}</svg>\n')
    write_whole(path, NO_XML.sub("\ufffd", text).encode())


def _place(chart: Chart, x: float, top: float) -> tuple[str, float]:
    """A chart with its heading and key at a place in a picture, and where it ends."""
    y = top + HEADING
    parts, at = [f'<text class="heading" x="{x}" y="{y:g}">{escape(chart.title)}</text>'], x
    y += 10
    for kind, meaning in chart.key:
        parts.append(f'<rect class="{kind}" x="{at}" y="{y:g}" width="9" height="9" rx="2"/>'
                     f'<text x="{at + 13}" y="{y + 9:g}">{escape(meaning)}</text>')
        at += 26 + 6 * len(meaning)
    y += KEY if chart.key else 0
    parts.append(chart.svg(f'x="{x}" y="{y:g}" width="{WIDTH}" height="{chart.height:g}" '))
    return "".join(parts), y + chart.height
