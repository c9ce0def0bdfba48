"""PyTorch's own test database on tinyml: same names, same arguments, same numbers (tests/parity/opinfo.py)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]       # PyTorch's own
sys.path.insert(0, str(Path(__file__).parent / "parity"))
NAMES = (Path(__file__).parent / "parity" / "opinfo.py").read_text().split('OPS = """')[1].split('"""')[0].split()
NAMES = [name for name in NAMES if not name.startswith("nn.functional.")]
# PyTorch leaves open which of equal elements these find, and its choice depends on the algorithm; ours is the first.
# Samples of integers and bools have equal elements, for which another index counts as wrong: nothing else may be.
TIES = {"argsort", "kthvalue", "mode", "sort", "topk"}
LIMIT = 1000        # samples per name, form and dtype: more than there are of any


@cache
def verdicts(name: str) -> dict[str, Any]:
    """What opinfo.py finds of a name: rows of (verdict, why, sample) for each form; None for a form that is missing."""
    for module in ("torch", "expecttest"):
        pytest.importorskip(module, reason="runs PyTorch's test database: pip install '.[parity]' and expecttest")
    import opinfo
    found: dict[str, Any] = opinfo.run_op(name, LIMIT)
    return found


def rows(name: str) -> Iterator[tuple[str, str, str]]:
    for form in verdicts(name).values():
        yield from form or ()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_there_in_every_form_and_never_wrong(name):
    assert [form for form, found in verdicts(name).items() if found is None] == []
    seen = list(rows(name))
    wrong = [row for row in seen if row[0] not in ("pass", "refused")]
    if name in TIES:
        wrong = [row for row in wrong if not (row[1].startswith("largest difference") and row[2].startswith(
            ("torch.int64", "torch.bool")))]
    assert wrong == []
    assert seen and 2 * sum(row[0] == "refused" for row in seen) <= len(seen)


def test_most_names_pass_all_their_samples():
    clean = [name for name in NAMES if all(row[0] == "pass" for row in rows(name))]
    assert len(NAMES) == 217 and len(clean) >= 0.95 * len(NAMES), sorted(set(NAMES) - set(clean))
