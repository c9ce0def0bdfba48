"""Sums over rows, and rows that are added by their ids."""

from __future__ import annotations

import numpy as np

from .. import memory
from ..dispatch import kernels_for, threads_for
from ..layout import as_rows


def sum_columns(x: np.ndarray) -> np.ndarray:
    """Sum of x (..., C) over all but the last dimension."""
    y = np.empty((1, x.shape[-1]), x.dtype)
    kernels_for(x.dtype).sum_columns_f32(as_rows(x)[None], y, threads_for(16 * x.size))
    return y[0]


def pointwise_grad_sum(name: str, x: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """pointwise_grad of x and dy (..., C), and its sum over all but the last dimension."""
    xs = as_rows(x)
    dx, sums = memory.empty(xs.shape, x.dtype), np.empty(x.shape[-1], x.dtype)
    getattr(kernels_for(x.dtype), name + "_grad_sum_f32")(xs, as_rows(dy), dx, sums, threads_for(16 * x.size))
    return dx.reshape(x.shape), sums


def scatter_rows(x: np.ndarray, ids: np.ndarray, count: int) -> np.ndarray:
    """(count, C) in which row v is the sum of the rows of x (P, C) whose id in ids (P) is v."""
    few = 64 * len(ids) < count     # then the system's fresh zeros are cheaper: it makes those that are looked at
    y = np.zeros((count, x.shape[1]), x.dtype) if few else memory.empty((count, x.shape[1]), x.dtype)
    kernels_for(x.dtype).scatter_rows_f32(as_rows(x), ids, not few, y, threads_for(16 * (x.size + (not few) * y.size)))
    return y
