"""Reductions with a gradient of their own: products, norms, the logarithm of sums of exponentials, singular values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import checks
from .._kernels.rows import sums
from ..errors import ShapeError
from ..state import Context
from .op import Gradients, Op, Sample, normal, sample
from .reductions import _count, _expand, _Reduction


class Prod(_Reduction):
    """Product of x over `axis`. The gradient at a zero is the product of the others."""

    name = "prod"
    promotes = "numbers"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, *, axis: sums.Axis, keepdims: bool) -> np.ndarray:
        checks.fits("prod", axis, x.ndim)
        ctx.x, ctx.axis, ctx.keepdims = x, axis, keepdims
        ctx.y = y = np.asarray(np.prod(x, axis=axis, dtype=x.dtype, keepdims=keepdims))
        return y

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        x, axis, zero = ctx.x, ctx.axis, ctx.x == 0
        g, y = (_expand(v, x.shape, axis, ctx.keepdims) for v in (grad, ctx.y))
        if not zero.any():
            return (g * y / x,)
        filled, zeros = np.where(zero, x.dtype.type(1), x), zero.sum(axis=axis, keepdims=True)
        others = np.prod(filled, axis=axis, keepdims=True) * (zero & (zeros == 1))
        return (g * np.where(zeros == 0, y / filled, others),)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield from _Reduction.samples(rng)
        x = normal(rng, 3, 4)
        x[0, 1] = x[1, 1] = x[1, 2] = 0
        yield sample(x, axis=1, keepdims=False)

    @staticmethod
    def parity(torch: Any, x: Any, axis: Any, keepdims: Any) -> Any:
        if axis is None:
            return torch.prod(x)
        for d in sorted((a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,))), reverse=True):
            x = torch.prod(x, d, keepdims)
        return x


class LogSumExp(_Reduction):
    """ln of the sum of exp(x) over `axis`, without overflow."""

    name = "logsumexp"
    promotes = "floats"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, *, axis: sums.Axis, keepdims: bool) -> np.ndarray:
        checks.fits("logsumexp", axis, x.ndim)
        ctx.x, ctx.axis, ctx.keepdims = x, axis, keepdims
        top = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
        top = np.where(np.isinf(top), x.dtype.type(0), top)
        with np.errstate(divide="ignore"):      # the logarithm of no terms is -inf
            y = np.log(sums.total(np.exp(x - top), axis, True)) + top
        ctx.y = y
        return y if keepdims else np.asarray(np.squeeze(y, axis))

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        finite = np.where(np.isinf(ctx.y), ctx.y.dtype.type(0), ctx.y)
        return (_expand(grad, ctx.x.shape, ctx.axis, ctx.keepdims) * np.exp(ctx.x - finite),)

    @staticmethod
    def parity(torch: Any, x: Any, axis: Any, keepdims: Any) -> Any:
        return torch.logsumexp(x, tuple(range(x.ndim)) if axis is None else axis, keepdims)


class VectorNorm(_Reduction):
    """(sum of |x|^ord)^(1/ord) over `axis`; for ord inf and -inf the largest and smallest |x|, for 0 how many are not 0.

    Where the norm is 0, so is the gradient.

    Raises:
        ShapeError: no elements, for an ord that has no norm of them.
    """

    name = "vector_norm"
    promotes = "floats"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, *, axis: sums.Axis, keepdims: bool, ord: float) -> np.ndarray:
        checks.fits("vector_norm", axis, x.ndim)
        ctx.x, ctx.axis, ctx.keepdims, ctx.ord = x, axis, keepdims, ord
        if _count(x.shape, axis) == 0 and (ord < 0 or ord == math.inf):
            raise ShapeError(f"vector_norm: no elements along axis {axis} of a Tensor of shape {x.shape}, for ord {ord}")
        size = None if ord == 2 else np.abs(x)
        if size is None:
            y = np.sqrt(sums.total(x * x, axis, keepdims))
        elif math.isinf(ord):
            y = (np.max if ord > 0 else np.min)(size, axis=axis, keepdims=keepdims)
        elif ord == 0:
            y = sums.total((x != 0).astype(x.dtype), axis, keepdims)
        else:
            with np.errstate(divide="ignore"):      # 0 to a negative power
                y = sums.total(size if ord == 1 else size ** x.dtype.type(ord), axis, keepdims)
                y = y if ord == 1 else y ** x.dtype.type(1 / ord)
        ctx.y = found = np.asarray(y)
        return found

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        x, ord = ctx.x, ctx.ord
        g, y = (_expand(v, x.shape, ctx.axis, ctx.keepdims) for v in (grad, ctx.y))
        if ord == 2:
            return (x * np.divide(g, y, out=np.zeros(y.shape, x.dtype), where=y != 0),)
        if ord == 0:
            return (np.zeros_like(x),)
        if ord == 1:
            return (g * np.sign(x),)
        size = np.abs(x)
        if math.isinf(ord):
            hit = size == y
            return (g * np.sign(x) * hit / hit.sum(axis=ctx.axis, keepdims=True).astype(x.dtype),)
        ratio = np.divide(size, y, out=np.zeros_like(x), where=(y != 0) & (size != 0))
        np.power(ratio, x.dtype.type(ord - 1), out=ratio, where=ratio != 0)
        return (g * np.sign(x) * ratio,)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        x = normal(rng, 2, 3, 4)
        for ord in (2, 1, 0, 3, 0.5, -2, math.inf, -math.inf):
            yield sample(x, axis=(0, -1), keepdims=False, ord=ord)
        yield sample(x, axis=None, keepdims=True, ord=2)
        yield sample(normal(rng), axis=None, keepdims=False, ord=2)

    @staticmethod
    def parity(torch: Any, x: Any, axis: Any, keepdims: Any, ord: Any) -> Any:
        return torch.linalg.vector_norm(x, ord, axis, keepdims)


class SingularValues(Op):
    """The singular values of each matrix of x (..., M, N), from the largest on: (..., min(M, N)).

    dx = U diag(ds) V^T.
    """

    name = "svdvals"
    promotes = "floats"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray) -> np.ndarray:
        if x.ndim < 2:
            raise ShapeError(f"svdvals: expected a matrix or a batch of them, got shape {x.shape}")
        ctx.u, s, ctx.v = np.linalg.svd(x, full_matrices=False)
        return s

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return ((ctx.u * grad[..., None, :]) @ ctx.v,)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 4))
        yield sample(normal(rng, 2, 4, 3))

    @staticmethod
    def parity(torch: Any, x: Any) -> Any:
        return torch.linalg.svdvals(x)
