"""Arithmetic of two operands, with broadcasting and PyTorch's promotion of dtypes."""

from __future__ import annotations

from typing import Any

from .. import checks
from ..errors import DtypeError, ShapeError
from .pointwise import trunc as _trunc
from .types import OPS, Tensor, TensorLike, apply


def _scaled(name: str, other: Any, alpha: Any, input: Any) -> Any:
    """alpha * other."""
    if isinstance(alpha, float) and all(t.dtype.kind != "f" for t in (input, other) if isinstance(t, Tensor)):
        raise DtypeError(f"{name}: expected alpha to be a whole number for integers, got {alpha}")
    return apply(OPS["mul"], other, alpha)


def add(input: TensorLike, other: TensorLike, *, alpha: float = 1) -> Tensor:
    """input + alpha * other.

    Args:
        other: a Tensor or a number.
        alpha: what `other` is multiplied by.

    Returns:
        A Tensor of the shape to which both broadcast.

    Raises:
        ShapeError: the shapes do not broadcast; DtypeError: a fraction as alpha of integers.

    Example:
        >>> Tensor([1.0, 2.0]).add(1, alpha=2)
        tensor([3., 4.])
    """
    return apply(OPS["add"], input, other if alpha == 1 else _scaled("add", other, alpha, input))


def sub(input: TensorLike, other: TensorLike, *, alpha: float = 1) -> Tensor:
    """input - alpha * other.

    Args:
        other: a Tensor or a number.
        alpha: what `other` is multiplied by.

    Returns:
        A Tensor of the shape to which both broadcast.

    Raises:
        ShapeError: the shapes do not broadcast; DtypeError: bools, or a fraction as alpha of integers.

    Example:
        >>> Tensor([1.0, 2.0]).sub(1)
        tensor([0., 1.])
    """
    return apply(OPS["sub"], input, other if alpha == 1 else _scaled("sub", other, alpha, input))


def rsub(input: Tensor, other: TensorLike, *, alpha: float = 1) -> Tensor:
    """other - alpha * input.

    Args:
        other: a Tensor or a number.
        alpha: what the Tensor is multiplied by.

    Returns:
        A Tensor of the shape to which both broadcast.

    Example:
        >>> tinyml.rsub(Tensor([1.0]), 5)
        tensor([4.])
    """
    return sub(other, input, alpha=alpha)


def mul(input: TensorLike, other: TensorLike) -> Tensor:
    """input * other.

    Args:
        other: a Tensor or a number.

    Returns:
        A Tensor of the shape to which both broadcast.

    Example:
        >>> Tensor([1.0, 2.0]).mul(3)
        tensor([3., 6.])
    """
    return apply(OPS["mul"], input, other)


def div(input: TensorLike, other: TensorLike, *, rounding_mode: str | None = None) -> Tensor:
    """input / other, rounded if asked for.

    Args:
        other: a Tensor or a number.
        rounding_mode: "floor" rounds down, "trunc" toward zero, None does not round; integers become float32 then.

    Returns:
        A Tensor of the shape to which both broadcast.

    Raises:
        ShapeError: shapes that do not broadcast, another mode, or whole numbers divided by 0.

    Example:
        >>> Tensor([-7, 7]).div(2, rounding_mode="trunc")
        tensor([-3,  3])
    """
    checks.choice("div", "rounding_mode", rounding_mode, ("floor", "trunc"), optional=True)
    if rounding_mode is None:
        return apply(OPS["div"], input, other)
    if rounding_mode == "floor":
        return apply(OPS["floor_divide"], input, other)
    found = apply(OPS["floor_divide"], apply(OPS["sub"], input, apply(OPS["fmod"], input, other)), other)
    return found if found.dtype.kind != "f" else _trunc(apply(OPS["div"], input, other))


def floor_divide(input: TensorLike, other: TensorLike) -> Tensor:
    """The whole part of input / other, rounded down.

    Args:
        other: a Tensor or a number.

    Returns:
        A Tensor of the shape to which both broadcast.

    Raises:
        ShapeError: shapes that do not broadcast, or whole numbers divided by 0.

    Example:
        >>> Tensor([-7, 7]) // 2
        tensor([-4,  3])
    """
    return apply(OPS["floor_divide"], input, other)


def remainder(input: TensorLike, other: TensorLike) -> Tensor:
    """What is left of input / other, with the sign of `other`: input - other * floor(input / other).

    Args:
        other: a Tensor or a number.

    Returns:
        A Tensor of the shape to which both broadcast.

    Raises:
        ShapeError: shapes that do not broadcast, or whole numbers divided by 0.

    Example:
        >>> Tensor([-7, 7]) % 4
        tensor([1, 3])
    """
    return apply(OPS["remainder"], input, other)


def fmod(input: TensorLike, other: TensorLike) -> Tensor:
    """What is left of input / other, with the sign of `input`: input - other * trunc(input / other).

    Args:
        other: a Tensor or a number.

    Returns:
        A Tensor of the shape to which both broadcast.

    Raises:
        ShapeError: shapes that do not broadcast, or whole numbers divided by 0.

    Example:
        >>> tinyml.fmod(Tensor([-7.0, 7.0]), 4)
        tensor([-3.,  3.])
    """
    return apply(OPS["fmod"], input, other)


def neg(input: Tensor) -> Tensor:
    """-x of each element x.

    Example:
        >>> Tensor([1.0]).neg()
        tensor([-1.])
    """
    return apply(OPS["neg"], input)


