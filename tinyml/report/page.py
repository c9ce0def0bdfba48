"""A report as one HTML page: no script runs in it, and nothing is loaded from anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from .charts import Chart, histogram, short
from .figures import COLUMNS, PARTS, WORDS, Figures, Layer, duration
from .pictures import frontier_charts, layer_charts, sensitivity_charts, sort_layers
from .style import CSS

HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title><style>{css}</style></head><body>
<a class="skip" href="#table">Skip to the table</a>
"""
MEASURED = """<p>Each time is the least of many calls. All steps take turns, each alone, with the operands it has in the
model. Multiplying and requantizing are one kernel. To separate them, the layer is also timed with another number of input
channels: the line through both times gives the time without channels, which is that of requantizing, writing and the call.
<em>float32</em> is the same step in float32. The sum of the steps differs from the time of a whole call by the work between
steps, and by the cache.</p><p><em>margin</em> is the share of int32 that sums leave free whatever the input. <em>range</em>
is the range that the codes of a layer's result represent, as the observer chose it.</p>"""


def render(report: Figures) -> str:
    """The page as HTML. Texts from the model, above all the names of layers, are escaped."""
    sections = [("table", "Layers", _table(report)), ("charts", "Where bytes and time go", _grid(layer_charts(report)))]
    if report.diagnosis is not None and report.diagnosis["layers"]:
        sections.append(("sensitivity", "Sensitivity", _sensitivity(report.diagnosis)))
    if report.frontier:
        sections.append(("frontier", "Frontier", _frontier(report.frontier)))
    histograms = _histograms(report.layers)
    if histograms:
        sections.append(("histograms", "Weights and activations", histograms))
    sections.append(("measured", "How it was measured", f'<div class="box">{MEASURED}</div>'))
    title = f"{report.model}, {report.kind}"
    links = "".join(f'<li><a href="#{name}">{escape(what)}</a></li>' for name, what, _ in sections)
    body = "".join(f'<section aria-labelledby="{name}"><h2 id="{name}" tabindex="-1">{escape(what)}</h2>{content}</section>'
                   for name, what, content in sections)
    summary = "".join(f'<p class="soft">{escape(line)}</p>' for line in report.summary()[1:])
    return (HEAD.format(title=escape(title), css=CSS)
            + f'<header><h1>{escape(title)}</h1>{summary}{_tiles(report)}<nav aria-label="Sections"><ul>{links}</ul></nav>'
            f'</header><main>{body}</main><footer>Made by tinyml. All figures of this page are in it as JSON too.</footer>'
            f'<script type="application/json" id="figures">{_json(report.as_dict())}</script></body></html>\n')


