"""Sums over rows, and rows that are added by their ids."""

from __future__ import annotations

import numpy as np

from .. import memory, table
from ..dispatch import kernels_for, threads_for
from ..layout import as_rows


def sum_columns(x: np.ndarray) -> np.ndarray:
    """Sum of x (..., C) over all but the last dimension."""
    y = np.empty(x.shape[-1], x.dtype)
    kernels_for(x.dtype).sum_columns_f32(as_rows(x)[None], y[None], threads_for(16 * x.size))
    return y


def activation_grad_sum(name: str, x: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """pointwise_grad of x and dy (..., C) for one of table.ACTIVATIONS, and its sum over all but the last dimension."""
    xs = as_rows(x)
    dx, sums = memory.empty(xs.shape, x.dtype), np.empty(x.shape[-1], x.dtype)
    kernels_for(x.dtype).activation_grad_sum_f32(table.ACTIVATIONS.index(name), xs, as_rows(dy), dx, sums,
                                                 threads_for(16 * x.size))
    return dx.reshape(x.shape), sums


def scatter_rows(x: np.ndarray, ids: np.ndarray, count: int) -> np.ndarray:
    """An array (count, C) whose row v is the sum of the rows of x (P, C) that have the id v in ids (P)."""
    few = 64 * len(ids) < count     # then fresh zeros of the system are cheaper: it makes them when they are touched
    y = np.zeros((count, x.shape[1]), x.dtype) if few else memory.empty((count, x.shape[1]), x.dtype)
    kernels_for(x.dtype).scatter_rows_f32(as_rows(x), ids, not few, y, threads_for(16 * (x.size + (not few) * y.size)))
    return y
