"""Elements repeated, or in another order, as copies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import checks
from ..arguments import dimension, shape_of
from ..engine import numbers_named
from ..errors import ShapeError
from .conversion import of
from .joining import cat
from .shape import expand, flatten, reshape, transpose, unsqueeze
from .splitting import narrow
from .types import OPS, Axes, Tensor, apply


@numbers_named("repeats")
def repeat(input: Tensor, *repeats: Any) -> Tensor:
    """The Tensor several times along each dimension, one after the other.

    Args:
        repeats: how often, for each dimension, as numbers or as one tuple; more than the Tensor has make new ones in front.

    Returns:
        A Tensor of the sizes times `repeats`.

    Raises:
        ShapeError: fewer numbers than dimensions.

    Example:
        >>> Tensor([1.0, 2.0]).repeat(2)
        tensor([1., 2., 1., 2.])
    """
    times = checks.several("repeat", "repeats", shape_of("repeat", repeats), 0)
    sizes = (1,) * (len(times) - input.ndim) + input.shape
    if len(sizes) > len(times):
        raise ShapeError(f"repeat: expected a number for each dimension of shape {input.shape}, got {times}")
    apart = reshape(input, tuple(n for size in sizes for n in (1, size)))
    stretched = expand(apart, tuple(n for pair in zip(times, sizes) for n in pair))
    return apply(OPS["clone"], reshape(stretched, tuple(map(math.prod, zip(times, sizes)))))


@numbers_named("dims")
def tile(input: Tensor, *dims: Any) -> Tensor:
    """`repeat`, in which dimensions of the Tensor that `dims` leaves out, the first ones, are taken once.

    Args:
        dims: how often, for each dimension, as numbers or as one tuple.

    Returns:
        A Tensor of the sizes times `dims`.

    Raises:
        ShapeError: a negative number.

    Example:
        >>> Tensor([[1.0], [2.0]]).tile(2)
        tensor([[1., 1.],
                [2., 2.]])
    """
    times = checks.several("tile", "dims", shape_of("tile", dims), 0)
    return repeat(input, (1,) * (input.ndim - len(times)) + times)


def repeat_interleave(input: Tensor, repeats: int | Tensor | None = None, dim: int | None = None, *,
                      output_size: int | None = None) -> Tensor:
    """Each element several times, one after the other.

    Args:
        repeats: how often: one number, or one for each index of `dim`; None: the Tensor has them, and their indices are
            repeated.
        dim: the dimension; None for all elements in one.
        output_size: the size of `dim` in the result, which is not needed here.

    Returns:
        A Tensor that is longer along `dim`.

    Raises:
        ShapeError: numbers that do not fit, or a negative one.

    Example:
        >>> Tensor([1.0, 2.0]).repeat_interleave(2)
        tensor([1., 1., 2., 2.])
    """
    if repeats is None:
        return repeat_interleave(of(np.arange(input.numel())), input)
    x = flatten(input) if dim is None else input
    at = dimension("repeat_interleave", 0 if dim is None else dim, x.ndim)
    if not isinstance(repeats, int):
        each = checks.array("repeat_interleave", "repeats", repeats, "iu").reshape(-1)
        if each.size not in (1, x.shape[at]) or (each.size and each.min() < 0):
            raise ShapeError(f"repeat_interleave: expected {x.shape[at]} numbers of at least 0, got {each}")
        index = np.repeat(np.arange(x.shape[at]), each)
        return apply(OPS["index_select"], x, of(index), axis=at)
    times = checks.whole("repeat_interleave", "repeats", repeats)
    longer = expand(unsqueeze(x, at + 1), (*x.shape[: at + 1], times, *x.shape[at + 1 :]))
    return apply(OPS["clone"], reshape(longer, (*x.shape[:at], x.shape[at] * times, *x.shape[at + 1 :])))


@numbers_named("dims")
def flip(input: Tensor, *dims: Any) -> Tensor:
    """The elements in reverse order along some dimensions.

    Args:
        dims: the dimensions, as numbers or as one tuple.

    Returns:
        A copy of the same shape.

    Raises:
        ShapeError: dimensions that there are not, or that are named twice.

    Example:
        >>> Tensor([1.0, 2.0, 3.0]).flip(0)
        tensor([3., 2., 1.])
    """
    named = shape_of("flip", dims)
    checks.fits("flip", named, max(input.ndim, 1))
    reverse = [slice(None)] * input.ndim
    for d in named if input.ndim else ():
        reverse[d] = slice(None, None, -1)
    return apply(OPS["clone"], apply(OPS["getitem"], input, index=tuple(reverse)))


def roll(input: Tensor, shifts: int | tuple[int, ...], dims: Axes = None) -> Tensor:
    """The elements moved along some dimensions; those that leave at the end come in at the beginning.

    Args:
        shifts: how far, for each of `dims`.
        dims: the dimensions; None: the Tensor is rolled as if it had one dimension.

    Returns:
        A Tensor of the same shape.

    Raises:
        ShapeError: dimensions that there are not, or not as many as shifts.

    Example:
        >>> Tensor([1.0, 2.0, 3.0]).roll(1)
        tensor([3., 1., 2.])
    """
    far = checks.several("roll", "shifts", shifts)
    if dims is None or dims == ():
        if len(far) != 1:
            raise ShapeError(f"roll: expected one shift where no dims are named, got {shifts}")
        return reshape(roll(flatten(input), far, 0), input.shape)
    axes = checks.several("roll", "dims", dims)
    if len(axes) != len(far):
        raise ShapeError(f"roll: expected a shift for each dimension, got {shifts} for {dims}")
    y = input
    for shift, axis in zip(far, axes):
        at = dimension("roll", axis, y.ndim)
        n = y.shape[at]
        if n and shift % n:
            y = cat((narrow(y, at, n - shift % n, shift % n), narrow(y, at, 0, n - shift % n)), at)
    return apply(OPS["clone"], y) if y is input else y


def rot90(input: Tensor, k: int = 1, dims: tuple[int, int] = (0, 1)) -> Tensor:
    """The plane of two dimensions turned by 90 degrees, from the first one to the second.

    Args:
        k: how often; the other way round where it is negative.
        dims: the two dimensions.

    Returns:
        A Tensor in which the two sizes are swapped for odd `k`.

    Raises:
        ShapeError: dimensions that there are not, or other than two.

    Example:
        >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).rot90()
        tensor([[2., 4.],
                [1., 3.]])
    """
    plane = checks.several("rot90", "dims", dims)
    checks.fits("rot90", plane, input.ndim)
    if len(plane) != 2:
        raise ShapeError(f"rot90: expected two dimensions, got {dims}")
    turns = checks.whole("rot90", "k", k, -(2**62)) % 4
    turned = flip(input, {0: (), 1: plane[1:], 2: plane, 3: plane[:1]}[turns])
    return transpose(turned, *plane) if turns % 2 else turned
