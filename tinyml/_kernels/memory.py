"""Arrays that begin on a cache line: a vector loaded across two lines costs two loads."""

from __future__ import annotations

import math

import numpy as np

LINE = 64       # bytes


def empty(shape: tuple[int, ...], dtype: type | np.dtype) -> np.ndarray:
    """An uninitialised C-contiguous array whose first element is at a multiple of LINE bytes."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = np.empty(size + LINE, np.uint8)
    start = -room.ctypes.data % LINE
    return room[start : start + size].view(dtype).reshape(shape)


def aligned(a: np.ndarray) -> np.ndarray:
    """A C-contiguous copy of `a` that begins on a cache line."""
    copy = empty(a.shape, a.dtype)
    copy[...] = a
    return copy
