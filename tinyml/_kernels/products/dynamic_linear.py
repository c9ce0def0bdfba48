"""Dynamic int8 linear layers: rows of floats are quantized as they come, by int8 weights that are not packed before."""

from __future__ import annotations

import numpy as np

from .. import memory, table
from ..dispatch import active, threads_for

# Rows up to which weights are read as they lie rather than packed first. On one AVX-512 core dynamic_linear_few_rows takes
# half of what dynamic_linear_many_rows takes at 1 row of 768 x 3072, as long at 6 rows, and, with groups, at 4.
FEW = 4


def dynamic_linear(x: np.ndarray, codes: np.ndarray, scale: np.ndarray, bias: np.ndarray | None, group: int | None,
                   activation: str = "identity") -> np.ndarray:
    """activation(x (R, K) @ codes (N, K)^T + bias (N,)), x quantized per row, and per group of a row, as it comes; equation
    (9).

    scale is (N,), or (N, groups) where K is divided in groups of `group` values: the exact sums of the groups are scaled
    and added in float32, in order. `activation` is one of table.ACTIVATIONS.
    """
    x = np.asarray(x, np.float32, order="C")
    (rows, k), n = x.shape, len(codes)
    y = memory.empty((rows, n), np.float32)
    scale = np.ascontiguousarray(scale.reshape(n, -1))
    if k == 0:      # kernels need a value to quantize: one 0, whose products are 0
        codes, x, scale = np.zeros((n, 1), np.int8), np.zeros((rows, 1), np.float32), np.ones((n, 1), np.float32)
    kernel = active.dynamic_linear_few_rows if rows <= FEW else active.dynamic_linear_many_rows
    number = table.ACTIVATIONS.index(activation)
    kernel(x, np.ascontiguousarray(codes), scale, bias, group or max(k, 1), number, y, threads_for(y.size * k // 4))
    return y
