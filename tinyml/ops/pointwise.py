"""Pointwise functions of one Tensor of any shape; in integer plans each is a 256-entry table derived from its forward."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from .._kernels import memory
from .._kernels.rows.elementwise import elementwise
from .._kernels.rows.pointwise import pointwise, pointwise_grad
from ..errors import DtypeError, QuantizationError
from ..tape import Context
from .op import Gradients, Op, Sample, in_memory, normal, sample


class Pointwise(Op):
    """Base of functions of one number: the rule "table", and the samples that most of them share."""

    int8 = "table"

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 4))
        yield sample(3 * normal(rng, 2, 1, 5))
        yield sample(normal(rng, 0, 2))


class _Positive(Pointwise):
    """Base of functions that need x > 0 to be differentiable."""

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(np.abs(normal(rng, 3, 4)) + 0.2)
        yield sample(np.abs(normal(rng, 0, 2)))


class Exp(Pointwise):
    """Exponential: y = e^x."""

    name = "exp"
    promotes = "floats"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray) -> np.ndarray:
        ctx.y = y = pointwise("exp", x)
        return y

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return (grad * ctx.y,)


class Log(_Positive):
    """Natural logarithm: y = ln x; -inf at 0, NaN below."""

    name = "log"
    promotes = "floats"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray) -> np.ndarray:
        ctx.x = x
        with np.errstate(divide="ignore", invalid="ignore"):
            y: np.ndarray = np.log(x)
        return y

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        with np.errstate(divide="ignore"):
            return (grad / ctx.x,)


class Sqrt(_Positive):
    """Square root: y = sqrt(x); NaN below 0."""

    name = "sqrt"
    promotes = "floats"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            y: np.ndarray = np.sqrt(x)
        ctx.y = y
        return y

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        with np.errstate(divide="ignore", invalid="ignore"):
            return (grad / (2 * ctx.y),)


def sign(x: np.ndarray) -> np.ndarray:
    """-1, 0 or 1 as x is below, at or above 0; 0 for NaN, as in PyTorch."""
    return x.copy() if x.dtype == bool else np.asarray((x > 0).view(np.int8) - (x < 0).view(np.int8)).astype(x.dtype)


class Abs(Pointwise):
    """Absolute value: y = |x|; the gradient is 0 at 0."""

    name = "abs"
    promotes = "numbers"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray) -> np.ndarray:
        ctx.x = x
        y: np.ndarray = np.abs(x)
        return y

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return (elementwise(np.multiply, grad, sign(ctx.x)),)


class Clip(Pointwise):
    """Clamp: y = min(max(x, lo), hi), lo and hi numbers; the gradient is 0 outside [lo, hi]."""

    name = "clip"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, *, lo: float, hi: float) -> np.ndarray:
        with np.errstate(over="ignore"):        # a bound beyond the dtype is infinite in it
            lo, hi = x.dtype.type(lo), x.dtype.type(hi)
        ctx.x, ctx.lo, ctx.hi = x, lo, hi
        y: np.ndarray = np.clip(x, lo, hi)
        return y

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return (elementwise(np.multiply, grad, (ctx.x >= ctx.lo) & (ctx.x <= ctx.hi)),)

    @staticmethod
    def clamp(**attrs: Any) -> tuple[float, float]:
        return attrs["lo"], attrs["hi"]

    @staticmethod
    def bind(out: np.ndarray, x: np.ndarray, *, lo: float, hi: float) -> Callable[[], object] | None:
        return partial(in_memory(x).clip, np.float32(lo), np.float32(hi), out=in_memory(out))

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 4), lo=-0.5, hi=0.7)
        yield sample(normal(rng, 3, 4), lo=-math.inf, hi=0.1)
        yield sample(normal(rng, 0, 4), lo=0.0, hi=6.0)

    @staticmethod
    def parity(torch: Any, x: Any, lo: Any, hi: Any) -> Any:
        return torch.clamp(x, lo, hi)


class NanToNum(Pointwise):
    """x with the numbers `nan` for NaN, `posinf` and `neginf` for the infinities. The gradient is 0 there."""

    name = "nan_to_num"
    promotes = "numbers"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, *, nan: float, posinf: float, neginf: float) -> np.ndarray:
        ctx.x = x
        return np.asarray(np.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf), x.dtype)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return (elementwise(np.multiply, grad, np.isfinite(ctx.x)),)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 4), nan=0.0, posinf=9.0, neginf=-9.0)
        yield sample(np.array([0.5, np.inf, -np.inf, np.nan]), nan=0.25, posinf=2.0, neginf=-3.0)


class ReLU(Pointwise):
    """Rectifier: y = max(x, 0) (Nair & Hinton 2010); the gradient is 0 at 0."""

    name = "relu"
    bools = False
    promotes = "numbers"
    keeps_scaling = True

    @staticmethod
    def forward(ctx: Context, x: np.ndarray) -> np.ndarray:
        y: np.ndarray = np.maximum(x, 0, out=memory.empty_like(x))
        ctx.y = y if ctx.needs[0] else None
        return y

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return (pointwise_grad("relu", ctx.y, grad),)

    @staticmethod
    def clamp(**attrs: Any) -> tuple[float, float]:
        return 0.0, math.inf

    @staticmethod
    def bind(out: np.ndarray, x: np.ndarray) -> Callable[[], object] | None:
        return partial(np.maximum, in_memory(x), np.float32(0), out=in_memory(out))


class _FromResult(Pointwise):
    """Base of functions whose kernels have their name, and whose gradient follows from the result."""

    @classmethod
    def forward(cls, ctx: Context, x: np.ndarray) -> np.ndarray:
        ctx.y = y = pointwise(cls.name, x)
        return y

    @classmethod
    def backward(cls, ctx: Context, grad: np.ndarray) -> Gradients:
        return (pointwise_grad(cls.name, ctx.y, grad),)


class Sigmoid(_FromResult):
    """Logistic function: y = 1 / (1 + e^-x), with the derivative y (1 - y)."""

    name = "sigmoid"
    promotes = "floats"


class Tanh(_FromResult):
    """Hyperbolic tangent: y = (e^x - e^-x) / (e^x + e^-x), with the derivative 1 - y^2."""

    name = "tanh"
    promotes = "floats"


class SiLU(Pointwise):
    """Sigmoid-weighted linear unit: y = x * sigmoid(x) (Elfwing et al. 2017)."""

    name = "silu"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray) -> np.ndarray:
        ctx.x = x
        return pointwise("silu", x)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return (pointwise_grad("silu", ctx.x, grad),)


class GELU(Pointwise):
    """Gaussian error linear unit: y = x * Phi(x), Phi the normal distribution function (Hendrycks & Gimpel 2016).

    With approximate="tanh" instead of "none": y = x/2 * (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
    """

    name = "gelu"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, *, approximate: str) -> np.ndarray:
        ctx.x, ctx.kernel = x, "gelu" if approximate == "none" else "gelu_tanh"
        return pointwise(ctx.kernel, x)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return (pointwise_grad(ctx.kernel, ctx.x, grad),)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
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
    def forward(ctx: Context, x: np.ndarray, *, dtype: str) -> np.ndarray:
        ctx.dtype = x.dtype
        if dtype == "float16" and x.size:
            with np.errstate(invalid="ignore"):
                worst = np.abs(x[np.isfinite(x)]).max(initial=0)
            if worst > 65504:
                raise QuantizationError(f"cast: {worst:.6g} does not fit float16, whose largest value is 65504")
        if x.dtype.kind == "f" and np.dtype(dtype).kind in "iu" and not np.isfinite(x).all():
            raise DtypeError(f"cast: NaN or infinity cannot become {dtype}")
        return x.astype(dtype)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return (grad.astype(ctx.dtype),)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 2), dtype="float64")

    @staticmethod
    def parity(torch: Any, x: Any, dtype: Any) -> Any:
        return x.to(getattr(torch, dtype))
