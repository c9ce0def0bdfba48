"""Functions of each element alone."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from .. import checks
from ..arguments import number
from ..errors import DtypeError, ShapeError
from .types import OPS, Tensor, TensorLike, apply


def exp(input: Tensor) -> Tensor:
    """e^x of each element x.

    Example:
        >>> Tensor(0.0).exp().item()
        1.0
    """
    return apply(OPS["exp"], input)


def exp2(input: Tensor) -> Tensor:
    """2^x of each element x.

    Example:
        >>> Tensor(3.0).exp2().item()
        8.0
    """
    return apply(OPS["exp2"], input)


def expm1(input: Tensor) -> Tensor:
    """e^x - 1 of each element x, exact for small x.

    Example:
        >>> Tensor(0.0).expm1().item()
        0.0
    """
    return apply(OPS["expm1"], input)


def log(input: Tensor) -> Tensor:
    """Natural logarithm of each element.

    Example:
        >>> Tensor(1.0).log().item()
        0.0
    """
    return apply(OPS["log"], input)


def log2(input: Tensor) -> Tensor:
    """Logarithm to the base 2 of each element.

    Example:
        >>> Tensor(8.0).log2().item()
        3.0
    """
    return apply(OPS["log2"], input)


def log10(input: Tensor) -> Tensor:
    """Logarithm to the base 10 of each element.

    Example:
        >>> Tensor(1.0).log10().item()
        0.0
    """
    return apply(OPS["log10"], input)


def log1p(input: Tensor) -> Tensor:
    """ln(1 + x) of each element x, exact for small x.

    Example:
        >>> Tensor(0.0).log1p().item()
        0.0
    """
    return apply(OPS["log1p"], input)


def sqrt(input: Tensor) -> Tensor:
    """Square root of each element.

    Example:
        >>> Tensor(9.0).sqrt().item()
        3.0
    """
    return apply(OPS["sqrt"], input)


def rsqrt(input: Tensor) -> Tensor:
    """1 / sqrt(x) of each element x.

    Example:
        >>> Tensor(4.0).rsqrt().item()
        0.5
    """
    return reciprocal(sqrt(input))


def reciprocal(input: Tensor) -> Tensor:
    """1 / x of each element x.

    Example:
        >>> Tensor(4.0).reciprocal().item()
        0.25
    """
    return apply(OPS["div"], 1, input)


def square(input: Tensor) -> Tensor:
    """x^2 of each element x.

    Example:
        >>> Tensor(3.0).square().item()
        9.0
    """
    return apply(OPS["mul"], input, input) if input.dtype.kind == "f" else apply(OPS["power"], input, 2)


def abs(input: Tensor) -> Tensor:
    """Absolute value of each element.

    Example:
        >>> Tensor(-3.0).abs().item()
        3.0
    """
    return apply(OPS["abs"], input)


def sign(input: Tensor) -> Tensor:
    """-1, 0 or 1 as each element is below, at or above 0.

    Example:
        >>> Tensor(-3.0).sign().item()
        -1.0
    """
    return apply(OPS["sign"], input)


def floor(input: Tensor) -> Tensor:
    """The largest whole number that is not above each element.

    Example:
        >>> Tensor(-1.5).floor().item()
        -2.0
    """
    return apply(OPS["floor"], input)


def ceil(input: Tensor) -> Tensor:
    """The smallest whole number that is not below each element.

    Example:
        >>> Tensor(-1.5).ceil().item()
        -1.0
    """
    return apply(OPS["ceil"], input)


def trunc(input: Tensor) -> Tensor:
    """The whole part of each element.

    Example:
        >>> Tensor(-1.5).trunc().item()
        -1.0
    """
    return apply(OPS["trunc"], input)


def frac(input: Tensor) -> Tensor:
    """What is left of each element without its whole part.

    Example:
        >>> Tensor(1.5).frac().item()
        0.5
    """
    return apply(OPS["sub"], input, trunc(input))


def relu(input: Tensor) -> Tensor:
    """max(x, 0) of each element x.

    Example:
        >>> Tensor(-3.0).relu().item()
        0.0
    """
    return apply(OPS["relu"], input)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + e^-x) of each element x.

    Example:
        >>> Tensor(0.0).sigmoid().item()
        0.5
    """
    return apply(OPS["sigmoid"], input)


def erf(input: Tensor) -> Tensor:
    """Error function of each element x: 2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x.

    Example:
        >>> Tensor(0.0).erf().item()
        0.0
    """
    return apply(OPS["erf"], input)


