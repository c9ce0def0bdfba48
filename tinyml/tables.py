"""Tables of text: columns as wide as they must be, for a terminal or in Markdown."""

from __future__ import annotations

from collections.abc import Collection, Sequence


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
