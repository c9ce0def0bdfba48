"""The arithmetic of scales: parameters from ranges, integers from real multipliers; equations (2) to (6).

Codes here are the int8 codes q of the API; kernels see u = q + 128 (integer_layer.py).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ...errors import QuantizationError

Real: TypeAlias = float | np.floating[Any]      # a number of Python or NumPy

QMIN, QMAX = -128, 127
INT32_MAX = 2**31 - 1
_NORMAL = np.finfo(np.float32).tiny


def check_scale(scale: ArrayLike, what: str) -> np.ndarray:
    """`scale` as float32, finite, positive and normal.

    Raises:
        QuantizationError: it is not; the message names `what` and the first bad value.
    """
    given = np.asarray(scale)
    with np.errstate(over="ignore"):
        s = given.astype(np.float32)
    bad = ~(np.isfinite(s) & (s >= _NORMAL))
    if bad.any():
        value = s[bad].flat[0] if s.ndim else s
        raise QuantizationError(f"{what}: expected a finite, positive, normal float32 scale, got {value}")
    return s


def affine_parameters(lo: float, hi: float, what: str = "range") -> tuple[np.float32, int]:
    """Scale and zero point of a range, which is widened to contain 0, so that 0 is exact; equation (6).

    Raises:
        QuantizationError: a bound is NaN or infinite, or the range is wider than float32.
    """
    if not (np.isfinite(lo) and np.isfinite(hi)):
        raise QuantizationError(f"{what}: expected finite bounds, got [{lo}, {hi}]")
    lo, hi = min(float(lo), 0.0), max(float(hi), 0.0)
    if lo == hi:
        return np.float32(1), 0
    # a range that is too narrow for a normal scale gets the smallest one
    scale = check_scale(max((hi - lo) / 255, float(_NORMAL)), what)
    return np.float32(scale), int(np.clip(np.rint(QMIN - lo / float(scale)), QMIN, QMAX))


def weight_scales(weight: np.ndarray, axis: int | None = 0) -> np.ndarray:
    """Symmetric scales max|w| / 127 along `axis` (None: one for all), 1 where all weights are 0; equation (2)."""
    w = np.abs(np.asarray(weight, np.float64))
    others = tuple(i for i in range(w.ndim) if i != axis) if axis is not None else None
    largest = np.asarray(w.max(axis=others, initial=0.0))
    if not np.isfinite(largest).all():
        raise QuantizationError("weights: expected finite values, got NaN or infinity")
    scale = np.maximum(largest / 127, _NORMAL).astype(np.float32)
    return np.where(largest == 0, np.float32(1), scale)


def multiplier(real: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Integers m and s with real = m * 2^-s up to rounding, 0 <= m < 2^31, 1 <= s <= 55; equation (5).

    Raises:
        QuantizationError: a multiplier is not finite, is negative, or is 2^30 or more.
    """
    real = np.asarray(real, np.float64)
    if not (np.isfinite(real) & (real >= 0)).all():
        raise QuantizationError(f"multiplier: expected finite values of at least 0, got {real.ravel()[:4]}")
    _, e = np.frexp(real)
    s = np.minimum(31 - e.astype(np.int64), 55)
    m = np.rint(np.ldexp(real, s)).astype(np.int64)
    full = m == 2**31
    m, s = np.where(full, 2**30, m), np.where(full, s - 1, s)
    if (s < 1).any():
        raise QuantizationError(f"multiplier: expected values below 2^30, got {real.max()}: the output scale is far "
                                "too small for its input")
    return m, s


def shared_multipliers(reals: list[float]) -> tuple[list[int], int]:
    """Multipliers m_i of the operands of a sum with one shift s, which is that of the largest; equation (8)."""
    _, s = multiplier(np.float64(max(reals)))
    return [int(np.rint(np.ldexp(np.float64(r), int(s)))) for r in reals], int(s)