def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """The nearest whole number to each element, ties to even, or the nearest number of some decimals.

    Args:
        decimals: how many decimals stay; below 0, how many digits before the point become 0.

    Returns:
        A Tensor of the same shape, whose gradient is 0.

    Raises:
        DtypeError: decimals that are no whole number, or decimals of integers.

    Example:
        >>> Tensor([1.25, 2.5]).round(decimals=1)
        tensor([1.2000, 2.5000])
    """
    decimals = checks.whole("round", "decimals", decimals, -300)
    if not decimals:
        return apply(OPS["round"], input)
    if input.dtype.kind != "f":
        raise DtypeError(f"round: decimals of a Tensor of {input.dtype}; convert it with float() first")
    ten = 10.0 ** builtins.abs(decimals)
    return apply(OPS["round"], input * ten) / ten if decimals > 0 else apply(OPS["round"], input / ten) * ten


def clamp(input: Tensor, min: TensorLike | None = None, max: TensorLike | None = None) -> Tensor:
    """min(max(x, min), max) of each element x; the gradient is 0 outside of [min, max].

    Args:
        min: what smaller elements become, a number or a Tensor; None for no bound.
        max: what larger elements become, a number or a Tensor; None for no bound.

    Returns:
        A Tensor of the shape to which all broadcast.

    Raises:
        ShapeError: neither bound, a bound that is NaN, or shapes that do not broadcast; DtypeError: a bound that is no
            number.

    Example:
        >>> Tensor([-2.0, 0.5, 9.0]).clamp(0, 6)
        tensor([0.0000, 0.5000, 6.0000])
    """
    if min is None and max is None:
        raise ShapeError("clamp: expected min, max or both, got None for both")
    if input.dtype.kind == "f" and not any(isinstance(b, Tensor) for b in (min, max)):
        return apply(OPS["clip"], input, lo=-math.inf if min is None else number("clamp", "min", min),
                     hi=math.inf if max is None else number("clamp", "max", max))
    found = input
    if min is not None:
        found = apply(OPS["where"], apply(OPS["lt"], found, min), min, found)
    if max is not None:
        found = apply(OPS["where"], apply(OPS["gt"], found, max), max, found)
    return found


def clip(input: Tensor, min: Any = None, max: Any = None, *, lo: Any = None, hi: Any = None) -> Tensor:
    """`clamp`, by its name in NumPy.

    Args:
        min: what smaller elements become; None for no bound.
        max: what larger elements become; None for no bound.
        lo: an older name of min.
        hi: an older name of max.

    Returns:
        A Tensor of the shape to which all broadcast.

    Example:
        >>> Tensor([-2.0, 0.5, 9.0]).clip(0, 6)
        tensor([0.0000, 0.5000, 6.0000])
    """
    return clamp(input, min if lo is None else lo, max if hi is None else hi)


def clamp_min(input: Tensor, min: TensorLike) -> Tensor:
    """max(x, min) of each element x.

    Args:
        min: what smaller elements become.

    Returns:
        A Tensor of the shape to which both broadcast.

    Example:
        >>> Tensor([-2.0, 5.0]).clamp_min(0).tolist()
        [0.0, 5.0]
    """
    return clamp(input, min)


def clamp_max(input: Tensor, max: TensorLike) -> Tensor:
    """min(x, max) of each element x.

    Args:
        max: what larger elements become.

    Returns:
        A Tensor of the shape to which both broadcast.

    Example:
        >>> Tensor([-2.0, 5.0]).clamp_max(0).tolist()
        [-2.0, 0.0]
    """
    return clamp(input, None, max)


def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """ln(x / (1 - x)) of each element x, the inverse of sigmoid.

    Args:
        eps: elements are clamped to [eps, 1 - eps] first; None for no bound, which gives NaN outside of [0, 1].

    Returns:
        A Tensor of the same shape.

    Example:
        >>> Tensor([0.5]).logit()
        tensor([0.])
    """
    x = input if eps is None else clamp(input, eps, 1 - eps)
    return apply(OPS["logit"], x)


def nan_to_num(input: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """The elements with numbers in place of NaN and infinities.

    Args:
        nan: what NaN becomes.
        posinf: what infinity becomes; None for the largest number of the dtype.
        neginf: what -infinity becomes; None for the smallest.

    Returns:
        A Tensor of the same shape; the gradient is 0 where an element was replaced.

    Raises:
        DtypeError: what should be a number is none.

    Example:
        >>> Tensor([float("nan"), 1.0]).nan_to_num(nan=-1)
        tensor([-1.,  1.])
    """
    if input.dtype.kind != "f" and input.quantized is None:
        return input.clone()
    largest = float(np.finfo(input.dtype if input.quantized is None else np.float32).max)
    given = {"nan": (nan, 0.0), "posinf": (posinf, largest), "neginf": (neginf, -largest)}
    return apply(OPS["nan_to_num"], input, **{
        name: default if v is None else checks.number("nan_to_num", name, v, infinite=True)
        for name, (v, default) in given.items()})
