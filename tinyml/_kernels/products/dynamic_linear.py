"""Linear layers by int8 weights that stay as they are: rows of floats are quantized as they come."""

from __future__ import annotations

import numpy as np

from .. import memory
from ..dispatch import active, threads_for

# Rows up to which weights are read as they lie rather than packed first. On one AVX-512 core dynamic_linear_few_rows takes
# half of what dynamic_linear_many_rows takes at 1 row of 768 x 3072, as long at 6 rows, and, with groups, at 4.
FEW = 4
ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "silu")     # as activation.pxi counts them, from 1 on; 0: none


def dynamic_linear(x: np.ndarray, codes: np.ndarray, scale: np.ndarray, bias: np.ndarray | None, group: int | None,
                   activation: str | None = None) -> np.ndarray:
    """activation(x (R, K) @ codes (N, K)^T + bias (N,)), x quantized per row (and group) on the way; equation (9).

    scale (N,), or with `group` (N, groups): each group's exact sum is scaled and added in float32, in order.
    """
    x = np.asarray(x, np.float32, order="C")
    (rows, k), n = x.shape, len(codes)
    y = memory.empty((rows, n), np.float32)
    scale = np.ascontiguousarray(scale.reshape(n, -1))
    if k == 0:      # there is nothing to quantize: the sums of no products
        codes, x, scale = np.zeros((n, 1), np.int8), np.zeros((rows, 1), np.float32), np.ones((n, 1), np.float32)
    kernel = active.dynamic_linear_few_rows if rows <= FEW else active.dynamic_linear_many_rows
    number = 0 if activation is None else 1 + ACTIVATIONS.index(activation)
    kernel(x, np.ascontiguousarray(codes), scale, bias, group or max(k, 1), number, y, threads_for(y.size * k // 4))
    return y
