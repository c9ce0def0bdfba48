"""Calibration in fixed memory, however many batches come."""

from __future__ import annotations

import gc
import tracemalloc
from itertools import cycle, islice

import numpy as np
import pytest

from tinyml import nn
from tinyml.precision import OBSERVERS

MOST = 4096     # bytes by which 990 batches more may raise the peak; keeping one float of each would be 23,760


@pytest.fixture
def without_garbage_collection():
    """Collect no garbage: reference cycles then count, and Python's lists of freed objects stay filled."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_garbage_collection")
@pytest.mark.parametrize("name", OBSERVERS)
def test_memory_does_not_grow_with_the_number_of_batches(name):
    """The peak of to_int8 over 10 batches, and over these again and again, 1,000 in all, as NumPy and Python tell it."""
    model = nn.Sequential(nn.Linear(6, 3), nn.ReLU())
    x = np.random.default_rng(0).standard_normal((10, 4, 6)).astype(np.float32)

    def convert(count: int) -> None:
        model.to_int8(calibration=(a.copy() for a in islice(cycle(x), count)), observer=name)

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            convert(count)
            return tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()

    convert(2500)       # fills the lists of freed objects that Python keeps, up to 2,000 of a kind, of some one a batch
    few, many = peak(10), peak(1000)
    assert few > 8000 and abs(many - few) < MOST, f"{few:,} bytes for 10 batches, {many:,} for 1,000"
