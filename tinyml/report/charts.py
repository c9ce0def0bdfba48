"""Charts as inline SVG: bars, a histogram, points. Colours are classes, which the style sheet has for light and dark.

All are WIDTH units wide, about as many as a phone has pixels, so that their text stays readable there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .figures import Histogram

WIDTH = 360
LABEL, BAR, GAP = 13, 9, 12        # heights in a bar chart: the row's label, a bar, what is between rows


@dataclass
class Bars:
    """A row of a bar chart: its label, the text at its end, and bars one below the other, each of parts (class, value)."""

    label: str
    text: str
    bars: list[list[tuple[str, float]]]


def short(text: str, most: int = 34) -> str:
    """`text`, its middle left out where it is long: names of layers differ at their ends."""
    return text if len(text) <= most else f"{text[: most // 3]}…{text[-(most - most // 3 - 1) :]}"


def _svg(name: str, title: str, description: str, height: float, body: list[str]) -> str:
    return (f'<svg role="img" viewBox="0 0 {WIDTH} {height:g}" aria-labelledby="{name}-t {name}-d">'
            f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(description)}</desc>'
            f'{"".join(body)}</svg>')


def bars(name: str, title: str, rows: Sequence[Bars]) -> str:
    """Horizontal bars from a common zero; values below it go to the left."""
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
    return _svg(name, title, "; ".join(f"{row.label}: {row.text}" for row in rows), max(y, 1), body)


def histogram(name: str, title: str, h: Histogram) -> str:
    """Counts as columns, with the ends of the range and where 0 is below them."""
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
    return _svg(name, title, f"{total:,} values ({h.what}) from {h.lo:.4g} to {last:.4g}; {edges:.1%} of them in the first "
                             "and last of "
                             f"{len(h.counts)} columns", height + 20, body)


def points(name: str, title: str, x_label: str, y_label: str, values: Sequence[tuple[float, float, str, str]]) -> str:
    """Points (x, y, label, what it says when pointed at)."""
    left, right, top, bottom = 8, WIDTH - 8, 26, 190
    (x0, x1), (y0, y1) = (_span([v[i] for v in values]) for i in (0, 1))

    def at(x: float, y: float) -> tuple[float, float]:
        return left + (x - x0) / (x1 - x0) * (right - left), bottom - (y - y0) / (y1 - y0) * (bottom - top)

    ordered = sorted(values)
    body = [f'<path class="axis" d="M{left} {top - 8}V{bottom + 8}H{right}"/>',
            f'<text x="{left}" y="11">{escape(y_label)}</text>',
            f'<text class="end" x="{right}" y="{bottom + 36}">{escape(x_label)}</text>']
    if y0 <= 0 <= y1:
        body.append(f'<path class="axis dashed" d="M{left} {at(x0, 0)[1]:.1f}H{right}"/>')
    for i, (x, y, label, full) in enumerate(ordered):
        px, py = at(x, y)
        anchor = "end" if px > WIDTH / 2 else "start"
        body.append(f'<g><title>{escape(full)}</title><circle cx="{px:.1f}" cy="{py:.1f}" r="4.5"/>'
                    f'<text class="{anchor}" x="{px + (-8 if anchor == "end" else 8):.1f}" '
                    f'y="{py + (-7 if i % 2 else 14):.1f}">{escape(short(label, 24))}</text></g>')
    for value, anchor, x in ((min(v[0] for v in values), "start", left), (max(v[0] for v in values), "end", right)):
        body.append(f'<text class="{anchor}" x="{x}" y="{bottom + 22}">{_number(value)}</text>')
    return _svg(name, title, "; ".join(full for *_, full in ordered), bottom + 42, body)


def _number(value: float) -> str:
    """An end of an axis."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _span(values: list[float]) -> tuple[float, float]:
    """Ends of an axis a little wider than the values."""
    lo, hi = min(values), max(values)
    room = 0.12 * (hi - lo) or abs(hi) * 0.1 or 1.0
    return (lo - room, hi + room) if math.isfinite(room) else (lo, hi)
