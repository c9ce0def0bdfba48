"""What ARCHITECTURE.md tells step by step is what happens."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np

import tinyml
from tinyml import nn

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
