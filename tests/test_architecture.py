"""ARCHITECTURE.md is right about the steps of a call, and about the lengths of its parts."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np

import tinyml
from tinyml import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from count_code import count, files

ROOT = Path(tinyml.__file__).parent
PAGE = (ROOT.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")


def told(section: str) -> list[tuple[str, str]]:
    """(file, function) of each numbered line of a section."""
    text = PAGE.split(f"## {section}\n")[1].split("\n## ")[0]
    return [(file, name.split(".")[-1]) for file, name in re.findall(r"^\d+\. `(\S+)` `(\S+)`", text, re.MULTILINE)]


def test_from_to_int8_to_the_first_kernel_call():
    steps = told("From `to_int8(calibration=...)` to the first kernel call")
    assert 8 <= len(steps) <= 10 and len({file for file, _ in steps}) == len(steps)
    calls = []

    def note(frame, event, _):
        path = Path(frame.f_code.co_filename)
        if event == "call" and ROOT in path.parents:
            calls.append((path.relative_to(ROOT).as_posix(), frame.f_code.co_name))

    x = np.linspace(-1, 1, 32, dtype=np.float32).reshape(4, 8)
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU())
    sys.setprofile(note)
    try:
        model.to_int8(calibration=[x])(x)
    finally:
        sys.setprofile(None)
    at = [calls.index(step) for step in steps]      # the first call of each
    assert at == sorted(at)
    assert any(file.startswith("_kernels/") for file, _ in calls[at[-1]:])


def test_from_a_product_to_the_vector_instruction():
    steps = told("From `x @ w` to the vector instruction")
    assert len(steps) == 7 and len({file for file, _ in steps}) == len(steps)
    for file, name in steps:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"^\s*(def|cdef|static)\b.*\b{name}\(", text, re.MULTILINE), (file, name)
    for (_, name), (file, _) in zip(steps[4:], steps[3:], strict=False):       # each is called by the one before
        assert re.search(rf"\b{name}\(", (ROOT / file).read_text(encoding="utf-8")), (file, name)


def test_parts_are_as_long_as_told():
    """Within a tenth, or 30 lines, so that the page need not change with every line of code."""
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([\d,]+) \|$", PAGE.split("## How to read it\n")[1].split("\n## ")[0],
                      re.MULTILINE)
    assert len(rows) == 9
    told_lines = {where: int(lines.replace(",", "")) for _, where, lines in rows}
    globs = {where: re.findall(r"`([^`]+)`", where) for where in told_lines}
    counted = {where: sum(count(f) for word in words for f in files(sorted(ROOT.glob(word))))
               for where, words in globs.items()}
    counted["the rest"] = sum(map(count, files([ROOT]))) - sum(counted.values())
    for where, lines in told_lines.items():
        assert abs(counted[where] - lines) <= max(30, lines / 10), f"{where}: told {lines}, counted {counted[where]}"
