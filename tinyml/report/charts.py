"""Charts as SVG: bars, a histogram, points, lines. Colours are CSS classes, which the style sheet defines.

All charts are WIDTH units wide, about the width of a phone in pixels, so that their text stays readable there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from .figures import Histogram

WIDTH = 360
LABEL, BAR, GAP = 13, 9, 12         # heights in a bar chart: the label of a row, a bar, the space between rows
LEFT, TOP, BOTTOM = 48, 26, 190     # of the plane of points and lines


@dataclass
class Chart:
    """A drawing of `height` units.

    Attributes:
        name: the prefix of its element ids; no two charts of a page have the same.
        title: what the chart shows.
        description: its contents in words, for screen readers.
        height: its height in units.
        body: SVG elements.
        key: (class, meaning) of the colours that need to be explained.
    """

    name: str
    title: str
    description: str
    height: float
    body: list[str]
    key: Sequence[tuple[str, str]] = ()

    def svg(self, place: str = "") -> str:
        """The chart as an SVG element, with `place` among its attributes."""
        return (f'<svg {place}role="img" viewBox="0 0 {WIDTH} {self.height:g}" aria-labelledby="{self.name}-t '
                f'{self.name}-d"><title id="{self.name}-t">{escape(self.title)}</title><desc id="{self.name}-d">'
                f'{escape(self.description)}</desc>{"".join(self.body)}</svg>')


@dataclass
class Bars:
    """A row of a bar chart: its label, the text at its end, and the bars under it, each a list of parts (class, value)."""

    label: str
    text: str
    bars: list[list[tuple[str, float]]]


def short(text: str, most: int = 34) -> str:
    """`text` without its middle if it is long: names of layers differ at their ends."""
    return text if len(text) <= most else f"{text[: most // 3]}…{text[-(most - most // 3 - 1) :]}"


def bars(name: str, title: str, rows: Sequence[Bars], key: Sequence[tuple[str, str]] = ()) -> Chart:
    """Horizontal bars from a common zero; negative values go to the left."""
    ends = [(sum(min(v, 0.0) for _, v in bar), sum(max(v, 0.0) for _, v in bar)) for row in rows for bar in row.bars]
    lo, hi = min([0.0, *(e[0] for e in ends)]), max([0.0, *(e[1] for e in ends)])
    unit = WIDTH / (hi - lo or 1.0)
    body, y = [], 0.0
    for row in rows:
        full = f"{row.label}: {row.text}"
        body.append(f'<g><title>{escape(full)}</title><text x="0" y="{y + 10:g}">{escape(short(row.label))}</text>'
                    f'<text class="end" x="{WIDTH}" y="{y + 10:g}">{escape(row.text)}</text>')
        y += LABEL + 2
        for bar in row.bars:
            at = {True: -lo * unit, False: -lo * unit}      # where the next part begins, to the right and to the left
            for kind, value in bar:
                width = abs(value) * unit
                right = value >= 0
                x = at[right] if right else at[right] - width
                at[right] += width if right else -width
                if width:
                    body.append(f'<rect class="{kind}" x="{x:.2f}" y="{y:g}" width="{max(width, 0.75):.2f}" height="{BAR}" '
                                'rx="1.5"/>')
            y += BAR + 2
        body.append("</g>")
        y += GAP - 2
    if lo < 0:
        body.append(f'<path class="axis" d="M{-lo * unit:.2f} 0V{y:g}"/>')
    return Chart(name, title, "; ".join(f"{row.label}: {row.text}" for row in rows), max(y, 1), body, key)


def histogram(name: str, title: str, h: Histogram) -> Chart:
    """Counts as columns, above an axis with the ends of the range and the place of 0."""
    height, top = 84, max(h.counts, default=0) or 1
    step = WIDTH / len(h.counts)
    path = "".join(f"M{i * step:.2f} {height}V{height * (1 - n / top):.2f}h{step:.2f}V{height}z"
                   for i, n in enumerate(h.counts) if n)
    last = h.hi - 1 if h.what == "codes" else h.hi
    body = [f'<path class="columns" d="{path}"/><path class="axis" d="M0 {height}H{WIDTH}"/>',
            f'<text x="0" y="{height + 14}">{h.lo:.4g}</text>',
            f'<text class="end" x="{WIDTH}" y="{height + 14}">{last:.4g}</text>']
    zero = -h.lo / (h.hi - h.lo) * WIDTH
    if 40 < zero < WIDTH - 40:
        body.append(f'<path class="axis" d="M{zero:.2f} {height}v4"/>'
                    f'<text class="middle" x="{zero:.2f}" y="{height + 15}">0</text>')
    total = sum(h.counts)
    edges = (h.counts[0] + h.counts[-1]) / max(total, 1)
    description = (f"{total:,} values ({h.what}) from {h.lo:.4g} to {last:.4g}; {edges:.1%} of them in the first and last "
                   f"of {len(h.counts)} columns")
    return Chart(name, title, description, height + 20, body)


def points(name: str, title: str, x_label: str, y_label: str, values: Sequence[tuple[float, float, str, str]]) -> Chart:
    """Points (x, y, label, tooltip)."""
    ordered = sorted(values)
    at, body = _plane(x_label, y_label, [v[0] for v in values], [v[1] for v in values])
    for i, (x, y, label, full) in enumerate(ordered):
        px, py = at(x, y)
        anchor = "end" if px > WIDTH / 2 else "start"
        body.append(f'<g><title>{escape(full)}</title><circle class="multiply" cx="{px:.1f}" cy="{py:.1f}" r="4.5"/>'
                    f'<text class="{anchor}" x="{px + (-8 if anchor == "end" else 8):.1f}" '
                    f'y="{py + (-7 if i % 2 else 14):.1f}">{escape(short(label, 24))}</text></g>')
    return Chart(name, title, "; ".join(full for *_, full in ordered), BOTTOM + 42, body)


def lines(name: str, title: str, x_label: str, y_label: str,
          series: Sequence[tuple[str, str, list[tuple[float, float]]]]) -> Chart:
    """Lines (class, meaning, points (x, y)) with a dot for each point; values that are not finite are left out."""
    finite = [(kind, what, [p for p in at if math.isfinite(p[1])]) for kind, what, at in series]
    all_points = [p for _, _, at in finite for p in at] or [(0.0, 0.0)]
    at, body = _plane(x_label, y_label, [x for x, _ in all_points], [y for _, y in all_points])
    said = []
    for kind, what, values in finite:
        places = [at(x, y) for x, y in values]
        if places:
            body.append(f'<path class="line {kind}" d="M{"L".join(f"{px:.1f} {py:.1f}" for px, py in places)}"/>')
            said.append(f"{what}: {', '.join(f'{y:.4g} at {x:g}' for x, y in (values[0], values[-1]))}")
        body += [f'<circle class="{kind}" cx="{px:.1f}" cy="{py:.1f}" r="2"><title>{y:.4g} at {x:g}</title></circle>'
                 for (px, py), (x, y) in zip(places, values)]
    return Chart(name, title, "; ".join(said), BOTTOM + 42, body, [(kind, what) for kind, what, _ in series])


def _plane(x_label: str, y_label: str, xs: list[float],
           ys: list[float]) -> tuple[Callable[[float, float], tuple[float, float]], list[str]]:
    """A function from a point to its place in the drawing, and the SVG elements of the axes: lines, numbers, labels."""
    right, (x0, x1), (y0, y1) = WIDTH - 8, _span(xs), _span(ys)

    def at(x: float, y: float) -> tuple[float, float]:
        return LEFT + (x - x0) / (x1 - x0) * (right - LEFT), BOTTOM - (y - y0) / (y1 - y0) * (BOTTOM - TOP)

    body = [f'<path class="axis" d="M{LEFT} {TOP - 8}V{BOTTOM + 8}H{right}"/>',
            f'<text x="0" y="11">{escape(y_label)}</text>',
            f'<text class="end" x="{right}" y="{BOTTOM + 36}">{escape(x_label)}</text>']
    for x in _ticks(x0, x1):
        place = at(x, y0)[0]
        end = place > right - 16        # a number in the corner goes to the left of its place
        body.append(f'<text class="{"end" if end else "middle"}" x="{right if end else place:.1f}" y="{BOTTOM + 22}">'
                    f'{_number(x)}</text>')
    for y in _ticks(y0, y1):
        height = at(x0, y)[1]
        body.append(f'<path class="{"rule" if y else "axis dashed"}" d="M{LEFT} {height:.1f}H{right}"/>'
                    f'<text class="end" x="{LEFT - 6}" y="{height + 4:.1f}">{_number(y)}</text>')
    return at, body


def _number(value: float) -> str:
    """A number beside an axis."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _span(values: list[float]) -> tuple[float, float]:
    """The ends of an axis that is a little wider than the values."""
    lo, hi = min(values), max(values)
    room = 0.12 * (hi - lo) or abs(hi) * 0.1 or 1.0
    return (lo - room, hi + room) if math.isfinite(room) else (lo, hi)


def _ticks(lo: float, hi: float) -> list[float]:
    """Up to five round numbers between the ends of an axis."""
    if not math.isfinite(hi - lo) or hi <= lo:
        return []
    unit = 10 ** math.floor(math.log10((hi - lo) / 5))
    step = next(unit * m for m in (1, 2, 5, 10) if (hi - lo) / (unit * m) <= 5)
    return [step * i for i in range(math.ceil(lo / step), math.floor(hi / step) + 1)]
