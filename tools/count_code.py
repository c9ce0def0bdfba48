"""Counts the lines of code in folders or files: lines that have more than a comment or a docstring on them.

    python tools/count_code.py tinyml              # by folder, and in all
    python tools/count_code.py --by-file tinyml/ops

Python and Cython are read by their tokens, C by its comments. C that stands as text in a Cython file counts as code.
"""

from __future__ import annotations

import argparse
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

PYTHON, C = {".py", ".pyx", ".pxi", ".pxd"}, {".h", ".c"}
LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
EXTERN = "cdef extern from"


def lines_of_python(text: str) -> set[int]:
    """Numbers of the lines of Python or Cython that have code."""
    found: set[int] = set()
    begins, line, before = True, "", ""         # whether a statement begins; the line before its own
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            before, begins = line, True
        if token.type in LAYOUT:
            continue
        line = token.line
        docstring = begins and token.type == tokenize.STRING and not before.lstrip().startswith(EXTERN)
        begins = False
        if not docstring:
            found.update(range(token.start[0], token.end[0] + 1))
    return found


def lines_of_c(text: str) -> set[int]:
    """Numbers of the lines of C that have code."""
    blank = re.sub(r"/\*.*?\*/|//[^\n]*", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.DOTALL)
    return {n for n, line in enumerate(blank.split("\n"), 1) if line.strip()}


def count(path: Path) -> int:
    """Lines of code in a file."""
    text = path.read_text(encoding="utf-8")
    return len(lines_of_python(text) if path.suffix in PYTHON else lines_of_c(text))


def files(paths: list[Path]) -> Iterator[Path]:
    """The source files at or below these paths."""
    for path in paths:
        yield from sorted(p for p in (path.rglob("*") if path.is_dir() else [path]) if p.suffix in PYTHON | C)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--by-file", action="store_true", help="a line for each file rather than for each folder")
    args = parser.parse_args()
    totals: dict[Path, int] = {}
    for path in files(args.paths):
        key = path if args.by_file else path.parent
        totals[key] = totals.get(key, 0) + count(path)
    for key, lines in sorted(totals.items()):
        print(f"{lines:7,}  {key}")
    print(f"{sum(totals.values()):7,}  in all")


if __name__ == "__main__":
    main()
