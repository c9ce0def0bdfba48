"""Products of int8 rows and weights too large for the tests of small shapes: several rounds of packed weights."""

from __future__ import annotations

import numpy as np
import pytest

from tinyml._kernels import dispatch, reference


@pytest.mark.parametrize("isa", dispatch.available())
@pytest.mark.parametrize(("m", "k", "n", "group"), [(37, 1030, 700, None), (29, 2064, 331, 64), (13, 1000, 641, 32)])
def test_rounds_of_weights_give_the_bytes_of_the_reference(isa, m, k, n, group):
    rng = np.random.default_rng(k)
    kernels, groups = dispatch.load(isa), 1 if group is None else -(-k // group)
    wide = groups * (group or -(-k // 4) * 4)
    x, w = rng.integers(1, 256, (m, wide), np.uint8), rng.integers(-127, 128, (n, k), np.int8)
    x_scale, w_scale = rng.random((m, groups), np.float32), rng.random((n, groups), np.float32)
    bias = rng.standard_normal(n, np.float32)
    expected = np.empty((m, n), np.float32)
    reference.gemm_int8(x, x_scale, w, w_scale, bias, group or k, expected, 1)
    for threads in (1, 3):
        y = np.full((m, n), np.nan, np.float32)
        kernels.gemm_int8(x, x_scale, w, w_scale, bias, group or k, y, threads)
        assert y.tobytes() == expected.tobytes(), f"{threads} threads"
