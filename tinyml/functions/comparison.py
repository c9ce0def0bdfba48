"""Comparisons and conditions of elements, and logic of bools: no gradient flows through any of them."""

from __future__ import annotations

from .. import checks
from ..errors import DtypeError
from .types import OPS, Tensor, TensorLike, apply


def eq(input: Tensor, other: TensorLike) -> Tensor:
    """Whether each element equals that of `other`.

    Args:
        other: a Tensor, an array or a number, of a shape that broadcasts.

    Returns:
        A Tensor of bools.

    Raises:
        ShapeError: the shapes do not broadcast.

    Example:
        >>> Tensor([1.0, 2.0]).eq(2).tolist()
        [False, True]
    """
    return apply(OPS["eq"], input, other)


def ne(input: Tensor, other: TensorLike) -> Tensor:
    """Whether each element differs from that of `other`.

    Args:
        other: a Tensor, an array or a number, of a shape that broadcasts.

    Returns:
        A Tensor of bools.

    Raises:
        ShapeError: the shapes do not broadcast.

    Example:
        >>> Tensor([1.0, 2.0]).ne(2).tolist()
        [True, False]
    """
    return apply(OPS["ne"], input, other)


def lt(input: Tensor, other: TensorLike) -> Tensor:
    """Whether each element is less than that of `other`.

    Args:
        other: a Tensor, an array or a number, of a shape that broadcasts.

    Returns:
        A Tensor of bools.

    Raises:
        ShapeError: the shapes do not broadcast.

    Example:
        >>> Tensor([1.0, 2.0]).lt(2).tolist()
        [True, False]
    """
    return apply(OPS["lt"], input, other)


def le(input: Tensor, other: TensorLike) -> Tensor:
    """Whether each element is at most that of `other`.

    Args:
        other: a Tensor, an array or a number, of a shape that broadcasts.

    Returns:
        A Tensor of bools.

    Raises:
        ShapeError: the shapes do not broadcast.

    Example:
        >>> Tensor([1.0, 2.0]).le(2).tolist()
        [True, True]
    """
    return apply(OPS["le"], input, other)


def gt(input: Tensor, other: TensorLike) -> Tensor:
    """Whether each element is greater than that of `other`.

    Args:
        other: a Tensor, an array or a number, of a shape that broadcasts.

    Returns:
        A Tensor of bools.

    Raises:
        ShapeError: the shapes do not broadcast.

    Example:
        >>> Tensor([1.0, 2.0]).gt(2).tolist()
        [False, False]
    """
    return apply(OPS["gt"], input, other)


def ge(input: Tensor, other: TensorLike) -> Tensor:
    """Whether each element is at least that of `other`.

    Args:
        other: a Tensor, an array or a number, of a shape that broadcasts.

    Returns:
        A Tensor of bools.

    Raises:
        ShapeError: the shapes do not broadcast.

    Example:
        >>> Tensor([1.0, 2.0]).ge(2).tolist()
        [False, True]
    """
    return apply(OPS["ge"], input, other)


def isnan(input: Tensor) -> Tensor:
    """Whether each element is NaN.

    Example:
        >>> Tensor(1.0).isnan().item()
        False
    """
    return apply(OPS["isnan"], input)


def isinf(input: Tensor) -> Tensor:
    """Whether each element is infinite.

    Example:
        >>> Tensor(1.0).isinf().item()
        False
    """
    return apply(OPS["isinf"], input)


def isfinite(input: Tensor) -> Tensor:
    """Whether each element is neither NaN nor infinite.

    Example:
        >>> Tensor(1.0).isfinite().item()
        True
    """
    return apply(OPS["isfinite"], input)


def logical_not(input: Tensor) -> Tensor:
    """Whether each element is 0.

    Example:
        >>> Tensor(0.0).logical_not().item()
        True
    """
    return apply(OPS["logical_not"], input)


def logical_and(input: TensorLike, other: TensorLike) -> Tensor:
    """Whether both elements of each pair are not 0.

    Args:
        other: a Tensor or a number.

    Returns:
        A Tensor of bools.

    Raises:
        ShapeError: the shapes do not broadcast.

    Example:
        >>> Tensor([1, 0]).logical_and(1).tolist()
        [True, False]
    """
    return apply(OPS["logical_and"], input, other)


def logical_or(input: TensorLike, other: TensorLike) -> Tensor:
    """Whether an element of each pair is not 0.

    Args:
        other: a Tensor or a number.

    Returns:
        A Tensor of bools.

    Raises:
        ShapeError: the shapes do not broadcast.

    Example:
        >>> Tensor([1, 0]).logical_or(0).tolist()
        [True, False]
    """
    return apply(OPS["logical_or"], input, other)


def logical_xor(input: TensorLike, other: TensorLike) -> Tensor:
    """Whether exactly one element of each pair is not 0.

    Args:
        other: a Tensor or a number.

    Returns:
        A Tensor of bools.

    Raises:
        ShapeError: the shapes do not broadcast.

    Example:
        >>> Tensor([1, 0]).logical_xor(1).tolist()
        [False, True]
    """
    return apply(OPS["logical_xor"], input, other)


def bitwise_and(input: TensorLike, other: TensorLike) -> Tensor:
    """The bits that both elements of each pair have.

    Args:
        other: a Tensor or a number.

    Returns:
        A Tensor of the common dtype.

    Raises:
        ShapeError: the shapes do not broadcast; DtypeError: floats.

    Example:
        >>> (Tensor([6, 5]) & 3).tolist()
        [2, 1]
    """
    return apply(OPS["bitwise_and"], input, other)


