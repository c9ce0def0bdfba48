"""Which elements dropout keeps: independent of each other, of other keys and of threads, the same for the gradient."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import tinyml.random
from tinyml import nn
from tinyml._kernels import dispatch
from tinyml._kernels.rows.dropout import dropout
from tinyml.tensors import Tensor

KEYS = (1, 2, 3, 2**32 + 1, 2**63 + 1)      # that differ by a bit


def mask(key: int, p: float, size: int = 2**16, threads: int = 1) -> np.ndarray:
    before = dispatch.get_num_threads()
    dispatch.set_num_threads(threads)
    try:
        return dropout(np.ones(size, np.float32), key, p) != 0
    finally:
        dispatch.set_num_threads(before)


@pytest.mark.parametrize("lag", [1, 2, 31, 32, 33, 64, 4096, 2**15])
def test_masks_are_independent(lag):
    """Chi-square of the 16 patterns of two keys at two places `lag` apart, each place in one pattern."""
    share = np.array([0.7 ** i.bit_count() * 0.3 ** (4 - i.bit_count()) for i in range(16)])
    at = np.flatnonzero(np.arange(2**16) // lag % 2 == 0)
    at = at[at + lag < 2**16]
    for first, second in itertools.combinations(KEYS, 2):
        a, b = mask(first, 0.3), mask(second, 0.3)
        counts = np.bincount(8 * a[at] + 4 * a[at + lag] + 2 * b[at] + b[at + lag], minlength=16)
        chi = ((counts - share * at.size) ** 2 / (share * at.size)).sum()
        assert chi < 15 + 6 * math.sqrt(2 * 15), (first, second, chi)      # 6 standard deviations above its mean


@pytest.mark.parametrize("key", KEYS)
def test_a_mask_depends_on_key_and_place_alone(key):
    whole = mask(key, 0.3)
    np.testing.assert_array_equal(whole, mask(key, 0.3, threads=2))
    np.testing.assert_array_equal(whole[:1000], mask(key, 0.3, 1000))
    assert not (whole & ~mask(key, 0.2)).any()      # what a higher rate keeps a lower one keeps too
    double = dropout(np.ones(1000), key, 0.3)
    np.testing.assert_array_equal(double != 0, whole[:1000])
    assert mask(key, 0).all() and not mask(key, 1).any()
    for p in (1e-3, 0.1, 0.5, 0.9):
        assert abs(mask(key, p).mean() - (1 - p)) < 4 * math.sqrt(p * (1 - p) / 2**16)


def test_gradients_pass_where_images_were_kept():
    """Channels last in memory, the gradient not."""
    x = Tensor(np.moveaxis(np.ones((2, 3, 40, 5), np.float32), 3, 1), requires_grad=True)
    y = nn.Dropout(0.5)(x)
    y.backward(np.ones((2, 5, 3, 40), np.float32))
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())
    assert 0.4 < (y.numpy() == 0).mean() < 0.6


def test_a_dropped_infinity_is_zero():
    y = dropout(np.full(1000, np.inf, np.float32), 5, 0.5)
    assert set(np.unique(y)) == {0, np.inf}


def test_a_saved_state_drops_the_same():
    layer, x = nn.Dropout(0.4), np.ones(500, np.float32)
    state = tinyml.random.get_state()
    first = layer(x).numpy()
    second = layer(x).numpy()
    tinyml.random.set_state(state)
    np.testing.assert_array_equal(layer(x).numpy(), first)
    np.testing.assert_array_equal(layer(x).numpy(), second)
    assert not np.array_equal(first, second)
