"""Products of float matrices; each kernel runs where it is the fastest."""

from __future__ import annotations

import math

import numpy as np

from ... import checks
from .. import memory
from ..dispatch import kernels_for, threads_for
from ..layout import in_elements

# Rows up to which weights are read as they lie rather than packed first. On one AVX-512 core few_rows_f32 takes 0.6 times
# what gemm_f32 takes at 1 row of 64x64, 0.15 times at 1 row of 768x3072; it stays ahead to 12 rows of 64x64, 50 of 768x768.
FEW = 16
# The same where there are many small matrices, which packed stay in the cache: of 256 products of 16 x 16 by 16 x 16
# few_rows_f32 takes 5 times what gemm_f32 takes, of 512 of 4 x 32 by 32 x 32 0.85 times.
FEW_OF_MANY, SMALL = 4, 2**14


def matmul(a: np.ndarray, b: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """a (..., M, K) @ b (..., K, N) + bias (N). Leading dimensions broadcast; no operand is copied to transpose it.

    b may be float16: its values are taken as floats, and the result has the dtype of a.
    """
    a, b = in_elements(a), in_elements(b)
    if a.ndim == b.ndim == 2:
        y: np.ndarray = _products(a[None], b[None], bias)[0]
        return y
    k, n = b.shape[-2:]
    if b.ndim == 2:     # the rows of all batches are multiplied by the same matrix: they are rows of one product
        return _products(a.reshape(1, math.prod(a.shape[:-1]), k), b[None], bias).reshape(*a.shape[:-1], n)
    m = a.shape[-2]
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    batch = math.prod(lead)
    return _products(np.broadcast_to(a, (*lead, m, k)).reshape(batch, m, k),
                     np.broadcast_to(b, (*lead, k, n)).reshape(batch, k, n), bias).reshape(*lead, m, n)


def _products(a: np.ndarray, b: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """a (S, M, K) @ b (S, K, N) + bias (N)."""
    (count, m, k), n = a.shape, b.shape[2]
    if count * k * n > 2**40:       # so much is there only by broadcasting, and kernels copy parts of it
        checks.room("matmul", "an operand", b.shape)
    c = memory.empty((count, m, n), a.dtype)
    if bias is not None:
        bias = np.ascontiguousarray(bias)
    kernels, threads = kernels_for(a.dtype), threads_for(count * m * n * k)
    few = FEW if count == 1 or k * n > SMALL else FEW_OF_MANY
    if m > few or a.strides[2] != a.itemsize or b.strides[1] != b.itemsize:
        kernels.gemm_f32(a, b.astype(a.dtype, copy=False), bias, c, threads)
    elif b.dtype == np.float16:
        kernels.few_rows_f16(a, b.swapaxes(1, 2).view(np.uint16), bias, c, threads)
    else:
        kernels.few_rows_f32(a, b.swapaxes(1, 2), bias, c, threads)
    return c
