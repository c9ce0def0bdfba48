"""The numbers that int8 codes stand for: real = scale * (code - zero_point), per tensor, along one axis, or per group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import checks
from ._kernels import memory
from ._kernels.products import fixed_point
from ._kernels.rows.codes import dequantize, quantize, to_signed, to_unsigned
from .errors import QuantizationError, ShapeError

GROUPS = (32, 64)       # weights along K that may share a scale: whole vectors, or halves, of the kernels


class Quantized:
    """Scale, zero point and axis of a Tensor's codes, checked against its shape; and its packed form, once made.

    With `group`, codes (N, K) have a scale (N, K / group, rounded up) for each `group` of them along K, axis is 0 and the
    zero point 0.

    Raises:
        QuantizationError: a scale that is not finite, positive and normal, or a zero point outside int8.
        ShapeError: scales that do not match the axis or the groups.
    """

    __slots__ = ("axis", "group", "packed", "scale", "zero_point")

    def __init__(self, scale: Any, zero_point: Any, axis: int | None, shape: tuple[int, ...], group: int | None = None):
        scale = fixed_point.check_scale(checks.array("int8", "scale", scale, "iuf"), "scale")
        zero = checks.array("int8", "zero_point", zero_point, "iu")
        if axis is not None:
            axis = checks.axis("int8", axis)
            if not -len(shape) <= axis < len(shape):
                raise ShapeError(f"axis: expected a dimension of shape {shape}, got {axis}")
            axis %= len(shape)
        expected: tuple[int, ...] = () if axis is None else (shape[axis],)
        if group is not None:
            if not is_group(group) or axis != 0 or len(shape) != 2 or np.any(zero):
                raise ShapeError(f"group: expected one of {GROUPS}, for codes (N, K) with axis 0 and zero point 0, got "
                                 f"{group!r} for shape {shape}, axis {axis}")
            expected, zero = (shape[0], -(-shape[1] // group)), np.array(0, np.int8)
        if scale.shape != expected and not (axis is not None and scale.shape == ()):
            raise ShapeError(f"scale: expected shape {expected} for codes of shape {shape} and axis {axis}, "
                             f"got {scale.shape}")
        if zero.shape not in (expected, ()):
            raise ShapeError(f"zero_point: expected shape {expected}, got {zero.shape}")
        if zero.size and (zero.min() < -128 or zero.max() > 127):
            raise QuantizationError(f"zero_point: expected values in [-128, 127], got {zero.min()} to {zero.max()}")
        self.scale = np.broadcast_to(scale, expected).copy()
        zero = np.broadcast_to(zero.astype(np.int8), expected)
        self.zero_point = zero if group else zero.copy()        # one 0 for all groups
        self.axis, self.group = axis, group
        self.packed: Any = None     # an IntegerLayer made from these codes by the op that uses them as a weight

    @property
    def nbytes(self) -> int:
        """Bytes of scales and zero points, and of the packed form once it is made."""
        zero = 1 if self.group else self.zero_point.nbytes
        return self.scale.nbytes + zero + (self.packed[1].nbytes if self.packed else 0)

    def __repr__(self) -> str:
        if self.axis is None:
            return f"scale={self.scale:.6g}, zero_point={self.zero_point}"
        span = f"scale={self.scale.min(initial=np.inf):.3g}..{self.scale.max(initial=0):.3g}"
        return f"{span} per group of {self.group}" if self.group else f"{span} along axis {self.axis}"

    def along(self, values: np.ndarray, ndim: int) -> np.ndarray:
        """`values` (scales or zero points), none of them of groups, shaped to broadcast against the codes."""
        return values if self.axis is None else values.reshape([-1 if i == self.axis else 1 for i in range(ndim)])


def is_group(group: Any) -> bool:
    """Whether so many weights along K may share a scale."""
    return type(group) is int and group in GROUPS


def in_groups(x: np.ndarray, group: int) -> np.ndarray:
    """(N, K) as (N, K / group, group), zeros behind K."""
    return np.pad(x, ((0, 0), (0, -x.shape[1] % group))).reshape(len(x), -(-x.shape[1] // group), group)


def group_scales(x: np.ndarray, group: int, choose: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Scales (N, K / group) of x (N, K), a group chosen as `choose` does it for a row."""
    if x.ndim != 2 or not is_group(group):
        raise ShapeError(f"to_int8: expected group to be one of {GROUPS} and a matrix, got {group!r} and shape {x.shape}")
    parts = in_groups(x, group)
    return choose(parts.reshape(parts.shape[0] * parts.shape[1], group)).reshape(parts.shape[:2])


