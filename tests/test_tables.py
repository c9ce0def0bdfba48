"""Tables of text, and functions that are timed by turns."""

from __future__ import annotations

from itertools import groupby

import pytest

from tinyml import timing
from tinyml.tables import layout

ROWS = [["layer", "kind", "ms"], ["conv2d", "a", "1.25"], ["", "longer", ""], ["total", "", "10"]]


def test_columns_are_as_wide_as_they_must_be():
    assert layout(ROWS, left=(0, 1), rules=(1, 3)).splitlines() == [
        "layer   kind      ms", "--------------------", "conv2d  a       1.25", "        longer", "--------------------",
        "total             10"]
    assert layout(ROWS, left=(), rules=()).splitlines() == [
        " layer    kind    ms", "conv2d       a  1.25", "        longer", " total            10"]
    assert layout([["only a head"]]) == "only a head"


def test_in_markdown_the_rule_says_how_columns_are_aligned():
    assert layout(ROWS, left=(0, 1), markdown=True).splitlines() == [
        "| layer  | kind   |   ms |", "| ------ | ------ | ---: |", "| conv2d | a      | 1.25 |",
        "|        | longer |      |", "| total  |        |   10 |"]


@pytest.mark.parametrize("options", [{}, {"repeats": 3}, {"settle": 1e-4}], ids=str)
def test_all_functions_take_as_many_turns(options):
    ran = []
    found = timing.time_by_turns({name: lambda name=name: ran.append(name) for name in "ab"}, 0, rounds=4, **options)
    assert [name for name, _ in groupby(ran)] == ["a", "b"] * 5     # a first call of each, then turns
    assert all(len(samples.seconds) == 4 and samples.calls == 1 for samples in found.values())
    assert all(seconds > 0 for samples in found.values() for seconds in samples.seconds)


def test_short_functions_are_called_many_times_in_a_sample():
    ran = []
    found = timing.time_by_turns({"": lambda: ran.append(1)}, 0, rounds=2, sample_seconds=1e-3)[""]
    assert found.calls > 100 and len(ran) == 2 + 2 * found.calls
    assert len(timing.median_times([lambda: None] * 3, seconds=0)) == 3
