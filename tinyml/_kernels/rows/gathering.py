"""Elements taken and written along one dimension, by an index."""

from __future__ import annotations

import math

import numpy as np

from .. import memory
from ..dispatch import kernels_for, threads_for


def three(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    """The sizes of the dimensions before the axis as one, of the axis, and of those behind it as one."""
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def _index(index: np.ndarray, axis: int) -> np.ndarray:
    """The index in three dimensions; one that is the same for all of those behind the axis stays a stretched one."""
    before, n, after = three(index.shape, axis)
    if after > 1 and not any(index.strides[axis + 1 :]):
        rows = index[(slice(None),) * (axis + 1) + (0,) * (index.ndim - axis - 1)].astype(np.int64, copy=False)
        return np.broadcast_to(rows.reshape(before, n, 1), (before, n, after))
    return np.ascontiguousarray(index, np.int64).reshape(before, n, after)


def gather(x: np.ndarray, index: np.ndarray, axis: int) -> np.ndarray | None:
    """y[i, j] = x[index[i, j], j] for axis 0; the index has the shape of x in all other dimensions. None where a number of
    the index is not in [0, n)."""
    y = memory.empty(index.shape, x.dtype)
    rows = np.ascontiguousarray(x).reshape(three(x.shape, axis))
    inside = kernels_for(x.dtype).gather_f32(rows, _index(index, axis), y.reshape(three(y.shape, axis)),
                                             threads_for(16 * y.size))
    return y if inside else None


def scatter(x: np.ndarray, index: np.ndarray, axis: int, add: bool, y: np.ndarray) -> bool:
    """y[index[i, j], j] = x[i, j] for axis 0, or += where `add` is set, for a row-major y; whether all of the index is in
    [0, n)."""
    rows = np.ascontiguousarray(x).reshape(three(x.shape, axis))
    inside: bool = kernels_for(x.dtype).scatter_f32(rows, _index(index, axis), add, y.reshape(three(y.shape, axis)),
                                                    threads_for(16 * x.size))
    return inside


def add_slices(x: np.ndarray, index: np.ndarray, y: np.ndarray) -> np.ndarray:
    """y[a, index[i], c] += x[a, i, c] for row-major arrays of three dimensions, and an index in [0, n); returns y."""
    kernels_for(x.dtype).scatter_f32(np.ascontiguousarray(x), np.broadcast_to(index[None, :, None], x.shape), True, y,
                                     threads_for(16 * x.size))
    return y