def pow(input: TensorLike, exponent: TensorLike) -> Tensor:
    """input ** exponent.

    Args:
        exponent: a Tensor or a number.

    Returns:
        A Tensor of the shape to which both broadcast.

    Raises:
        ShapeError: shapes that do not broadcast, or a negative power of whole numbers.

    Example:
        >>> tinyml.pow(2, Tensor([1.0, 3.0]))
        tensor([2., 8.])
    """
    if isinstance(exponent, (int, float)) and isinstance(input, Tensor) and input.dtype.kind == "f":
        return apply(OPS["pow"], input, exponent=float(exponent))
    if isinstance(exponent, int) and exponent < 0 and isinstance(input, Tensor) and input.dtype.kind in "iu":
        raise ShapeError(f"pow: whole numbers to the power {exponent} are no whole numbers; convert with float() first")
    return apply(OPS["power"], input, exponent)


def maximum(input: TensorLike, other: TensorLike) -> Tensor:
    """The larger of each pair of elements; equal ones share the gradient.

    Args:
        other: a Tensor.

    Returns:
        A Tensor of the shape to which both broadcast.

    Raises:
        ShapeError: the shapes do not broadcast.

    Example:
        >>> tinyml.maximum(Tensor([1.0, 5.0]), Tensor([3.0, 2.0]))
        tensor([3., 5.])
    """
    return apply(OPS["maximum"], input, other)


def minimum(input: TensorLike, other: TensorLike) -> Tensor:
    """The smaller of each pair of elements; equal ones share the gradient.

    Args:
        other: a Tensor.

    Returns:
        A Tensor of the shape to which both broadcast.

    Raises:
        ShapeError: the shapes do not broadcast.

    Example:
        >>> tinyml.minimum(Tensor([1.0, 5.0]), Tensor([3.0, 2.0]))
        tensor([1., 2.])
    """
    return apply(OPS["minimum"], input, other)


def atan2(input: TensorLike, other: TensorLike) -> Tensor:
    """The angle of each point (other, input) from the first axis, in radians.

    Args:
        other: a Tensor.

    Returns:
        A Tensor of the shape to which both broadcast.

    Raises:
        ShapeError: the shapes do not broadcast.

    Example:
        >>> tinyml.atan2(Tensor([1.0]), Tensor([1.0]))
        tensor([0.7854])
    """
    return apply(OPS["atan2"], input, other)


def hypot(input: TensorLike, other: TensorLike) -> Tensor:
    """sqrt(input^2 + other^2) of each pair, without overflow.

    Args:
        other: a Tensor.

    Returns:
        A Tensor of the shape to which both broadcast.

    Raises:
        ShapeError: the shapes do not broadcast.

    Example:
        >>> tinyml.hypot(Tensor([3.0]), Tensor([4.0]))
        tensor([5.])
    """
    return apply(OPS["hypot"], input, other)


def logaddexp(input: TensorLike, other: TensorLike) -> Tensor:
    """ln(e^input + e^other) of each pair, without overflow.

    Args:
        other: a Tensor.

    Returns:
        A Tensor of the shape to which both broadcast.

    Raises:
        ShapeError: the shapes do not broadcast.

    Example:
        >>> tinyml.logaddexp(Tensor([1000.0]), Tensor([1000.0]))
        tensor([1000.6932])
    """
    return apply(OPS["logaddexp"], input, other)


def xlogy(input: TensorLike, other: TensorLike) -> Tensor:
    """input * ln(other) of each pair, 0 where `input` is 0.

    Args:
        other: a Tensor or a number.

    Returns:
        A Tensor of the shape to which both broadcast.

    Raises:
        ShapeError: the shapes do not broadcast.

    Example:
        >>> tinyml.xlogy(Tensor([0.0]), Tensor([0.0]))
        tensor([0.])
    """
    return apply(OPS["xlogy"], input, other)


def lerp(input: Tensor, end: Tensor, weight: TensorLike) -> Tensor:
    """input + weight * (end - input).

    Args:
        end: what weight 1 gives.
        weight: a number or a Tensor.

    Returns:
        A Tensor of the shape to which all broadcast.

    Raises:
        ShapeError: the shapes do not broadcast.

    Example:
        >>> tinyml.lerp(Tensor([0.0]), Tensor([10.0]), 0.25)
        tensor([2.5000])
    """
    return input + apply(OPS["mul"], weight, end - input)


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """input + value * tensor1 * tensor2.

    Args:
        tensor1: one factor.
        tensor2: the other.
        value: what the product is multiplied by.

    Returns:
        A Tensor of the shape to which all broadcast.

    Raises:
        ShapeError: the shapes do not broadcast.

    Example:
        >>> tinyml.addcmul(Tensor([1.0]), Tensor([2.0]), Tensor([3.0]), value=0.5)
        tensor([4.])
    """
    return add(input, tensor1 * tensor2, alpha=value)


def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """input + value * tensor1 / tensor2.

    Args:
        tensor1: what is divided.
        tensor2: what it is divided by.
        value: what the quotient is multiplied by.

    Returns:
        A Tensor of the shape to which all broadcast.

    Raises:
        ShapeError: the shapes do not broadcast.

    Example:
        >>> tinyml.addcdiv(Tensor([1.0]), Tensor([3.0]), Tensor([2.0]))
        tensor([2.5000])
    """
    return add(input, tensor1 / tensor2, alpha=value)
