"""Int8 codes: made of floats and turned back, looked up in tables, added, multiplied."""

import numpy as np

from ...products.fixed_point import Real


def quantize(x: np.ndarray, scale: Real, zero_point: int, y: np.ndarray, threads: int) -> int:
    """Equation (7). A NaN becomes 0; returns how many there are."""
    nan = np.isnan(x)
    with np.errstate(over="ignore", invalid="ignore"):
        q = np.rint(x / np.float32(scale)) + np.float32(zero_point)
    y[...] = np.clip(np.where(nan, 0, q), 0, 255).astype(np.uint8)
    return int(nan.sum())


def quantize_images(x: np.ndarray, scale: Real, zero_point: int, y: np.ndarray, threads: int) -> int:
    """Equation (7), for images in any memory order."""
    return quantize(x, scale, zero_point, y, threads)


def quantize_rows(x: np.ndarray, scale: np.ndarray, y: np.ndarray, threads: int) -> None:
    """Equation (9)."""
    bad = ~np.isfinite(x).all(axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        s = np.abs(np.where(bad[:, None], 0, x)).max(axis=1, initial=0).astype(np.float32) / np.float32(127)
    tiny = s < np.finfo(np.float32).tiny
    zero = bad | tiny
    scale[...] = np.where(bad, np.float32("nan"), np.where(tiny, np.float32(1), s))
    q = np.rint(np.where(zero[:, None], np.float32(0), x) / np.where(zero, np.float32(1), s)[:, None])
    y[...] = (np.clip(q, -127, 127) + 128).astype(np.uint8)


def dequantize(x: np.ndarray, scale: Real, zero_point: int, y: np.ndarray, threads: int) -> None:
    """Equation (1)."""
    y[...] = np.float32(scale) * (x.astype(np.int32) - zero_point).astype(np.float32)


def lookup(x: np.ndarray, table: np.ndarray, y: np.ndarray, threads: int) -> None:
    """y = table[x]."""
    y[...] = table[x]


def requantize_double(acc: np.ndarray, m: np.ndarray, shift: np.ndarray, zero_point: int, lo: int, hi: int, y: np.ndarray,
                      threads: int) -> None:
    """gemmlowp's SaturatingRoundingDoublingHighMul and RoundingDivideByPOT, then the zero point, saturating."""
    top, bottom = 2**31 - 1, -(2**31)
    left, right = np.maximum(31 - shift, 0), np.maximum(shift - 31, 0)
    product = np.clip(acc.astype(np.int64) << left, bottom, top) * m
    nudged = product + np.where(product >= 0, 2**30, 1 - 2**30)
    high = np.where(nudged >= 0, nudged >> 31, -(-nudged >> 31))         # C division truncates
    mask = (np.int64(1) << right) - 1
    threshold = (mask >> 1) + (high < 0)
    rounded = (high >> right) + ((high & mask) > threshold)
    y[...] = np.clip(np.clip(rounded + zero_point, bottom, top), lo, hi)


def add_codes(a: np.ndarray, b: np.ndarray, za: int, zb: int, ma: int, mb: int, shift: int, zero_point: int, lo: int,
              hi: int, y: np.ndarray, threads: int) -> None:
    """Equation (8)."""
    total = (a.astype(np.int64) - za) * ma + (b.astype(np.int64) - zb) * mb
    y[...] = np.clip(zero_point + ((total + (1 << (shift - 1))) >> shift), lo, hi)


def mul_codes(a: np.ndarray, b: np.ndarray, za: int, zb: int, m: int, shift: int, zero_point: int, lo: int, hi: int,
              y: np.ndarray, threads: int) -> None:
    """Equation (8)."""
    product = (a.astype(np.int64) - za) * (b.astype(np.int64) - zb) * m
    y[...] = np.clip(zero_point + ((product + (1 << (shift - 1))) >> shift), lo, hi)
