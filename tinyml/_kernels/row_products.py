"""Linear layers by int8 weights that stay as they are: rows of floats are quantized as they come."""

from __future__ import annotations

import numpy as np

from . import memory
from .dispatch import active, threads_for
from .integers import quantize_rows

# Rows up to which weights are read as they lie rather than packed first. On one AVX-512 core rows_int8 takes half of what
# gemm_int8 takes at 1 row of 768 x 3072, as long at 6 rows, and, with groups, at 4.
FEW = 4


def linear(x: np.ndarray, codes: np.ndarray, scale: np.ndarray, bias: np.ndarray | None, group: int | None) -> np.ndarray:
    """x (R, K) @ codes (N, K)^T + bias, x quantized per row (and group) on the way; equation (9).

    scale (N,), or with `group` (N, groups): each group's exact sum is scaled and added in float32, in order.
    """
    return multiply_rows(*quantize_groups(x, group), codes, scale.reshape(len(codes), -1), bias, group)


def quantize_groups(x: np.ndarray, group: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Float32 (R, K) to unsigned codes (R, K, or more: whole groups or fours) and scales (R, groups)."""
    x = np.asarray(x, np.float32)
    rows, k = x.shape
    wide = -(-k // (group or 4)) * (group or 4)
    if wide > k:
        x = np.pad(x, ((0, 0), (0, wide - k)))
    u, scale = quantize_rows(x.reshape(rows * (wide // group), group) if group else x)
    return u.reshape(rows, wide), scale.reshape(rows, wide // group if group else 1)


def multiply_rows(u: np.ndarray, row_scale: np.ndarray, codes: np.ndarray, scale: np.ndarray, bias: np.ndarray | None,
                  group: int | None) -> np.ndarray:
    """What quantize_groups made by codes (N, K) and scale (N, groups)."""
    (rows, _), (n, k) = u.shape, codes.shape
    y = memory.empty((rows, n), np.float32)
    if k == 0:
        y[...] = 0 if bias is None else bias
        return y
    codes = np.ascontiguousarray(codes)
    kernel = active.rows_int8 if rows <= FEW else active.gemm_int8
    kernel(u, row_scale, codes, np.ascontiguousarray(scale), bias, group or k, y, threads_for(y.size * k // 4))
    return y
