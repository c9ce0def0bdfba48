"""The examples in docs/ are run: every number shown beside `>>>` is what the code gives."""

from __future__ import annotations

import doctest
import shutil
from pathlib import Path

import pytest

DOCS = sorted((Path(__file__).parent.parent / "docs").glob("*.md"))


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_examples_print_what_they_show(path, tmp_path, monkeypatch):
    shutil.copytree(path.parent, tmp_path / "docs")     # pages name files from the project's folder, and write there
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testfile(str(path), module_relative=False, optionflags=doctest.REPORT_NDIFF)
    assert not failed
    if path.name == "quantization.md":
        assert tried > 20
    if path.name == "guide.md":
        assert tried > 15 and (tmp_path / "report.html").exists()
