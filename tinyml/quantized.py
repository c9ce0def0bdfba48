"""The numbers that int8 codes stand for: real = scale * (code - zero_point), per tensor or along one axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._kernels import fixed_point, integers
from .errors import DtypeError, QuantizationError, ShapeError


class Quantized:
    """Scale, zero point and axis of a Tensor's codes, checked against its shape; and its packed form, once made.

    Raises:
        QuantizationError: a scale that is not finite, positive and normal, or a zero point outside int8.
        ShapeError: scales that do not match the axis.
    """

    __slots__ = ("axis", "packed", "scale", "zero_point")

    def __init__(self, scale: Any, zero_point: Any, axis: int | None, shape: tuple[int, ...]):
        scale, zero = fixed_point.check_scale(scale, "scale"), np.asarray(zero_point)
        if zero.dtype.kind not in "iu":
            raise DtypeError(f"zero_point: expected integers, got {zero.dtype}")
        if axis is not None:
            if not -len(shape) <= axis < len(shape):
                raise ShapeError(f"axis: expected a dimension of shape {shape}, got {axis}")
            axis %= len(shape)
        expected = () if axis is None else (shape[axis],)
        if scale.shape != expected and not (axis is not None and scale.shape == ()):
            raise ShapeError(f"scale: expected shape {expected} for codes of shape {shape} and axis {axis}, "
                             f"got {scale.shape}")
        if zero.shape not in (expected, ()):
            raise ShapeError(f"zero_point: expected shape {expected}, got {zero.shape}")
        if zero.size and (zero.min() < -128 or zero.max() > 127):
            raise QuantizationError(f"zero_point: expected values in [-128, 127], got {zero.min()} to {zero.max()}")
        self.scale = np.broadcast_to(scale, expected).copy()
        self.zero_point = np.broadcast_to(zero.astype(np.int8), expected).copy()
        self.axis = axis
        self.packed: Any = None     # an IntegerLayer made from these codes by the op that uses them as a weight

    @property
    def nbytes(self) -> int:
        """Bytes of scales and zero points, and of the packed form once it is made."""
        return self.scale.nbytes + self.zero_point.nbytes + (self.packed[1].nbytes if self.packed else 0)

    def __repr__(self) -> str:
        if self.axis is None:
            return f"scale={self.scale:.6g}, zero_point={self.zero_point}"
        return f"scale={self.scale.min():.3g}..{self.scale.max():.3g} along axis {self.axis}"

    def along(self, values: np.ndarray, ndim: int) -> np.ndarray:
        """`values` (scales or zero points) shaped to broadcast against the codes."""
        return values if self.axis is None else values.reshape([-1 if i == self.axis else 1 for i in range(ndim)])


def quantize_array(x: np.ndarray, scale: Any, zero_point: Any, axis: int | None) -> tuple[np.ndarray, Quantized]:
    """Codes of float x and what they stand for; equations (6) and (7). See Tensor.to_int8."""
    x = np.asarray(x, np.float32)
    if scale is None:
        if zero_point is not None:
            raise QuantizationError("to_int8: a zero_point needs a scale")
        if x.size and not np.isfinite(x).all():
            raise QuantizationError(f"to_int8: expected finite values to take the range from, got "
                                    f"{np.count_nonzero(~np.isfinite(x))} NaN or infinite of {x.size}")
        if axis is None:
            scale, zero_point = fixed_point.affine_parameters(x.min(initial=0), x.max(initial=0))
        else:
            if not -x.ndim <= axis < x.ndim:
                raise ShapeError(f"to_int8: axis {axis} of a Tensor of shape {x.shape}")
            scale, zero_point = fixed_point.weight_scales(x, axis % x.ndim), 0
    quantized = Quantized(scale, 0 if zero_point is None else zero_point, axis, x.shape)
    if quantized.axis is None:
        u, nans = integers.quantize(x, quantized.scale, int(quantized.zero_point))
        codes = integers.to_signed(u)
    else:
        nans = np.count_nonzero(np.isnan(x))
        with np.errstate(over="ignore"):        # an infinite quotient is clamped
            q = np.rint(x / quantized.along(quantized.scale, x.ndim))
        q = np.nan_to_num(q, nan=0) + quantized.along(quantized.zero_point, x.ndim).astype(np.float32)
        codes = np.clip(q, -128, 127).astype(np.int8)
    if nans:
        raise QuantizationError(f"to_int8: expected no NaN, got {nans} of {x.size}")
    codes.flags.writeable = False       # packed weights are made from them once
    return codes, quantized


def dequantize_codes(codes: np.ndarray, quantized: Quantized) -> np.ndarray:
    """scale * (code - zero_point) in float32; equation (1)."""
    if quantized.axis is None:
        return integers.dequantize(integers.to_unsigned(codes), quantized.scale, int(quantized.zero_point))
    zero = quantized.along(quantized.zero_point, codes.ndim).astype(np.int32)
    return quantized.along(quantized.scale, codes.ndim) * (codes.astype(np.int32) - zero).astype(np.float32)
