"""Pointwise functions of one Tensor of any shape; in integer plans each is a 256-entry table derived from its forward."""

import math
from functools import partial

import numpy as np

from .._kernels import memory
from .._kernels.rows.pointwise import pointwise, pointwise_grad
from ..errors import DtypeError, QuantizationError
from .op import Op, in_memory, normal, sample


class Pointwise(Op):
    """Base of functions of one number: the rule "table", and the samples that most of them share."""

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
    """Exponential: y = e^x."""

    name = "exp"

    @staticmethod
    def forward(ctx, x):
        ctx.y = pointwise("exp", x)
        return ctx.y

    @staticmethod
    def backward(ctx, grad):
        return (grad * ctx.y,)


class Log(_Positive):
    """Natural logarithm: y = ln x; -inf at 0, NaN below."""

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


class Sqrt(_Positive):
    """Square root: y = sqrt(x); NaN below 0."""

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


class Abs(Pointwise):
    """Absolute value: y = |x|; the gradient is 0 at 0."""

    name = "abs"

    @staticmethod
    def forward(ctx, x):
        ctx.x = x
        return np.abs(x)

    @staticmethod
    def backward(ctx, grad):
        return (grad * np.sign(ctx.x),)


class Round(Pointwise):
    """Nearest integer: y = x rounded, ties to even; the gradient is 0."""

    name = "round"

    @staticmethod
    def forward(ctx, x):
        return np.rint(x)

    @staticmethod
    def backward(ctx, grad):
        return (np.zeros_like(grad),)


class Clip(Pointwise):
    """Clamp: y = min(max(x, lo), hi), lo and hi numbers; the gradient is 0 outside [lo, hi]."""

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
    def clamp(*, lo, hi):
        return lo, hi

    @staticmethod
    def bind(out, x, *, lo, hi):
        return partial(in_memory(x).clip, np.float32(lo), np.float32(hi), out=in_memory(out))

    @staticmethod
    def samples(rng):
        yield sample(normal(rng, 3, 4), lo=-0.5, hi=0.7)
        yield sample(normal(rng, 3, 4), lo=-math.inf, hi=0.1)
        yield sample(normal(rng, 0, 4), lo=0.0, hi=6.0)

    @staticmethod
    def parity(torch, x, lo, hi):
        return torch.clamp(x, lo, hi)


class ReLU(Pointwise):
    """Rectifier: y = max(x, 0) (Nair & Hinton 2010); the gradient is 0 at 0."""

    name = "relu"
    keeps_scaling = True

    @staticmethod
    def forward(ctx, x):
        y = np.maximum(x, 0, out=memory.empty_like(x))
        ctx.y = y if ctx.needs[0] else None
        return y

    @staticmethod
    def backward(ctx, grad):
        return (pointwise_grad("relu", ctx.y, grad),)

    @staticmethod
    def clamp():
        return 0.0, math.inf

    @staticmethod
    def bind(out, x):
        return partial(np.maximum, in_memory(x), np.float32(0), out=in_memory(out))


class _FromResult(Pointwise):
    """Base of functions whose kernels have their name, and whose gradient follows from the result."""

    @classmethod
    def forward(cls, ctx, x):
        ctx.y = pointwise(cls.name, x)
        return ctx.y

    @classmethod
    def backward(cls, ctx, grad):
        return (pointwise_grad(cls.name, ctx.y, grad),)


class Sigmoid(_FromResult):
    """Logistic function: y = 1 / (1 + e^-x), with the derivative y (1 - y)."""

    name = "sigmoid"


class Tanh(_FromResult):
    """Hyperbolic tangent: y = (e^x - e^-x) / (e^x + e^-x), with the derivative 1 - y^2."""

    name = "tanh"


class SiLU(Pointwise):
    """Sigmoid-weighted linear unit: y = x * sigmoid(x) (Elfwing et al. 2017)."""

    name = "silu"

    @staticmethod
    def forward(ctx, x):
        ctx.x = x
        return pointwise("silu", x)

    @staticmethod
    def backward(ctx, grad):
        return (pointwise_grad("silu", ctx.x, grad),)


class GELU(Pointwise):
    """Gaussian error linear unit: y = x * Phi(x), Phi the normal distribution function (Hendrycks & Gimpel 2016).

    With approximate="tanh" instead of "none": y = x/2 * (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
    """

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


class Cast(Op):
    """The elements in another dtype, the name `dtype` of a float or integer one; the gradient is cast back.

    Raises:
        QuantizationError: a finite number is too large for float16; DtypeError: NaN or infinity is to become an integer.
    """

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
