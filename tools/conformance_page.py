"""Writes docs/pytorch.md's tables: what of PyTorch's functions is the same here, what is refused and why.

    python tools/conformance_page.py            # runs PyTorch's test database (make parity installs it), some minutes

The page has two parts: what was decided, written by hand above the marker, and below it what this run found.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "pytorch.md"
MARKER = "<!-- below: printed by tools/conformance_page.py -->"
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "parity")]

import opinfo  # noqa: E402

LIMIT = 1000


def reason(text: str) -> str:
    """A refusal without what differs from sample to sample: shapes and numbers."""
    text = re.sub(r"\(in layer .*", "", text)
    return re.sub(r"-?\d+(\.\d+)?", "N", re.sub(r"\([\d, ]*\)|\[[\d, ]*\]", "S", text)).strip()


def main() -> None:
    counts: Counter[str] = Counter()
    refused: dict[str, Counter[str]] = {}
    clean, there = [], []
    for i, name in enumerate(opinfo.OPS, 1):
        print(f"\r{i} of {len(opinfo.OPS)}: {name:20}", end="", file=sys.stderr, flush=True)
        forms = opinfo.run_op(name, LIMIT)
        rows = [row for found in forms.values() for row in found or ()]
        counts.update(row[0] for row in rows)
        if None not in forms.values():
            there.append(name)
        if all(row[0] == "pass" for row in rows):
            clean.append(name)
        for verdict, why, _ in rows:
            if verdict == "refused":
                refused.setdefault(name, Counter())[reason(why)] += 1
    print(file=sys.stderr)
    lines = [MARKER, "", "## Measured", "",
             f"PyTorch's own samples of {len(opinfo.OPS)} functions, each as function, as method and in place where "
             "PyTorch has that:", "",
             f"- {len(there)} functions are there in every form, and {len(clean)} pass all their samples.",
             f"- Of {sum(counts.values()):,} samples {counts['pass']:,} agree in shape, dtype, values and gradients, "
             f"{counts['refused']:,} are refused by a clear error, {counts['wrong']} are wrong, {counts['error']} end in "
             "another error.", "",
             "Passing all samples:", "", ", ".join(f"`{name}`" for name in clean) + ".", "",
             f"Refused, with the reason: {'' if refused else 'none.'}", ""]
    lines += ["| function | samples | error |", "| --- | ---: | --- |"] if refused else []
    for name, whys in refused.items():
        lines += [f"| `{name}` | {n} | {why.replace('|', '/')} |" for why, n in whys.most_common(3)]
    head = PAGE.read_text(encoding="utf-8").split(MARKER)[0] if PAGE.exists() else "# tinyml for PyTorch users\n\n"
    PAGE.write_text(head + "\n".join([*lines, ""]), encoding="utf-8")
    print(f"{len(there)} there, {len(clean)} pass all samples; samples: {dict(counts)}")


if __name__ == "__main__":
    main()
