"""Pooling of floats and of codes. Windows are given as the spans of rows and of columns that products/windows.py
computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import memory
from ..dispatch import active, kernels_for, threads_for
from ..layout import nchw, nhwc

MOST_PIXELS = 2**23 - 1      # the most pixels of a window whose codes are summed in int32


def max_pool(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The largest value of each window (NCHW)."""
    y = nchw(memory.empty((len(x), len(rows), len(columns), x.shape[1]), x.dtype))
    bind_max_pool(x, rows, columns, y)()
    return y


def bind_max_pool(x: np.ndarray, rows: np.ndarray, columns: np.ndarray, out: np.ndarray) -> Callable[[], object]:
    """A function that computes max_pool into `out`, and costs hardly more than the arithmetic.

    Both arrays are NCHW, in channels-last memory.
    """
    kernel, work, xs, y = kernels_for(x.dtype).max_pool_f32, 16 * x.size, nhwc(x), nhwc(out)
    return lambda: kernel(xs, rows, columns, y, None, threads_for(work))


def max_pool_at(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest value of each window (NCHW) and, for the gradient, the pixel h*W + w that it came from (NHWC)."""
    xs = nhwc(x)
    shape = (xs.shape[0], len(rows), len(columns), xs.shape[3])
    y, at = memory.empty(shape, x.dtype), memory.empty(shape, np.int32)
    kernels_for(x.dtype).max_pool_f32(xs, rows, columns, y, at, threads_for(16 * x.size))
    return nchw(y), at


def max_pool_grad(dy: np.ndarray, at: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """Gradient of max_pool to its input."""
    dys = nhwc(dy)
    dx = memory.empty((dys.shape[0], *hw, dys.shape[3]), dy.dtype)
    kernels_for(dy.dtype).max_pool_grad_f32(dys, at, dx, threads_for(16 * dx.size))
    return nchw(dx)


def avg_pool(x: np.ndarray, rows: np.ndarray, columns: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    """The sum of each window divided by divisor [OH][OW] (NCHW)."""
    y = nchw(memory.empty((len(x), len(rows), len(columns), x.shape[1]), x.dtype))
    bind_avg_pool(x, rows, columns, divisor, y)()
    return y


def bind_avg_pool(x: np.ndarray, rows: np.ndarray, columns: np.ndarray, divisor: np.ndarray,
                  out: np.ndarray) -> Callable[[], object]:
    """A function that computes avg_pool into `out`, as bind_max_pool."""
    kernel, work, xs, y = kernels_for(x.dtype).avg_pool_f32, 16 * x.size, nhwc(x), nhwc(out)
    by = divisor.astype(x.dtype)
    return lambda: kernel(xs, rows, columns, by, y, threads_for(work))


def avg_pool_grad(dy: np.ndarray, rows: np.ndarray, columns: np.ndarray, divisor: np.ndarray,
                  hw: tuple[int, int]) -> np.ndarray:
    """Gradient of avg_pool to its input."""
    dys = nhwc(dy)
    dx = memory.empty((dys.shape[0], *hw, dys.shape[3]), dy.dtype)
    kernels_for(dy.dtype).avg_pool_grad_f32(dys, rows, columns, divisor.astype(dy.dtype), dx, threads_for(16 * dx.size))
    return nchw(dx)


def max_pool_codes(u: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The largest code of each window (NHWC)."""
    u = np.asarray(u, order="C")
    y = np.empty((u.shape[0], len(rows), len(columns), u.shape[3]), np.uint8)
    bind_max_pool_codes(u, rows, columns, y)()
    return y


def bind_max_pool_codes(u: np.ndarray, rows: np.ndarray, columns: np.ndarray, out: np.ndarray) -> Callable[[], object]:
    """A function that computes max_pool_codes of contiguous codes into `out`, and costs hardly more than the arithmetic."""
    kernel, work = active.max_pool_int8, 16 * u.size
    return lambda: kernel(u, rows, columns, out, threads_for(work))


def avg_pool_codes(u: np.ndarray, rows: np.ndarray, columns: np.ndarray, m: np.ndarray, shift: np.ndarray, zero_in: int,
             zero_out: int, out: np.ndarray | None = None) -> np.ndarray:
    """The mean of each window as codes (NHWC), by multipliers m * 2^-shift [OH][OW]; equation (8)."""
    u = np.asarray(u, order="C")
    y = np.empty((u.shape[0], len(rows), len(columns), u.shape[3]), np.uint8) if out is None else out
    active.avg_pool_int8(u, rows, columns, m, shift, zero_in + 128, zero_out + 128, y, threads_for(16 * u.size))
    return y
