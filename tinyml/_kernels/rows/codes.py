"""Int8 codes: made of floats and turned back, looked up in tables, added, multiplied.

u stands for an unsigned code, q + 128, which is what kernels see.

Where a function takes `out`, the result is written there: contiguous, of the result's shape and dtype.
"""

from __future__ import annotations

import numpy as np

from ..dispatch import active, threads_for
from ..products.fixed_point import Real

Number = Real | np.ndarray      # an array has no dimension


def to_unsigned(q: np.ndarray) -> np.ndarray:
    """u = q + 128 (uint8), contiguous."""
    return np.asarray(np.asarray(q, order="C").view(np.uint8) ^ np.uint8(128))


def to_signed(u: np.ndarray) -> np.ndarray:
    """q = u - 128 (int8)."""
    return np.asarray(u ^ np.uint8(128)).view(np.int8)


def quantize(x: np.ndarray, scale: Number, zero_point: int, out: np.ndarray | None = None) -> tuple[np.ndarray, int]:
    """The unsigned codes of float32 values of any layout, and the number of NaNs; equation (7)."""
    y = np.empty(x.shape, np.uint8) if out is None else out
    if x.ndim == 4 and x.strides[2] == 4 != x.strides[3] and not any(s % 4 for s in x.strides) and x.dtype == np.float32:
        # images in the usual layout, channel by channel: codes come out channels-last without a copy of the floats
        return y, active.quantize_images(x, np.float32(scale), zero_point + 128, y, threads_for(16 * x.size))
    x = np.asarray(x, np.float32, order="C")
    nans = active.quantize(x.reshape(-1), np.float32(scale), zero_point + 128, y.reshape(-1), threads_for(16 * x.size))
    return y, nans


def quantize_rows(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The unsigned codes of float32 (R, ...), and one symmetric scale per row; equation (9)."""
    x = np.asarray(x, np.float32, order="C")
    rows = x.reshape(x.shape[0], -1) if x.size else np.empty((x.shape[0], 0), np.float32)
    y, scale = np.empty(rows.shape, np.uint8), np.empty(x.shape[0], np.float32)
    active.quantize_rows(rows, scale, y, threads_for(16 * x.size))
    return y.reshape(x.shape), scale


def dequantize(u: np.ndarray, scale: Number, zero_point: int, out: np.ndarray | None = None) -> np.ndarray:
    """The float32 values that unsigned codes stand for; equation (1)."""
    u = np.asarray(u, order="C")
    y = np.empty(u.shape, np.float32) if out is None else out
    active.dequantize(u.reshape(-1), np.float32(scale), zero_point + 128, y.reshape(-1), threads_for(16 * u.size))
    return y


def lookup(u: np.ndarray, table: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """table[u], where `table` has 256 unsigned codes."""
    u = np.asarray(u, order="C")
    y = np.empty(u.shape, np.uint8) if out is None else out
    active.lookup(u.reshape(-1), table, y.reshape(-1), threads_for(16 * u.size))
    return y


def _stretched(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both arrays broadcast to one shape, contiguous. An array that is so already is not copied."""
    if a.shape != b.shape:
        a, b = np.broadcast_arrays(a, b)
    return np.asarray(a, order="C"), np.asarray(b, order="C")


def add_codes(a: np.ndarray, b: np.ndarray, zero_points: tuple[int, int], multipliers: tuple[int, int], shift: int,
              zero_point: int, lo: int, hi: int, out: np.ndarray | None = None) -> np.ndarray:
    """The sum of two arrays of codes that broadcast, requantized with one rounding; equation (8). Multipliers may be
    negative."""
    a, b = _stretched(a, b)
    y = np.empty(a.shape, np.uint8) if out is None else out
    active.add_codes(a.reshape(-1), b.reshape(-1), zero_points[0] + 128, zero_points[1] + 128, *multipliers, shift,
                     zero_point + 128, lo + 128, hi + 128, y.reshape(-1), threads_for(16 * a.size))
    return y


def mul_codes(a: np.ndarray, b: np.ndarray, zero_points: tuple[int, int], multiplier: int, shift: int, zero_point: int,
              lo: int, hi: int, out: np.ndarray | None = None) -> np.ndarray:
    """The product of two arrays of codes that broadcast, requantized with one rounding; equation (8)."""
    a, b = _stretched(a, b)
    y = np.empty(a.shape, np.uint8) if out is None else out
    active.mul_codes(a.reshape(-1), b.reshape(-1), zero_points[0] + 128, zero_points[1] + 128, multiplier, shift,
                     zero_point + 128, lo + 128, hi + 128, y.reshape(-1), threads_for(16 * a.size))
    return y
