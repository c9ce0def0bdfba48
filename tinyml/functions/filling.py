"""Other elements in a Tensor's place: one value, those of another Tensor, or random ones."""

from __future__ import annotations

from typing import Any

from .. import checks
from ..errors import ShapeError
from ..in_place import put
from .conversion import clone
from .creation import as_tensor
from .random import bernoulli, normal, rand_like
from .types import Tensor, TensorLike


def overwrite(input: Tensor, value: TensorLike, what: str) -> Tensor:
    """`input` itself, after `value`, broadcast, has become its elements."""
    put(input, None, value, what)
    return input


def fill(input: Tensor, value: Any) -> Tensor:
    """A Tensor of one value, of the shape and dtype of `input`.

    Args:
        value: a number, or a Tensor without dimensions, to which the gradient flows.

    Returns:
        A new Tensor; the gradient to `input` is 0.

    Raises:
        ShapeError: a value of more elements; DtypeError: int8 codes.

    Example:
        >>> Tensor([1.0, 2.0]).fill_(3.0)
        tensor([3., 3.])
    """
    return overwrite(clone(input), _single(value), "fill")


def fill_(input: Tensor, value: Any) -> Tensor:
    """One value in the place of all elements.

    Args:
        value: a number, or a Tensor without dimensions, to which the gradient flows.

    Returns:
        The Tensor itself.

    Raises:
        ShapeError: a value of more elements; DtypeError: int8 codes; GradError: a leaf that requires a gradient, outside
            no_grad().

    Example:
        >>> x = tinyml.zeros(2, 2)
        >>> x[0].fill_(1)
        tensor([1., 1.])
        >>> x
        tensor([[1., 1.],
                [0., 0.]])
    """
    return overwrite(input, _single(value), "fill_")


def zero_(input: Tensor) -> Tensor:
    """Zeros in the place of all elements.

    Returns:
        The Tensor itself.

    Raises:
        DtypeError: int8 codes; GradError: a leaf that requires a gradient, outside no_grad().

    Example:
        >>> Tensor([1.0, 2.0]).zero_()
        tensor([0., 0.])
    """
    return overwrite(input, 0, "zero_")


def copy_(input: Tensor, src: TensorLike, non_blocking: bool = False) -> Tensor:
    """The elements of another Tensor, broadcast and in this one's dtype, in the place of all elements.

    Args:
        src: the other, to which the gradient flows.
        non_blocking: of no account on the one device there is.

    Returns:
        The Tensor itself.

    Raises:
        ShapeError: shapes that do not fit; DtypeError: int8 codes; GradError: a leaf that requires a gradient, outside
            no_grad().

    Example:
        >>> tinyml.zeros(2, 2).copy_(Tensor([1.0, 2.0]))
        tensor([[1., 2.],
                [1., 2.]])
    """
    return overwrite(input, src, "copy_")


def normal_(input: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Numbers of a normal distribution in the place of the elements.

    Args:
        mean: of the distribution.
        std: its standard deviation, at least 0.

    Returns:
        The Tensor itself.

    Raises:
        ShapeError: a deviation below 0; DtypeError: elements that are no floats; GradError: a leaf that requires a
            gradient, outside no_grad().

    Example:
        >>> tinyml.zeros(2).normal_(3, 0)
        tensor([3., 3.])
    """
    return overwrite(input, normal(mean, std, input.shape, dtype=input.dtype), "normal_")


def uniform_(input: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Numbers from `low` to below `high` in the place of the elements, all equally likely.

    Args:
        low: the least.
        high: what they stay below.

    Returns:
        The Tensor itself.

    Raises:
        ShapeError: `low` is above `high`; DtypeError: elements that are no floats; GradError: a leaf that requires a
            gradient, outside no_grad().

    Example:
        >>> bool((abs(tinyml.zeros(9).uniform_(-1, 1).numpy()) <= 1).all())
        True
    """
    least = checks.number("uniform_", "low", low)
    most = checks.number("uniform_", "high", high, least)
    return overwrite(input, rand_like(input) * (most - least) + least, "uniform_")


def bernoulli_(input: Tensor, p: TensorLike = 0.5) -> Tensor:
    """Ones with the probability `p`, and zeros, in the place of the elements.

    Args:
        p: the probability, or one for each element.

    Returns:
        The Tensor itself.

    Raises:
        ShapeError: a probability below 0 or above 1; GradError: a leaf that requires a gradient, outside no_grad().

    Example:
        >>> tinyml.zeros(2).bernoulli_(1)
        tensor([1., 1.])
    """
    return overwrite(input, bernoulli(input, as_tensor(p)), "bernoulli_")


def _single(value: Any) -> Any:
    if getattr(value, "ndim", 0):
        raise ShapeError(f"fill: expected a number, or a Tensor without dimensions, got {checks.described(value)}")
    return value
