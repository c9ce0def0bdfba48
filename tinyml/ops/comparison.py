"""Comparisons of two operands: the results are bools, through which no gradient flows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from ..errors import DtypeError
from ..state import Context
from .arithmetic import count_dims_by_sample
from .op import Op, Sample, misfit, normal, sample


class _Comparison(Op):
    """Base of comparisons of two operands that broadcast.

    Attributes:
        ufunc: NumPy's function that compares.
    """

    promotes = "numbers"
    differentiable = False
    ufunc: ClassVar[np.ufunc]

    @classmethod
    def forward(cls, ctx: Context, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        try:
            return np.asarray(cls.ufunc(a, b))      # not by `broadcast`, whose large results have the dtype of the operands
        except ValueError:
            raise misfit(cls.name, a, b) from None

    @classmethod
    def by_sample(cls, ndims: list[int], constants: list[np.ndarray], **attrs: Any) -> int | None:
        return count_dims_by_sample(ndims, constants)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 4), normal(rng, 3, 4))
        yield sample(normal(rng, 2, 1, 4).round(), normal(rng, 3, 1).round())
        yield sample(np.array([np.nan, np.inf, 0.0]), normal(rng))
        yield sample(normal(rng, 0, 3), normal(rng, 1, 3))


class Eq(_Comparison):
    """Equality: a == b elementwise; operands a, b of any shapes that broadcast."""

    name, ufunc = "eq", np.equal


class Ne(_Comparison):
    """Inequality: a != b elementwise; operands a, b of any shapes that broadcast."""

    name, ufunc = "ne", np.not_equal


class Lt(_Comparison):
    """Order: a < b elementwise; operands a, b of any shapes that broadcast."""

    name, ufunc = "lt", np.less


class Le(_Comparison):
    """Order: a <= b elementwise; operands a, b of any shapes that broadcast."""

    name, ufunc = "le", np.less_equal


class Gt(_Comparison):
    """Order: a > b elementwise; operands a, b of any shapes that broadcast."""

    name, ufunc = "gt", np.greater


class LogicalAnd(_Comparison):
    """Whether both are not 0; operands a, b of any shapes that broadcast."""

    name, ufunc = "logical_and", np.logical_and


class LogicalOr(_Comparison):
    """Whether one or both are not 0; operands a, b of any shapes that broadcast."""

    name, ufunc = "logical_or", np.logical_or


class LogicalXor(_Comparison):
    """Whether exactly one of both is not 0; operands a, b of any shapes that broadcast."""

    name, ufunc = "logical_xor", np.logical_xor


class _Bits(_Comparison):
    """Base of functions of the bits of integers, or of bools.

    Raises:
        DtypeError: floats.
    """

    @classmethod
    def forward(cls, ctx: Context, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if a.dtype.kind == "f":
            raise DtypeError(f"{cls.name}: expected integers or bools, got {a.dtype}")
        return super().forward(ctx, a, b)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(rng.integers(0, 99, (3, 4)), rng.integers(0, 9, (3, 4)))
        yield sample(rng.integers(0, 99, (2, 1, 4)), rng.integers(0, 9, (3, 1)))


class BitwiseAnd(_Bits):
    """The bits that both have; operands a, b of any shapes that broadcast."""

    name, ufunc = "bitwise_and", np.bitwise_and


class BitwiseOr(_Bits):
    """The bits that one or both have; operands a, b of any shapes that broadcast."""

    name, ufunc = "bitwise_or", np.bitwise_or


class BitwiseXor(_Bits):
    """The bits that exactly one of both has; operands a, b of any shapes that broadcast."""

    name, ufunc = "bitwise_xor", np.bitwise_xor


class LeftShift(_Bits):
    """a with its bits moved up by b places; operands a, b of any shapes that broadcast."""

    name, ufunc = "bitwise_left_shift", np.left_shift


class RightShift(_Bits):
    """a with its bits moved down by b places; operands a, b of any shapes that broadcast."""

    name, ufunc = "bitwise_right_shift", np.right_shift


class Ge(_Comparison):
    """Order: a >= b elementwise; operands a, b of any shapes that broadcast."""

    name, ufunc = "ge", np.greater_equal


class IsClose(_Comparison):
    """Whether |a - b| <= atol + rtol |b|; infinities are close where they are equal; with equal_nan so is NaN to NaN."""

    name = "isclose"

    @classmethod
    def forward(cls, ctx: Context, a: np.ndarray, b: np.ndarray, **attrs: Any) -> np.ndarray:
        try:
            with np.errstate(invalid="ignore"):
                return np.asarray(np.isclose(a, b, **attrs))
        except ValueError:
            raise misfit(cls.name, a, b) from None

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for s in _Comparison.samples(rng):
            yield sample(*s.inputs, rtol=0.5, atol=0.25, equal_nan=True)


class IsIn(Op):
    """Whether each element of x is among those of another operand."""

    name = "isin"
    promotes = "numbers"
    differentiable = False

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, others: np.ndarray) -> np.ndarray:
        return np.asarray(np.isin(x, others))

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 4).round(), normal(rng, 5).round())