def bitwise_or(input: TensorLike, other: TensorLike) -> Tensor:
    """The bits that an element of each pair has.

    Args:
        other: a Tensor or a number.

    Returns:
        A Tensor of the common dtype.

    Raises:
        ShapeError: the shapes do not broadcast; DtypeError: floats.

    Example:
        >>> (Tensor([6, 5]) | 3).tolist()
        [7, 7]
    """
    return apply(OPS["bitwise_or"], input, other)


def bitwise_xor(input: TensorLike, other: TensorLike) -> Tensor:
    """The bits that exactly one element of each pair has.

    Args:
        other: a Tensor or a number.

    Returns:
        A Tensor of the common dtype.

    Raises:
        ShapeError: the shapes do not broadcast; DtypeError: floats.

    Example:
        >>> (Tensor([6, 5]) ^ 3).tolist()
        [5, 6]
    """
    return apply(OPS["bitwise_xor"], input, other)


def bitwise_left_shift(input: TensorLike, other: TensorLike) -> Tensor:
    """Each element with its bits moved up by `other` places.

    Args:
        other: a Tensor or a number.

    Returns:
        A Tensor of the common dtype.

    Raises:
        ShapeError: the shapes do not broadcast; DtypeError: floats.

    Example:
        >>> (Tensor([1, 3]) << 2).tolist()
        [4, 12]
    """
    return apply(OPS["bitwise_left_shift"], input, other)


def bitwise_right_shift(input: TensorLike, other: TensorLike) -> Tensor:
    """Each element with its bits moved down by `other` places.

    Args:
        other: a Tensor or a number.

    Returns:
        A Tensor of the common dtype.

    Raises:
        ShapeError: the shapes do not broadcast; DtypeError: floats.

    Example:
        >>> (Tensor([4, 12]) >> 2).tolist()
        [1, 3]
    """
    return apply(OPS["bitwise_right_shift"], input, other)


def bitwise_not(input: Tensor) -> Tensor:
    """Each element with its bits turned over: -x - 1 of integers, the opposite of bools.

    Raises:
        DtypeError: floats.

    Example:
        >>> (~Tensor([0, 5])).tolist()
        [-1, -6]
    """
    if input.dtype.kind == "f":
        raise DtypeError(f"bitwise_not: expected integers or bools, got {input.dtype}")
    return apply(OPS["bitwise_xor"], input, True if input.dtype.kind == "b" else 255 if input.dtype.kind == "u" else -1)


def isclose(input: Tensor, other: TensorLike, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Whether |input - other| <= atol + rtol * |other| for each pair of elements.

    Args:
        other: a Tensor, an array or a number, of a shape that broadcasts.
        rtol: the relative tolerance.
        atol: the absolute tolerance.
        equal_nan: whether two NaN are close.

    Returns:
        A Tensor of bools.

    Raises:
        ShapeError: shapes that do not broadcast, or a negative tolerance; DtypeError: a tolerance that is no number.

    Example:
        >>> tinyml.isclose(Tensor([1.0, 2.0]), Tensor([1.0, 2.1])).tolist()
        [True, False]
    """
    return apply(OPS["isclose"], input, other, rtol=checks.number("isclose", "rtol", rtol, 0),
                 atol=checks.number("isclose", "atol", atol, 0), equal_nan=checks.flag("isclose", "equal_nan", equal_nan))


def allclose(input: Tensor, other: TensorLike, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether `isclose` holds for all pairs of elements.

    Args:
        other: a Tensor, an array or a number, of a shape that broadcasts.
        rtol: the relative tolerance.
        atol: the absolute tolerance.
        equal_nan: whether two NaN are close.

    Returns:
        A Python bool.

    Raises:
        ShapeError: shapes that do not broadcast, or a negative tolerance; DtypeError: a tolerance that is no number.

    Example:
        >>> tinyml.allclose(Tensor([1.0, 2.0]), Tensor([1.0, 2.0 + 1e-7]))
        True
    """
    return not logical_not(isclose(input, other, rtol, atol, equal_nan)).sum().item()


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether both have the same shape and the same elements.

    Args:
        other: the other Tensor.

    Returns:
        A Python bool.

    Example:
        >>> tinyml.equal(Tensor([1.0, 2.0]), Tensor([1.0, 2.0]))
        True
    """
    return input.shape == other.shape and not ne(input, other).sum().item()


def isin(elements: TensorLike, test_elements: TensorLike, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Whether each element is among others.

    Args:
        elements: a Tensor or a number.
        test_elements: what they are looked up in, a Tensor or a number.
        assume_unique: accepted, and without effect.
        invert: whether to ask for those that are not among them.

    Returns:
        A Tensor of bools, of the shape of `elements`.

    Raises:
        DtypeError: `invert` is no bool.

    Example:
        >>> tinyml.isin(Tensor([1, 2, 3]), Tensor([3, 1])).tolist()
        [True, False, True]
    """
    found = apply(OPS["isin"], elements, test_elements)
    return logical_not(found) if checks.flag("isin", "invert", invert) else found


def where(condition: Tensor, input: TensorLike | None = None, other: TensorLike | None = None) -> Tensor:
    """`input` where the condition holds, `other` elsewhere.

    Args:
        condition: a Tensor of bools.
        input: a Tensor or a number.
        other: a Tensor or a number.

    Returns:
        A Tensor of the shape to which all broadcast. Of the condition alone: the indices where it holds, as a tuple.

    Raises:
        ShapeError: the shapes do not broadcast; DtypeError: only one of both is given.

    Example:
        >>> x = Tensor([-1.0, 2.0])
        >>> tinyml.where(x > 0, x, 0.1 * x)
        tensor([-0.1000,  2.0000])
    """
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)     # type: ignore[return-value]    # rare, and a tuple
    if input is None or other is None:
        raise DtypeError("where: expected input and other, or neither, got one of them")
    return apply(OPS["where"], condition, input, other)
