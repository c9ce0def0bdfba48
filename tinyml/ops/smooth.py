"""Functions of one number that NumPy computes: each is its function and its derivative."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from .._kernels.rows.elementwise import choose, elementwise
from ..tape import Context
from .op import Gradients, Op, Sample, normal, sample
from .pointwise import Pointwise, sign


class _Smooth(Pointwise):
    """Base: a subclass has a `function` of NumPy and its `slope`, of x and of the result y.

    Attributes:
        function: what forward computes.
        domain: where samples are drawn from.
    """

    promotes = "floats"
    function: ClassVar[Any]
    domain: ClassVar[tuple[float, float]] = (-2.0, 2.0)

    @staticmethod
    def slope(x: np.ndarray, y: np.ndarray) -> Any:
        """The derivative of the function at x, where it is y."""
        raise NotImplementedError

    @classmethod
    def forward(cls, ctx: Context, x: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            y = np.asarray(elementwise(cls.function, x))
        ctx.x, ctx.y = x, y
        return y

    @classmethod
    def backward(cls, ctx: Context, grad: np.ndarray) -> Gradients:
        with np.errstate(all="ignore"):
            slope = cls.slope(ctx.x, ctx.y)
            return (elementwise(np.multiply, grad, np.asarray(slope, grad.dtype)),)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        lo, hi = cls.domain
        yield sample(rng.uniform(lo, hi, (3, 4)))
        yield sample(rng.uniform(lo, hi, (2, 1, 5)))
        yield sample(rng.uniform(lo, hi, (0, 2)))

    @classmethod
    def parity(cls, torch: Any, x: Any) -> Any:
        return getattr(torch, cls.name)(x)


class Sin(_Smooth):
    """Sine: y = sin x, x in radians, with the derivative cos x."""

    name, function, slope = "sin", np.sin, staticmethod(lambda x, y: np.cos(x))


class Cos(_Smooth):
    """Cosine: y = cos x, x in radians, with the derivative -sin x."""

    name, function, slope = "cos", np.cos, staticmethod(lambda x, y: -np.sin(x))


class Tan(_Smooth):
    """Tangent: y = tan x, x in radians, with the derivative 1 + y^2."""

    name, function, slope = "tan", np.tan, staticmethod(lambda x, y: 1 + y * y)
    domain = (-1.2, 1.2)


class Asin(_Smooth):
    """Inverse sine, in radians, with the derivative 1 / sqrt(1 - x^2); NaN outside [-1, 1]."""

    name, function, slope = "asin", np.arcsin, staticmethod(lambda x, y: 1 / np.sqrt(1 - x * x))
    domain = (-0.8, 0.8)


class Acos(_Smooth):
    """Inverse cosine, in radians, with the derivative -1 / sqrt(1 - x^2); NaN outside [-1, 1]."""

    name, function, slope = "acos", np.arccos, staticmethod(lambda x, y: -1 / np.sqrt(1 - x * x))
    domain = (-0.8, 0.8)


class Atan(_Smooth):
    """Inverse tangent, in radians, with the derivative 1 / (1 + x^2)."""

    name, function, slope = "atan", np.arctan, staticmethod(lambda x, y: 1 / (1 + x * x))


class Sinh(_Smooth):
    """Hyperbolic sine: y = (e^x - e^-x) / 2, with the derivative cosh x."""

    name, function, slope = "sinh", np.sinh, staticmethod(lambda x, y: np.cosh(x))


class Cosh(_Smooth):
    """Hyperbolic cosine: y = (e^x + e^-x) / 2, with the derivative sinh x."""

    name, function, slope = "cosh", np.cosh, staticmethod(lambda x, y: np.sinh(x))


class Asinh(_Smooth):
    """Inverse hyperbolic sine: y = ln(x + sqrt(x^2 + 1)), with the derivative 1 / sqrt(x^2 + 1)."""

    name, function, slope = "asinh", np.arcsinh, staticmethod(lambda x, y: 1 / np.sqrt(x * x + 1))


class Acosh(_Smooth):
    """Inverse hyperbolic cosine: y = ln(x + sqrt(x^2 - 1)), with the derivative 1 / sqrt(x^2 - 1); NaN below 1."""

    name, function, slope = "acosh", np.arccosh, staticmethod(lambda x, y: 1 / np.sqrt(x * x - 1))
    domain = (1.2, 3.0)


class Atanh(_Smooth):
    """Inverse hyperbolic tangent: y = ln((1 + x) / (1 - x)) / 2, with the derivative 1 / (1 - x^2); NaN outside [-1, 1]."""

    name, function, slope = "atanh", np.arctanh, staticmethod(lambda x, y: 1 / (1 - x * x))
    domain = (-0.8, 0.8)


class Expm1(_Smooth):
    """y = e^x - 1, exact for small x, with the derivative y + 1."""

    name, function, slope = "expm1", np.expm1, staticmethod(lambda x, y: y + 1)


class Log1p(_Smooth):
    """y = ln(1 + x), exact for small x, with the derivative 1 / (1 + x)."""

    name, function, slope = "log1p", np.log1p, staticmethod(lambda x, y: 1 / (1 + x))
    domain = (-0.8, 2.0)


class Exp2(_Smooth):
    """y = 2^x, with the derivative y ln 2."""

    name, function, slope = "exp2", np.exp2, staticmethod(lambda x, y: y * x.dtype.type(math.log(2)))


class Log2(_Smooth):
    """Logarithm to the base 2, with the derivative 1 / (x ln 2)."""

    name, function, slope = "log2", np.log2, staticmethod(lambda x, y: 1 / (x * x.dtype.type(math.log(2))))
    domain = (0.2, 3.0)


class Log10(_Smooth):
    """Logarithm to the base 10, with the derivative 1 / (x ln 10)."""

    name, function, slope = "log10", np.log10, staticmethod(lambda x, y: 1 / (x * x.dtype.type(math.log(10))))
    domain = (0.2, 3.0)


_erf64 = np.vectorize(math.erf, otypes=[np.float64])


def _erf(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """The error function. In float32 by two formulas, within 2e-7: its series for |x| < 0.45, else Abramowitz and Stegun
    (1964), 7.1.26."""
    if x.dtype == np.float64:
        y = _erf64(x) if x.size else x.copy()
    else:
        size, square = np.abs(x), x * x
        t = 1 / (1 + np.float32(0.3275911) * size)
        far = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
        far = 1 - far * np.exp(-square)
        near = x * (1.1283791671 + square * (-0.3761263890 + square * (0.1128379167 + square * (
            -0.0268661706 + square * 0.0052239776))))
        y = choose(size < 0.45, near, np.copysign(far, x))
    if out is None:
        return np.asarray(y)
    out[...] = y
    return out


class Erf(_Smooth):
    """Error function: y = 2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x, with its derivative at x."""

    name, function = "erf", staticmethod(_erf)
    slope = staticmethod(lambda x, y: x.dtype.type(2 / math.sqrt(math.pi)) * np.exp(-x * x))


class Logit(_Smooth):
    """Inverse of the logistic function: y = ln(x / (1 - x)), with the derivative 1 / (x (1 - x)); NaN outside [0, 1]."""

    name, domain = "logit", (0.1, 0.9)
    function = staticmethod(lambda x, out=None: np.log(x / (1 - x), out=out))
    slope = staticmethod(lambda x, y: np.where((x < 0) | (x > 1), np.nan, 1 / (x * (1 - x))))


class _Step(Pointwise):
    """Base of functions that are constant between jumps: their gradient is 0, and whole numbers stay as they are."""

    promotes = "numbers"
    function: ClassVar[Any]

    @classmethod
    def forward(cls, ctx: Context, x: np.ndarray) -> np.ndarray:
        return np.asarray(cls.function(x)) if x.dtype.kind == "f" else x.copy()

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return (np.zeros_like(grad),)


class Floor(_Step):
    """The largest whole number that is not above x."""

    name, function = "floor", np.floor


class Ceil(_Step):
    """The smallest whole number that is not below x."""

    name, function = "ceil", np.ceil


class Trunc(_Step):
    """The whole part of x: the nearest whole number toward zero."""

    name, function = "trunc", np.trunc


class Round(_Step):
    """Nearest integer: y = x rounded, ties to even; the gradient is 0."""

    name, function = "round", np.rint


class Sign(_Step):
    """-1, 0 or 1 as x is below, at or above 0; 0 for NaN."""

    name = "sign"

    @classmethod
    def forward(cls, ctx: Context, x: np.ndarray) -> np.ndarray:
        return sign(x)


class _Test(Op):
    """Base of conditions on one element; the results are bools."""

    any_dtype = True
    differentiable = False
    function: ClassVar[Any]

    @classmethod
    def forward(cls, ctx: Context, x: np.ndarray) -> np.ndarray:
        return np.asarray(cls.function(x))

    @classmethod
    def by_sample(cls, ndims: list[int], constants: list[np.ndarray], **attrs: Any) -> int | None:
        return ndims[0]

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(np.where(rng.random((3, 4)) < 0.3, np.nan, normal(rng, 3, 4).round()))
        yield sample(np.array([np.inf, -np.inf, 0.0]))


class IsNaN(_Test):
    """Whether x is NaN."""

    name, function = "isnan", np.isnan


class IsInf(_Test):
    """Whether x is infinite."""

    name, function = "isinf", np.isinf


class IsFinite(_Test):
    """Whether x is neither NaN nor infinite."""

    name, function = "isfinite", np.isfinite


class LogicalNot(_Test):
    """Whether x is 0."""

    name, function = "logical_not", np.logical_not