def _json(value: Any) -> str:
    """JSON without characters that could end the HTML element around it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _tiles(report: Figures) -> str:
    tiles = [("on disk", f"{report.file_bytes:,}", f"bytes, {report.header_bytes:,} of them header"),
             ("in memory", f"{report.memory_bytes:,}", "bytes" if report.arena_bytes is None else
              f"bytes, and {report.arena_bytes:,} for the values of a batch")]
    if report.latency_ms is not None:
        tiles.append(("one call", duration(report.latency_ms), f"with a batch of {report.batch}"))
        total = report.rows()[-1]
        if total["faster"]:
            tiles.append(("steps, against float32", total["faster"],
                          f"{total['total']} against {total['float32']} {report.unit}"))
    margins = [(layer.margin, layer.name) for layer in report.layers if layer.margin is not None]
    if margins:
        least, where = min(margins, key=lambda margin: margin[0])
        tiles.append(("least margin", short(f"{100 * least:.2f}%"), f"of int32, in {where}"))
    return '<dl class="tiles">' + "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)} <small>{escape(about)}</small></dd></div>"
        for name, value, about in tiles) + "</dl>"


def _table(report: Figures) -> str:
    rows = report.rows()
    used = [key for key in COLUMNS if key == "layer" or (key != "ops" and any(row[key] for row in rows))]
    times = (*PARTS, "total", "float32")
    units = {**dict.fromkeys(times, f", {report.unit}"), "memory": ", bytes", "disk": ", bytes"}
    labels = {key: COLUMNS[key] + units.get(key, "") for key in used}
    head = "".join(f'<th scope="col" role="columnheader"{_text(key)}>{escape(labels[key])}</th>' for key in used)
    body = []
    for at, row in enumerate(rows):
        layer = report.layers[at] if at < len(report.layers) else None
        notes = [] if layer is None else [*layer.floats, *layer.notes]
        kind = "total" if row is rows[-1] else "layer"
        shown = "".join(
            f'<td role="cell" data-key="{key}" data-label="{escape(labels[key])}"{_text(key)}>{_cell(key, row[key])}</td>'
            for key in used[1:])
        body.append(f'<tr role="row" class="{kind}{" noted" if notes else ""}"><th scope="row" role="rowheader">'
                    f'<span>{escape(row["layer"])}</span><small>{escape(row["ops"])}</small></th>{shown}</tr>')
        if notes:
            items = "".join(f"<li>{escape(note)}</li>" for note in notes)
            body.append(f'<tr role="row" class="note"><td role="cell" colspan="{len(used)}"><ul>{items}</ul></td></tr>')
    return ('<div class="scroll" tabindex="0" role="region" aria-label="Table of layers"><table role="table"><thead '
            f'role="rowgroup"><tr role="row">{head}</tr></thead><tbody role="rowgroup">{"".join(body)}</tbody>'
            "</table></div>")


def _text(key: str) -> str:
    return ' class="text"' if key in WORDS else ""


def _cell(key: str, text: str) -> str:
    if key != "faster" or not text:
        return escape(text)
    return f'<span class="{"gain" if float(text[:-1]) >= 1.1 else "loss"}">{escape(text)}</span>'


def _key(names: Sequence[tuple[str, str]]) -> str:
    """The key of a chart: the meaning of its colours."""
    items = "".join(f'<li><i style="background:var(--{kind})"></i>{escape(name)}</li>' for kind, name in names)
    return f'<ul class="key">{items}</ul>' if items else ""


def _chart(chart: Chart, caption: str = "") -> str:
    about = f'<p class="caption">{escape(caption)}</p>' if caption else ""
    return f'<div class="chart"><h3>{escape(chart.title)}</h3>{about}{_key(chart.key)}{chart.svg()}</div>'


def _grid(found: Iterable[Chart]) -> str:
    return f'<div class="grid">{"".join(map(_chart, found))}</div>'


def _sensitivity(diagnosis: dict[str, Any]) -> str:
    """The loss of the metric with only one layer in int8, and with all but one; the layer that costs most comes first."""
    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    items = "".join(
        f'<details><summary>{escape(layer["layer"])} <span>{escape(layer["cause"])}</span></summary><div>'
        f'<p>{escape(layer["evidence"])}</p><p>{escape(layer["remedy"])}</p><p class="caption">signal to noise of weights '
        f'{number(layer["weight_snr"], ".1f")} dB, of activations {number(layer["activation_snr"], ".1f")} dB</p></div>'
        "</details>" for layer in sort_layers(diagnosis) if layer["cause"])
    whole = (f'<p class="soft">{escape(diagnosis["metric"])}: {number(diagnosis["float_value"], ".4f")} in float32, '
             f'{number(diagnosis["int8_value"], ".4f")} in int8</p>')
    return f'{whole}{_grid(sensitivity_charts(diagnosis))}<div class="after">{items}</div>'


def _frontier(frontier: list[dict[str, Any]]) -> str:
    """The drop against latency and against size, and all points as a table."""
    rows = "".join(
        f'<tr role="row" class="layer"><th scope="row" role="rowheader">'
        f'{escape(", ".join(p["float_layers"]) or "all int8")}</th>'
        + "".join(f'<td role="cell" data-label="{name}">{text}</td>' for name, text in (
            ("metric", f"{p['metric']:.4f}"), ("drop", f"{p['drop']:.3g}"), ("bytes", f"{p['file_bytes']:,}"),
            ("latency", duration(p["latency_ms"])))) + "</tr>" for p in frontier)
    head = "".join(f'<th scope="col" role="columnheader">{name}</th>' for name in
                   ("layers in float", "metric", "drop", "bytes", "latency"))
    return (f'{_grid(frontier_charts(frontier))}<div class="scroll" tabindex="0" role="region" '
            'aria-label="Frontier"><table role="table" class="points"><thead role="rowgroup"><tr role="row">'
            f'{head}</tr></thead><tbody role="rowgroup">{rows}</tbody></table></div>')


def _histograms(layers: list[Layer]) -> str:
    """The histograms of each layer, in a part of the page that can be opened and closed."""
    found: list[str] = []
    for at, layer in enumerate(layers):
        groups = {what: group for what, group in (("weights", layer.weights), ("activations", layer.activations)) if group}
        drawn = [_chart(histogram(f"h{at}-{what[0]}{i}", f"{what}: {h.of}", h), f"{sum(h.counts):,} values, {h.what}")
                 for what, group in groups.items() for i, h in enumerate(group)]
        if drawn:
            found.append(f'<details{"" if found else " open"}><summary>{escape(layer.name)} '
                         f'<span>{" and ".join(groups)}</span></summary><div class="grid">{"".join(drawn)}</div></details>')
    return "".join(found)


