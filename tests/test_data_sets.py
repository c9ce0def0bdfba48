"""Data sets: windows of a text, indices, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyml import data
from tinyml.errors import DtypeError, ShapeError


@given(length=st.integers(2, 40), context=st.integers(1, 12), stride=st.none() | st.integers(1, 15))
def test_text_windows_are_those_of_the_definition(length, context, stride):
    ids = np.arange(length, dtype=np.int32) * 3
    if length < context + 1:
        with pytest.raises(ShapeError, match="TextDataset"):
            data.TextDataset(ids, context, stride)
        return
    dataset = data.TextDataset(ids, context, stride)
    step = context if stride is None else stride
    starts = [s for s in range(0, length, step) if s + context + 1 <= length]
    assert len(dataset) == len(starts)
    inputs, targets = dataset[np.arange(len(starts))]
    assert inputs.dtype == targets.dtype == np.int64
    for item, s in enumerate(starts):
        for pair in (dataset[item], (inputs[item], targets[item])):
            np.testing.assert_array_equal(pair[0], ids[s : s + context])
            np.testing.assert_array_equal(pair[1], ids[s + 1 : s + context + 1])


@pytest.mark.parametrize("dataset", [data.TextDataset(np.arange(9), 2), data.ArrayDataset(np.zeros((4, 1)), np.arange(4))],
                         ids=["text", "array"])
@pytest.mark.parametrize(
    "index, error",
    [
        (4, IndexError), (-1, IndexError), (np.array([0, 4]), IndexError), (np.array([-1, 0]), IndexError),
        (1.0, DtypeError), (np.array([0.0]), DtypeError), (np.ones(4, bool), DtypeError), (slice(2), DtypeError),
        (np.zeros((1, 1), int), ShapeError),
    ],
)  # fmt: skip
def test_bad_indices_are_refused(dataset, index, error):
    assert len(dataset) == 4
    with pytest.raises(error):
        dataset[index]


@pytest.mark.parametrize(
    "make, error",
    [
        (lambda: data.ArrayDataset(np.zeros((3, 2)), np.zeros(2)), ShapeError),
        (lambda: data.ArrayDataset(np.float32(1), np.zeros(1)), ShapeError),
        (lambda: data.TextDataset(np.arange(5), 5), ShapeError),
        (lambda: data.TextDataset(np.zeros((5, 5), int), 2), ShapeError),
        (lambda: data.TextDataset(np.arange(5), 0), ShapeError),
        (lambda: data.TextDataset(np.arange(5), 2, stride=0), ShapeError),
        (lambda: data.TextDataset(np.arange(5.0), 2), DtypeError),
    ],
)
def test_bad_data_sets_are_refused(make, error):
    with pytest.raises(error, match="Dataset"):
        make()
