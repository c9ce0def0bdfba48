"""The examples in docs/ are run: every number shown beside `>>>` is what the code gives."""

from __future__ import annotations

import doctest
import re
import shutil
from pathlib import Path

import pytest

DOCS = sorted((Path(__file__).parent.parent / "docs").glob("*.md"))
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


class Close(doctest.OutputChecker):
    """Accepts figures that differ by 0.2% or 0.2: those of trained networks depend a little on the instruction set."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        texts = [re.sub(r"-{4,}", "----", " ".join(text.split())) for text in (want, got)]
        if len({NUMBER.sub("#", text) for text in texts}) > 1:
            return False
        wanted, found = ([float(n.replace(",", "")) for n in NUMBER.findall(text)] for text in texts)
        return found == pytest.approx(wanted, rel=0.002, abs=0.2)


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_examples_print_what_they_show(path, tmp_path, monkeypatch):
    shutil.copytree(path.parent, tmp_path / "docs")     # pages name files from the project's folder, and write there
    monkeypatch.chdir(tmp_path)
    checker = Close() if path.name == "guide.md" else doctest.OutputChecker()
    page = doctest.DocTestParser().get_doctest(path.read_text(), {}, path.name, str(path), 0)
    failed, tried = doctest.DocTestRunner(checker, optionflags=doctest.REPORT_NDIFF).run(page)
    assert not failed
    if path.name == "quantization.md":
        assert tried > 20
    if path.name == "guide.md":
        assert tried > 15 and (tmp_path / "report.html").exists()


@pytest.mark.parametrize(("got", "close"), [
    ("80.60% of 1,001 bytes", True), ("80.4%  of 1,001 bytes", True), ("79.8% of 1,000 bytes", False),
    ("80.4% of 1,100 bytes", False), ("80.4% of 1,000 points", False), ("80.4% of bytes", False),
])
def test_figures_may_be_close_and_words_not(got, close):
    assert Close().check_output("80.50% of 1,000 bytes\n", got + "\n", 0) == close
