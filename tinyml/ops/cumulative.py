"""Sums, products and extremes of all elements up to each along a dimension."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from .. import checks
from ..state import Context
from .op import Gradients, Op, Sample, normal, sample


def _from_behind(x: np.ndarray, axis: int) -> np.ndarray:
    """Sums of each element and all after it."""
    return np.flip(np.cumsum(np.flip(x, axis), axis=axis), axis)


class CumSum(Op):
    """Sums of the elements of x up to each along `axis`."""

    name = "cumsum"
    promotes = "numbers"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, *, axis: int) -> np.ndarray:
        checks.fits("cumsum", axis, x.ndim)
        ctx.axis = axis
        return np.cumsum(x, axis=axis, dtype=x.dtype)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return (_from_behind(grad, ctx.axis),)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 4), axis=1)
        yield sample(normal(rng, 3, 4), axis=0)
        yield sample(normal(rng, 0, 4), axis=0)

    @staticmethod
    def parity(torch: Any, x: Any, axis: Any) -> Any:
        return torch.cumsum(x, axis)


class CumProd(Op):
    """Products of the elements of x up to each along `axis`.

    dx_i = sum of dy_j y_j / x_i over j >= i. At the first zero it is that sum with 1 in its place, behind it nothing.
    """

    name = "cumprod"
    promotes = "numbers"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, *, axis: int) -> np.ndarray:
        checks.fits("cumprod", axis, x.ndim)
        ctx.x, ctx.axis = x, axis
        ctx.y = y = np.cumprod(x, axis=axis, dtype=x.dtype)
        return y

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        x, axis, zero = ctx.x, ctx.axis, ctx.x == 0
        if not zero.any():
            return (_from_behind(grad * ctx.y, axis) / x,)
        zeros = np.cumsum(zero, axis=axis)
        first = zero & (zeros == 1)
        one = np.cumprod(np.where(first, x.dtype.type(1), x), axis=axis)
        dx = _from_behind(grad * ctx.y, axis) / np.where(zero, x.dtype.type(1), x)
        return (np.where(zeros == 0, dx, _from_behind(grad * one, axis) * first),)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        x = normal(rng, 3, 5)
        yield sample(x, axis=1)
        x = x.copy()
        x[0, 2] = x[1, 1] = x[1, 3] = x[2, 0] = 0
        yield sample(x, axis=1)
        yield sample(x, axis=0)

    @staticmethod
    def parity(torch: Any, x: Any, axis: Any) -> Any:
        return torch.cumprod(x, axis)


class _ArgCum(Op):
    """Base of the places of extremes so far; of equal ones the last."""

    any_dtype = True
    differentiable = False
    ufunc: ClassVar[Callable[..., Any]]

    @classmethod
    def forward(cls, ctx: Context, x: np.ndarray, *, axis: int) -> np.ndarray:
        checks.fits(cls.name, axis, x.ndim)
        found = cls.ufunc.accumulate(x, axis=axis)      # type: ignore[attr-defined]
        at = np.arange(x.shape[axis]).reshape([-1 if d == axis % x.ndim else 1 for d in range(x.ndim)])
        return np.maximum.accumulate(np.where((x == found) | (x != x), at, 0), axis=axis)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 6).round(), axis=1)
        yield sample(normal(rng, 6, 3), axis=0)

    @classmethod
    def parity(cls, torch: Any, x: Any, axis: Any) -> Any:
        return getattr(torch, cls.name.removeprefix("arg"))(x, axis).indices


class ArgCumMax(_ArgCum):
    """The place of the largest element of x up to each along `axis`; of equal ones the last."""

    name, ufunc = "argcummax", np.maximum


class ArgCumMin(_ArgCum):
    """The place of the smallest element of x up to each along `axis`; of equal ones the last."""

    name, ufunc = "argcummin", np.minimum
