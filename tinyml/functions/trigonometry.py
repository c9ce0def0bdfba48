"""Trigonometric and hyperbolic functions of each element."""

from __future__ import annotations

from .types import OPS, Tensor, apply


def sin(input: Tensor) -> Tensor:
    """Sine of each element, in radians.

    Example:
        >>> Tensor(0.0).sin().item()
        0.0
    """
    return apply(OPS["sin"], input)


def cos(input: Tensor) -> Tensor:
    """Cosine of each element, in radians.

    Example:
        >>> Tensor(0.0).cos().item()
        1.0
    """
    return apply(OPS["cos"], input)


def tan(input: Tensor) -> Tensor:
    """Tangent of each element, in radians.

    Example:
        >>> Tensor(0.0).tan().item()
        0.0
    """
    return apply(OPS["tan"], input)


def asin(input: Tensor) -> Tensor:
    """Inverse sine of each element, in radians; NaN outside [-1, 1].

    Example:
        >>> Tensor(0.0).asin().item()
        0.0
    """
    return apply(OPS["asin"], input)


def acos(input: Tensor) -> Tensor:
    """Inverse cosine of each element, in radians; NaN outside [-1, 1].

    Example:
        >>> Tensor(1.0).acos().item()
        0.0
    """
    return apply(OPS["acos"], input)


def atan(input: Tensor) -> Tensor:
    """Inverse tangent of each element, in radians.

    Example:
        >>> Tensor(0.0).atan().item()
        0.0
    """
    return apply(OPS["atan"], input)


def sinh(input: Tensor) -> Tensor:
    """Hyperbolic sine of each element.

    Example:
        >>> Tensor(0.0).sinh().item()
        0.0
    """
    return apply(OPS["sinh"], input)


def cosh(input: Tensor) -> Tensor:
    """Hyperbolic cosine of each element.

    Example:
        >>> Tensor(0.0).cosh().item()
        1.0
    """
    return apply(OPS["cosh"], input)


def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent of each element.

    Example:
        >>> Tensor(0.0).tanh().item()
        0.0
    """
    return apply(OPS["tanh"], input)


def asinh(input: Tensor) -> Tensor:
    """Inverse hyperbolic sine of each element.

    Example:
        >>> Tensor(0.0).asinh().item()
        0.0
    """
    return apply(OPS["asinh"], input)


def acosh(input: Tensor) -> Tensor:
    """Inverse hyperbolic cosine of each element; NaN below 1.

    Example:
        >>> Tensor(1.0).acosh().item()
        0.0
    """
    return apply(OPS["acosh"], input)


def atanh(input: Tensor) -> Tensor:
    """Inverse hyperbolic tangent of each element; NaN outside [-1, 1].

    Example:
        >>> Tensor(0.0).atanh().item()
        0.0
    """
    return apply(OPS["atanh"], input)
