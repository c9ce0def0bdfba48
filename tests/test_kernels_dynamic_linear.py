"""Products of rows by int8 weights: too large for the tests of small shapes, and with an activation behind them."""

from __future__ import annotations

import numpy as np
import pytest

from tinyml._kernels import dispatch, reference
from tinyml._kernels.table import ACTIVATIONS


@pytest.mark.parametrize("isa", dispatch.available())
@pytest.mark.parametrize(("m", "k", "n", "group"), [(37, 1030, 700, None), (29, 2064, 331, 64), (13, 1000, 641, 32)])
def test_rounds_of_weights_give_the_bytes_of_the_reference(isa, m, k, n, group):
    rng = np.random.default_rng(k)
    kernels, groups = dispatch.load(isa), 1 if group is None else -(-k // group)
    x, w = rng.standard_normal((m, k), np.float32), rng.integers(-127, 128, (n, k), np.int8)
    scale, bias = rng.random((n, groups), np.float32), rng.standard_normal(n, np.float32)
    expected = np.empty((m, n), np.float32)
    reference.dynamic_linear_many_rows(x, w, scale, bias, group or k, 0, expected, 1)
    for threads in (1, 3):
        y = np.full((m, n), np.nan, np.float32)
        kernels.dynamic_linear_many_rows(x, w, scale, bias, group or k, 0, y, threads)
        assert y.tobytes() == expected.tobytes(), f"{threads} threads"


@pytest.mark.parametrize("isa", dispatch.available())
@pytest.mark.parametrize("kernel", ["dynamic_linear_few_rows", "dynamic_linear_many_rows"])
@pytest.mark.parametrize("activation", ACTIVATIONS[1:])
def test_an_activation_behind_gives_the_bytes_of_its_kernel(isa, kernel, activation):
    rng = np.random.default_rng(0)
    kernels, number = dispatch.load(isa), ACTIVATIONS.index(activation)
    for m, n, group in ((3, 70, 70), (40, 33, 70), (14, 131, 32)):
        x, w = rng.standard_normal((m, 70), np.float32), rng.integers(-127, 128, (n, 70), np.int8)
        scale = rng.random((n, -(-70 // group)), np.float32) / 100
        x[m - 1, 2] = np.nan
        plain, y = np.empty((2, m, n), np.float32)
        getattr(kernels, kernel)(x, w, scale, None, group, 0, plain, 1)
        getattr(kernels, kernel)(x, w, scale, None, group, number, y, 1)
        expected = np.maximum(plain, 0)
        if activation != "relu":
            getattr(kernels, f"{activation}_f32")(plain.reshape(-1), expected.reshape(-1), 1)
        assert y.tobytes() == expected.tobytes(), (m, n, group)
