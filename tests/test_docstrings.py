"""The examples in the docstrings of tinyml are run: each gives what it shows."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import tinyml

ROOT = Path(tinyml.__file__).parent
SHOWN = sorted(path for path in ROOT.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", SHOWN, ids=lambda p: str(p.relative_to(ROOT)))
def test_examples_of_docstrings_print_what_they_show(path, tmp_path, monkeypatch):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    module = importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testmod(module, optionflags=doctest.REPORT_NDIFF)
    assert not failed and tried


def test_there_are_examples():
    assert len(SHOWN) > 10