def accumulator_bound(codes: np.ndarray, bias: np.ndarray, zero_point: int) -> np.ndarray:
    """The largest |acc| of each output channel over all inputs; equation (4). codes [N][...] are int8, bias [N] is
    int64."""
    reach = max(abs(QMIN - zero_point), abs(QMAX - zero_point))
    total = np.abs(codes.astype(np.int64)).sum(axis=tuple(range(1, codes.ndim)))
    bound: np.ndarray = np.abs(bias.astype(np.int64)) + total * reach
    return bound


def quantize_weight(weight: np.ndarray, scale: np.ndarray, axis: int | None) -> np.ndarray:
    """Codes rint(w / scale) in [-127, 127]; equation (2)."""
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)] if axis is not None else [1] * weight.ndim
    s = np.asarray(scale, np.float32).reshape(shape)
    codes: np.ndarray = np.clip(np.rint(np.asarray(weight, np.float32) / s), -127, 127).astype(np.int8)
    return codes


def clipped_weight_scales(weight: np.ndarray, axis: int | None = 0) -> np.ndarray:
    """Scales f max|w| / 127, where f is for each channel that one of 1, 0.99, ... 0.3 which gives the least error.

    The error is the sum of (scale q - w)^2, where q = clip(rint(w / scale)) in [-127, 127]. Shapes, channels of zeros and
    errors are those of weight_scales.
    """
    others = tuple(i for i in range(weight.ndim) if i != axis)
    exact, largest = np.asarray(weight, np.float64), weight_scales(weight, axis)
    best, least = largest, np.full(largest.shape, np.inf)
    for fraction in np.linspace(1, 0.3, 71, dtype=np.float32):
        scale = np.maximum(largest * fraction, _NORMAL)
        codes = quantize_weight(weight, scale, axis)
        error = np.square(codes * np.expand_dims(scale.astype(np.float64), others) - exact).sum(axis=others)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return best


def layer_scales(weight: np.ndarray, bias: np.ndarray | None, x_scale: Real, per_channel: bool = True,
                 chosen: np.ndarray | None = None) -> np.ndarray:
    """Weight scales of a layer [N][...]; equation (2), with `chosen` in the place of max|w| / 127 where it is given.

    Raises:
        QuantizationError: a weight or bias is not finite.
    """
    b = np.zeros(len(weight)) if bias is None else np.abs(np.asarray(bias, np.float64))
    if not np.isfinite(b).all():
        raise QuantizationError("bias: expected finite values, got NaN or infinity")
    largest = np.abs(weight.astype(np.float64)).max(axis=tuple(range(1, weight.ndim)), initial=0)
    if not np.isfinite(largest).all():
        raise QuantizationError("weights: expected finite values, got NaN or infinity")
    least = np.maximum(largest / 127 if chosen is None else np.where(largest == 0, 0, chosen), b / (float(x_scale) * 2**30))
    if not per_channel:
        least = np.full(len(weight), least.max(initial=0))
    return check_scale(np.where(least == 0, 1, np.maximum(least, _NORMAL)), "weights")


def quantize_layer(weight: np.ndarray, bias: np.ndarray | None, x_scale: Real, zero_point: int, per_channel: bool = True,
                   chosen: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Codes, scales, int32 bias and the bounds of the accumulators of a layer [N][...]; equations (2) to (4).

    A scale is doubled until the accumulators of its channel cannot leave int32, whatever the input is. `chosen` is
    explained at layer_scales.
    """
    b = np.zeros(len(weight)) if bias is None else np.asarray(bias, np.float64)
    scale = layer_scales(weight, bias, x_scale, per_channel, chosen)
    while True:
        codes = quantize_weight(weight, scale, 0)
        q_bias = np.rint(b / (np.float64(x_scale) * scale.astype(np.float64)))
        bound = accumulator_bound(codes, np.clip(q_bias, -2.0**62, 2.0**62).astype(np.int64), zero_point)
        over = bound > INT32_MAX
        if not over.any():
            return codes, scale, q_bias.astype(np.int32), bound
        scale = check_scale(np.where(over if per_channel else over.any(), scale * 2, scale), "weights")
