"""Tables of text: columns as wide as they must be, for a terminal, in Markdown, or in a notebook."""

from __future__ import annotations

import html
from collections.abc import Collection, Sequence
from typing import Any


class Shown:
    """Base of what notebooks show as the text that it prints as."""

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


class History(list[dict[str, Any]]):
    """Rows of figures, one dict per epoch, which notebooks show as a table."""

    def _repr_html_(self) -> str:
        names = [name for name, value in (self[-1] if self else {}).items() if isinstance(value, (int, float))]
        cells = [[f"{row[name]:.4g}" if isinstance(row.get(name), float) else str(row.get(name, "")) for name in names]
                 for row in self]
        return f"<pre>{html.escape(layout([names, *cells], left=()))}</pre>" if names else "<pre>no epochs</pre>"


def layout(rows: Sequence[Sequence[str]], left: Collection[int] = (0,), rules: Collection[int] = (1,),
           markdown: bool = False) -> str:
    """A table of cells as text.

    Args:
        rows: Lists of cells, all of the same length; the first one is the header.
        left: Columns, counted from 0, that are flush left. The others are flush right.
        rules: Rows, counted from 0, that have a line of dashes above them.
        markdown: Write the table in Markdown, which has one line of dashes, below the header.

    Returns:
        The lines, the last one without a line break.

    Example:
        >>> print(layout([["layer", "ms"], ["conv2d", "1.25"], ["linear", "0.5"]]))
        layer     ms
        ------------
        conv2d  1.25
        linear   0.5
    """
    widths = [max(map(len, column)) for column in zip(*rows)]
    cells = [[c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))] for row in rows]
    if markdown:
        under = ["-" * w if i in left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
        return "\n".join(f"| {' | '.join(row)} |" for row in [cells[0], under, *cells[1:]])
    lines = ["  ".join(row).rstrip() for row in cells]
    rule = "-" * max(map(len, lines))
    return "\n".join(f"{rule}\n{line}" if i in rules else line for i, line in enumerate(lines))
