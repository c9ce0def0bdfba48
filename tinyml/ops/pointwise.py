"""Pointwise functions of one Tensor; in integer plans each is a 256-entry table derived from its forward."""

from __future__ import annotations

import math

import numpy as np

from .._kernels import memory
from .._kernels.rows.pointwise import pointwise, pointwise_grad
from ..errors import DtypeError, QuantizationError
from .op import Op, normal, sample


class Pointwise(Op):
    """Base: the table rule, and samples that most functions share."""

    int8 = "table"

    @staticmethod
    def samples(rng):
        yield sample(normal(rng, 3, 4))
        yield sample(3 * normal(rng, 2, 1, 5))
        yield sample(normal(rng, 0, 2))


class _Positive(Pointwise):
    """Base of functions that need x > 0 to be differentiable."""

    @staticmethod
    def samples(rng):
        yield sample(np.abs(normal(rng, 3, 4)) + 0.2)
        yield sample(np.abs(normal(rng, 0, 2)))


class Exp(Pointwise):
    """y = e^x."""

    name = "exp"

    @staticmethod
    def forward(ctx, x):
        ctx.y = pointwise("exp", x)
        return ctx.y

    @staticmethod
    def backward(ctx, grad):
        return (grad * ctx.y,)

    @staticmethod
    def parity(torch, x):
        return torch.exp(x)


class Log(_Positive):
    """y = ln x; -inf at 0, NaN below."""

    name = "log"

    @staticmethod
    def forward(ctx, x):
        ctx.x = x
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(x)

    @staticmethod
    def backward(ctx, grad):
        with np.errstate(divide="ignore"):
            return (grad / ctx.x,)

    @staticmethod
    def parity(torch, x):
        return torch.log(x)


class Sqrt(_Positive):
    """y = sqrt(x); NaN below 0."""

    name = "sqrt"

    @staticmethod
    def forward(ctx, x):
        with np.errstate(invalid="ignore"):
            ctx.y = np.sqrt(x)
        return ctx.y

    @staticmethod
    def backward(ctx, grad):
        with np.errstate(divide="ignore", invalid="ignore"):
            return (grad / (2 * ctx.y),)

    @staticmethod
    def parity(torch, x):
        return torch.sqrt(x)


class Abs(Pointwise):
    """y = |x|, gradient 0 at 0."""

    name = "abs"

    @staticmethod
    def forward(ctx, x):
        ctx.x = x
        return np.abs(x)

    @staticmethod
    def backward(ctx, grad):
        return (grad * np.sign(ctx.x),)

    @staticmethod
    def parity(torch, x):
        return torch.abs(x)


class Round(Pointwise):
    """y = x rounded to the nearest integer, ties to even; the gradient is 0."""

    name = "round"

    @staticmethod
    def forward(ctx, x):
        return np.rint(x)

    @staticmethod
    def backward(ctx, grad):
        return (np.zeros_like(grad),)

    @staticmethod
    def parity(torch, x):
        return torch.round(x)


class Clip(Pointwise):
    """y = min(max(x, lo), hi); the gradient is 0 outside [lo, hi]."""

    name = "clip"

    @staticmethod
    def forward(ctx, x, *, lo, hi):
        with np.errstate(over="ignore"):        # a bound beyond the dtype is infinite in it
            lo, hi = x.dtype.type(lo), x.dtype.type(hi)
        ctx.inside = (x >= lo) & (x <= hi) if ctx.needs[0] else None
        return np.clip(x, lo, hi)

    @staticmethod
    def backward(ctx, grad):
        return (grad * ctx.inside,)

    @staticmethod
    def samples(rng):
        yield sample(normal(rng, 3, 4), lo=-0.5, hi=0.7)
        yield sample(normal(rng, 3, 4), lo=-math.inf, hi=0.1)
        yield sample(normal(rng, 0, 4), lo=0.0, hi=6.0)

    @staticmethod
    def parity(torch, x, lo, hi):
        return torch.clamp(x, lo, hi)


class ReLU(Pointwise):
    """y = max(x, 0)."""

    name = "relu"

    @staticmethod
    def forward(ctx, x):
        y = np.maximum(x, 0, out=memory.empty_like(x))
        ctx.y = y if ctx.needs[0] else None
        return y

    @staticmethod
    def backward(ctx, grad):
        return (pointwise_grad("relu", ctx.y, grad),)

    @staticmethod
    def parity(torch, x):
        return torch.relu(x)


class Sigmoid(Pointwise):
    """y = 1 / (1 + e^-x)."""

    name = "sigmoid"

    @staticmethod
    def forward(ctx, x):
        ctx.y = pointwise("sigmoid", x)
        return ctx.y

    @staticmethod
    def backward(ctx, grad):
        return (pointwise_grad("sigmoid", ctx.y, grad),)

    @staticmethod
    def parity(torch, x):
        return torch.sigmoid(x)


class Tanh(Pointwise):
    """y = tanh x."""

    name = "tanh"

    @staticmethod
    def forward(ctx, x):
        ctx.y = pointwise("tanh", x)
        return ctx.y

    @staticmethod
    def backward(ctx, grad):
        return (pointwise_grad("tanh", ctx.y, grad),)

    @staticmethod
    def parity(torch, x):
        return torch.tanh(x)


class SiLU(Pointwise):
    """y = x * sigmoid(x) (Elfwing et al. 2017)."""

    name = "silu"

    @staticmethod
    def forward(ctx, x):
        ctx.x = x
        return pointwise("silu", x)

    @staticmethod
    def backward(ctx, grad):
        return (pointwise_grad("silu", ctx.x, grad),)

    @staticmethod
    def parity(torch, x):
        return torch.nn.functional.silu(x)


class GELU(Pointwise):
    """y = x * Phi(x), or its tanh form x/2 * (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) (Hendrycks & Gimpel 2016)."""

    name = "gelu"

    @staticmethod
    def forward(ctx, x, *, approximate):
        ctx.x, ctx.kernel = x, "gelu" if approximate == "none" else "gelu_tanh"
        return pointwise(ctx.kernel, x)

    @staticmethod
    def backward(ctx, grad):
        return (pointwise_grad(ctx.kernel, ctx.x, grad),)

    @staticmethod
    def samples(rng):
        for approximate in ("none", "tanh"):
            for s in Pointwise.samples(rng):
                yield sample(*s.inputs, approximate=approximate)

    @staticmethod
    def parity(torch, x, approximate):
        return torch.nn.functional.gelu(x, approximate=approximate)


class Cast(Op):
    """The elements in another float dtype (or integers as floats, floats as integers); the gradient is cast back."""

    name = "cast"
    any_dtype = True

    @staticmethod
    def forward(ctx, x, *, dtype):
        ctx.dtype = x.dtype
        if dtype == "float16" and x.size:
            with np.errstate(invalid="ignore"):
                worst = np.abs(x[np.isfinite(x)]).max(initial=0)
            if worst > 65504:
                raise QuantizationError(f"cast: {worst:.6g} does not fit float16, whose largest value is 65504")
        if x.dtype.kind == "f" and np.dtype(dtype).kind != "f" and not np.isfinite(x).all():
            raise DtypeError(f"cast: NaN or infinity cannot become {dtype}")
        return x.astype(dtype)

    @staticmethod
    def backward(ctx, grad):
        return (grad.astype(ctx.dtype),)

    @staticmethod
    def samples(rng):
        yield sample(normal(rng, 3, 2), dtype="float64")

    @staticmethod
    def parity(torch, x, dtype):
        return x.to(getattr(torch, dtype))
