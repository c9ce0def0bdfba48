"""Sums and means over any dimensions that lose no terms, however many there are.

NumPy adds pairwise along dimensions whose elements are neighbours in memory. Along others it adds row after row in the
dtype of the array: in float32 a sum of ones stops growing at 2^24, in float16 at 2^11. Such sums go to the kernel that sums
columns, which adds eight rows in float and the sums of eight rows in double.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import memory
from ..dispatch import active, threads_for
from ..layout import in_elements

FEW = 2048      # arrays of up to so many elements are left to NumPy, because the call of a kernel costs more
TERMS = 128     # and so are sums of up to so many terms that NumPy adds one after the other: so few lose little
_HALF, _SINGLE = np.dtype(np.float16), np.dtype(np.float32)

Axis = int | tuple[int, ...] | None

add_reduce: Callable[..., Any] = np.add.reduce      # NumPy's types know it with keepdims by name only


def total(x: np.ndarray, axis: Axis = None, keepdims: bool = False) -> np.ndarray:
    """The sum of x over `axis` (None: over all dimensions), as np.add.reduce gives it."""
    if x.dtype == _HALF:
        with np.errstate(over="ignore"):        # a sum that float16 cannot hold is infinite
            return total(x.astype(np.float32), axis, keepdims).astype(np.float16)
    if x.size <= FEW or x.dtype != _SINGLE or (type(axis) is int and x.shape[axis] <= TERMS):
        return np.asarray(add_reduce(x, axis, None, None, keepdims))
    axes = set(range(x.ndim)) if axis is None else {a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,))}
    one_by_one, d = math.prod([x.shape[d] for d in axes]), x.ndim
    while x.flags.c_contiguous and d - 1 in axes:       # their elements are neighbours
        d -= 1
        one_by_one //= x.shape[d]
    if one_by_one <= TERMS:
        return np.asarray(add_reduce(x, axis, None, None, keepdims))
    y = _reduced(x, axes)
    return y.reshape([1 if d in axes else n for d, n in enumerate(x.shape)]) if keepdims else y


def mean(x: np.ndarray, axis: Axis = None, keepdims: bool = False) -> np.ndarray:
    """The mean of x over `axis` (None: over all dimensions), as np.mean gives it."""
    if x.dtype == _HALF:
        return mean(x.astype(np.float32), axis, keepdims).astype(np.float16)
    y = total(x, axis, keepdims)
    return np.asarray(y / y.dtype.type(x.size // max(y.size, 1)))


def _reduced(x: np.ndarray, axes: set[int]) -> np.ndarray:
    """The sum of float32 x, which is not empty, over `axes`."""
    order: Sequence[int] = range(x.ndim)
    if not x.flags.c_contiguous:
        repeated = [d for d in axes if x.strides[d] == 0]       # elements that broadcasting repeats are multiplied instead
        if repeated:
            times = math.prod(x.shape[d] for d in repeated)
            x = x[tuple(slice(1) if d in repeated else slice(None) for d in order)] * np.float32(times)
        order = sorted(order, key=lambda d: -abs(x.strides[d]))
    runs: list[tuple[int, bool]] = []   # neighbouring dimensions of one kind: how many elements, whether they are summed
    for d in order:
        if runs and runs[-1][1] == (d in axes):
            runs[-1] = runs[-1][0] * x.shape[d], d in axes
        else:
            runs.append((x.shape[d], d in axes))
    y, inner = in_elements(np.ascontiguousarray(x.transpose(order))), 1
    while runs:     # the innermost run is summed first, which leaves the least to the others
        n, summed = runs.pop()
        if summed:
            y = _rows(y.reshape(y.size // (n * inner), n, inner))
        else:
            inner *= n
    kept = [d for d in order if d not in axes]
    return y.reshape([x.shape[d] for d in kept]).transpose(sorted(range(len(kept)), key=kept.__getitem__))


def _rows(x: np.ndarray) -> np.ndarray:
    """The sum of contiguous x over the second of its three dimensions."""
    if x.shape[2] == 1 or x.shape[1] <= TERMS:
        few: np.ndarray = np.add.reduce(x, axis=1)
        return few
    y = memory.empty((x.shape[0], x.shape[2]), x.dtype)
    active.sum_columns_f32(x, y, threads_for(x.size))
    return y