def _quantize_groups(x: np.ndarray, scale: Any, group: int) -> tuple[np.ndarray, Quantized]:
    """Symmetric codes of x (N, K) and a scale for each group, max|x| / 127 if none are given; equation (2)."""
    scale = group_scales(x, group, fixed_point.weight_scales) if scale is None else scale
    quantized = Quantized(scale, 0, 0, x.shape, group)
    with np.errstate(over="ignore"):        # an infinite quotient is clamped
        q = np.rint(in_groups(x, group) / quantized.scale[:, :, None])
    codes = np.clip(np.nan_to_num(q, nan=0), -127, 127).astype(np.int8).reshape(len(x), q.shape[1] * group)
    return codes[:, : x.shape[1]], quantized


def quantize_array(x: np.ndarray, scale: Any, zero_point: Any, axis: int | None,
                   group: int | None = None) -> tuple[np.ndarray, Quantized]:
    """Codes of float x and what they stand for; equations (6) and (7). See Tensor.to_int8."""
    x = np.asarray(x, np.float32)
    if group is not None:
        zero = 0 if zero_point is None else zero_point
        if not checks.is_whole(zero) or zero != 0 or not (axis is None or (checks.is_whole(axis) and axis == 0)):
            raise ShapeError("to_int8: groups have zero point 0 and are of rows, got zero point "
                             f"{checks.described(zero_point)}, axis {checks.described(axis)}")
        codes, quantized = _quantize_groups(x, scale, group)
        return _weight_codes(codes, int(np.count_nonzero(np.isnan(x)))), quantized
    if scale is None:
        if zero_point is not None:
            raise QuantizationError("to_int8: a zero_point needs a scale")
        if x.size and not np.isfinite(x).all():
            raise QuantizationError(f"to_int8: expected finite values to take the range from, got "
                                    f"{np.count_nonzero(~np.isfinite(x))} NaN or infinite of {x.size}")
        if axis is None:
            scale, zero_point = fixed_point.affine_parameters(x.min(initial=0), x.max(initial=0))
        else:
            axis = checks.axis("to_int8", axis)
            if not -x.ndim <= axis < x.ndim:
                raise ShapeError(f"to_int8: axis {axis} of a Tensor of shape {x.shape}")
            scale, zero_point = fixed_point.weight_scales(x, axis % x.ndim), 0
    quantized = Quantized(scale, 0 if zero_point is None else zero_point, axis, x.shape)
    if quantized.axis is None:
        u, nans = quantize(x, quantized.scale, int(quantized.zero_point))
        codes = to_signed(u)
    else:
        nans = int(np.count_nonzero(np.isnan(x)))
        with np.errstate(over="ignore"):        # an infinite quotient is clamped
            q = np.rint(x / quantized.along(quantized.scale, x.ndim))
        q = np.nan_to_num(q, nan=0) + quantized.along(quantized.zero_point, x.ndim).astype(np.float32)
        codes = np.clip(q, -128, 127).astype(np.int8)
    return _weight_codes(codes, nans), quantized


def _weight_codes(codes: np.ndarray, nans: int) -> np.ndarray:
    """The codes from a cache line on, as kernels read weights fastest, and read-only: packed weights are made once."""
    if nans:
        raise QuantizationError(f"to_int8: expected no NaN, got {nans} of {codes.size}")
    codes = memory.align(codes)
    codes.flags.writeable = False
    return codes


def dequantize_codes(codes: np.ndarray, quantized: Quantized) -> np.ndarray:
    """scale * (code - zero_point) in float32; equation (1)."""
    if quantized.group is not None:
        parts = quantized.scale[:, :, None] * in_groups(codes, quantized.group).astype(np.float32)
        return parts.reshape(len(codes), parts.shape[1] * quantized.group)[:, : codes.shape[1]]
    if quantized.axis is None:
        return dequantize(to_unsigned(codes), quantized.scale, int(quantized.zero_point))
    zero = quantized.along(quantized.zero_point, codes.ndim).astype(np.int32)
    return quantized.along(quantized.scale, codes.ndim) * (codes.astype(np.int32) - zero).astype(np.float32)
