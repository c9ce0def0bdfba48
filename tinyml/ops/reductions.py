"""Sums, means and extremes over dimensions. `axis` is one dimension, a tuple of them, or None for all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from .. import checks
from .._kernels.rows import sums
from ..errors import ShapeError
from ..tape import Context
from .op import Gradients, IntegerStep, Op, Operand, Sample, Target, normal, sample
from .pooling import AdaptiveAvgPool2d


def _expand(v: np.ndarray, shape: tuple[int, ...], axis: sums.Axis, keepdims: bool) -> np.ndarray:
    """A reduced array with its reduced dimensions back as 1."""
    if keepdims or axis is None:
        return v.reshape([1] * len(shape)) if axis is None and not keepdims else v
    return np.expand_dims(v, axis)


def _count(shape: tuple[int, ...], axis: sums.Axis) -> int:
    """How many elements of an array of `shape` become one."""
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return math.prod(shape[a] for a in axes)


class _Reduction(Op):
    """Base of reductions: the samples that all of them are tried on."""

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        x = normal(rng, 2, 3, 4)
        yield sample(x, axis=None, keepdims=False)
        yield sample(x, axis=1, keepdims=False)
        yield sample(x, axis=(0, -1), keepdims=True)
        yield sample(normal(rng), axis=None, keepdims=False)


class Sum(_Reduction):
    """Sum of x over `axis`; with keepdims the dimensions stay, as 1."""

    name = "sum"
    promotes = "numbers"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, *, axis: sums.Axis, keepdims: bool) -> np.ndarray:
        checks.fits("sum", axis, x.ndim)
        ctx.shape, ctx.axis, ctx.keepdims = x.shape, axis, keepdims
        if x.size <= sums.FEW:      # what `total` gives, which by itself takes a tenth of such an op's time
            return np.asarray(sums.add_reduce(x, axis, None, None, keepdims))
        return sums.total(x, axis, keepdims)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return (np.broadcast_to(_expand(grad, ctx.shape, ctx.axis, ctx.keepdims), ctx.shape),)

    @staticmethod
    def elements(x: tuple[int, ...], **attrs: Any) -> int:
        return math.prod(n or 1 for n in x)     # the sums of no elements are elements

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield from _Reduction.samples(rng)
        yield sample(normal(rng, 0, 3), axis=0, keepdims=False)

    @staticmethod
    def parity(torch: Any, x: Any, axis: Any, keepdims: Any) -> Any:
        return torch.sum(x, dim=axis, keepdim=keepdims) if axis is not None else torch.sum(x)


class Mean(_Reduction):
    """Mean of x over `axis`; with keepdims the dimensions stay, as 1.

    Raises:
        ShapeError: there are no elements to take the mean of.
    """

    name = "mean"
    int8 = "lower"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, *, axis: sums.Axis, keepdims: bool) -> np.ndarray:
        checks.fits("mean", axis, x.ndim)
        ctx.shape, ctx.axis, ctx.keepdims = x.shape, axis, keepdims
        if _count(x.shape, axis) == 0:
            raise ShapeError(f"mean: no elements along axis {axis} of a Tensor of shape {x.shape}")
        return sums.mean(x, axis, keepdims)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        g = grad / grad.dtype.type(_count(ctx.shape, ctx.axis))
        return (np.broadcast_to(_expand(g, ctx.shape, ctx.axis, ctx.keepdims), ctx.shape),)

    @classmethod
    def lower(cls, operands: list[Operand], target: Target, attrs: dict[str, Any]) -> IntegerStep | None:
        """The mean over both dimensions of images (B, C, H, W) is average pooling into one pixel."""
        axis, shape = attrs["axis"], operands[0].shape
        if len(shape) != 4 or not isinstance(axis, tuple) or {a % 4 for a in axis} != {2, 3} or not all(
                isinstance(n, int) for n in shape[2:]):
            return None
        lowered = AdaptiveAvgPool2d.lower(operands, target, {"outputs": (1, 1)})
        if lowered is not None and not attrs["keepdims"]:
            lowered.kind = "mean"
        return lowered

    @staticmethod
    def parity(torch: Any, x: Any, axis: Any, keepdims: Any) -> Any:
        return torch.mean(x, dim=axis, keepdim=keepdims) if axis is not None else torch.mean(x)


class _Extreme(_Reduction):
    """Base of max and min: the gradient is shared evenly among equals, as in PyTorch's amax.

    Attributes:
        function: NumPy's function that picks the extreme.
    """

    function: ClassVar[Callable[..., np.ndarray]]

    @classmethod
    def forward(cls, ctx: Context, x: np.ndarray, *, axis: sums.Axis, keepdims: bool) -> np.ndarray:
        checks.fits(cls.name, axis, x.ndim)
        if _count(x.shape, axis) == 0:
            raise ShapeError(f"{cls.name}: no elements along axis {axis} of a Tensor of shape {x.shape}")
        ctx.x, ctx.axis, ctx.keepdims = x, axis, keepdims
        ctx.y = y = np.asarray(cls.function(x, axis=axis, keepdims=keepdims))
        return y

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        hit = ctx.x == _expand(ctx.y, ctx.x.shape, ctx.axis, ctx.keepdims)
        shared = hit / hit.sum(axis=ctx.axis, keepdims=True).astype(grad.dtype)
        return (_expand(grad, ctx.x.shape, ctx.axis, ctx.keepdims) * shared,)

    @classmethod
    def parity(cls, torch: Any, x: Any, axis: Any, keepdims: Any) -> Any:
        return getattr(torch, f"a{cls.name}")(x, dim=axis if axis is not None else (), keepdim=keepdims)


class Max(_Extreme):
    """Largest element of x over `axis`; with keepdims the dimensions stay, as 1.

    Raises:
        ShapeError: there are no elements to pick from.
    """

    name, promotes, function = "max", "numbers", staticmethod(np.max)


class Min(_Extreme):
    """Smallest element of x over `axis`; with keepdims the dimensions stay, as 1.

    Raises:
        ShapeError: there are no elements to pick from.
    """

    name, promotes, function = "min", "numbers", staticmethod(np.min)


class _Truth(Op):
    """Base of any and all of the elements of x over `axis`, which are true unless 0; with keepdims the dimensions stay."""

    any_dtype = True
    differentiable = False
    function: ClassVar[Callable[..., Any]]

    @classmethod
    def forward(cls, ctx: Context, x: np.ndarray, *, axis: sums.Axis, keepdims: bool) -> np.ndarray:
        checks.fits(cls.name, axis, x.ndim)
        found = np.asarray(cls.function(x, axis=axis, keepdims=keepdims))
        return found.astype(np.uint8) if x.dtype == np.uint8 else found     # as PyTorch has it

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        x = normal(rng, 2, 3, 4).round()
        yield sample(x, axis=None, keepdims=False)
        yield sample(x, axis=(0, -1), keepdims=True)

    @classmethod
    def parity(cls, torch: Any, x: Any, axis: Any, keepdims: Any) -> Any:
        return getattr(torch, cls.name)(x, axis, keepdims)


class Any_(_Truth):
    """Whether any element of x over `axis` is not 0."""

    name, function = "any", staticmethod(np.any)


class All(_Truth):
    """Whether all elements of x over `axis` are not 0."""

    name, function = "all", staticmethod(np.all)
