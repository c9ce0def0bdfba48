"""The same elements in other shapes; the results share memory where the layout allows it."""

from __future__ import annotations

import math
from typing import Any

from .. import checks
from ..arguments import dimension, shape_of
from ..engine import numbers_named, numpy_names, owner
from ..errors import DtypeError, ShapeError
from .types import OPS, Axes, Tensor, apply


def reshape(input: Tensor, *numbers: Any, shape: Any = None) -> Tensor:
    """The same elements, in the same order, in another shape.

    Args:
        numbers: the size of each dimension, as numbers or as one tuple. One may be -1: what the others leave for it.
        shape: the same, by name.

    Returns:
        A Tensor that shares the memory where its layout allows it.

    Raises:
        ShapeError: sizes that do not fit the number of elements.

    Example:
        >>> Tensor([1.0, 2.0, 3.0, 4.0]).reshape(2, -1).shape
        (2, 2)
    """
    return apply(OPS["reshape"], input, shape=shape_of("reshape", numbers if shape is None else (shape,)))


def view(input: Tensor, *shape: Any) -> Tensor:
    """The same memory in another shape: `reshape` that never copies what a view has put in another order.

    Only tinyml's own layouts, as that of images, are copied where the shape asks for it: PyTorch has these row by row.

    Args:
        shape: as in `reshape`.

    Returns:
        A Tensor that shares the memory.

    Raises:
        ShapeError: as in `reshape`, or the elements would have to be copied; DtypeError: a dtype, for which there is `to`.

    Example:
        >>> x = Tensor([1.0, 2.0, 3.0, 4.0])
        >>> x.view(2, 2)[0, 0] = 5
        >>> x
        tensor([5., 2., 3., 4.])
    """
    if len(shape) == 1 and (isinstance(shape[0], (str, type)) or "dtype" in type(shape[0]).__name__.lower()):
        raise DtypeError(f"view: expected a shape, got {checks.described(shape[0])}; to(dtype) converts the elements")
    found = apply(OPS["reshape"], input, shape=shape_of("view", shape))
    root = input if input.of_view is None else input.of_view.root
    if owner(found.array) is not owner(input.array) and root.array.flags.c_contiguous:
        raise ShapeError(f"view: a view of shape {input.shape} whose elements are not row by row in memory cannot become "
                         f"{found.shape} without a copy; use reshape()")
    return found


def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """The elements in the shape of `other`: y = x.reshape(other.shape).

    Args:
        other: the Tensor whose shape it takes.

    Returns:
        A Tensor of that shape.

    Example:
        >>> Tensor([1.0, 2.0]).reshape_as(Tensor([[0.0], [0.0]])).shape
        (2, 1)
    """
    return reshape(input, other.shape)


def view_as(input: Tensor, other: Tensor) -> Tensor:
    """The same memory in the shape of `other`: y = x.view(other.shape).

    Args:
        other: the Tensor whose shape it takes.

    Returns:
        A Tensor of that shape.

    Example:
        >>> Tensor([1.0, 2.0]).view_as(Tensor([[0.0], [0.0]])).shape
        (2, 1)
    """
    return view(input, other.shape)


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The dimensions from `start_dim` to `end_dim` as one.

    Args:
        start_dim: the first of these dimensions.
        end_dim: the last of them.

    Returns:
        A Tensor that shares the memory where its layout allows it.

    Raises:
        ShapeError: a dimension that there is not, or an end before the start.

    Example:
        >>> Tensor(np.zeros((2, 3, 4))).flatten(1).shape
        (2, 12)
    """
    first, last = (dimension("flatten", d, max(input.ndim, 1)) for d in (start_dim, end_dim))
    if first > last:
        raise ShapeError(f"flatten: expected start_dim before end_dim, got {start_dim} and {end_dim}")
    merged = math.prod(input.shape[first : last + 1])
    return reshape(input, *input.shape[:first], merged, *input.shape[last + 1 :])


def ravel(input: Tensor) -> Tensor:
    """All elements in one dimension: y = x.reshape(-1).

    Example:
        >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).ravel().shape
        (4,)
    """
    return reshape(input, input.numel())


def unflatten(input: Tensor, dim: int, sizes: Any) -> Tensor:
    """One dimension as several.

    Args:
        dim: the dimension.
        sizes: the sizes of those that take its place, whose product is its own; one may be -1.

    Returns:
        A Tensor that shares the memory where its layout allows it.

    Raises:
        ShapeError: no such dimension, or sizes that do not fit it.

    Example:
        >>> Tensor(np.zeros((2, 12))).unflatten(1, (3, 4)).shape
        (2, 3, 4)
    """
    at, parts = dimension("unflatten", dim, input.ndim), list(checks.several("unflatten", "sizes", sizes, -1))
    rest = -math.prod(parts)
    if parts.count(-1) == 1 and rest and input.shape[at] % rest == 0:
        parts[parts.index(-1)] = input.shape[at] // rest
    if not parts or min(parts) < 0 or math.prod(parts) != input.shape[at]:
        raise ShapeError(f"unflatten: dimension {dim} of shape {input.shape} cannot become {tuple(parts)}")
    return reshape(input, *input.shape[:at], *parts, *input.shape[at + 1 :])


def transpose(input: Tensor, dim0: int = -2, dim1: int = -1) -> Tensor:
    """The dimensions `dim0` and `dim1` swapped.

    Args:
        dim0: one dimension.
        dim1: the other.

    Returns:
        A Tensor that shares the memory.

    Raises:
        ShapeError: a dimension that there is not.

    Example:
        >>> Tensor(np.zeros((2, 3, 4))).transpose(0, 2).shape
        (4, 3, 2)
    """
    order = list(range(input.ndim))
    if order:
        a, b = dimension("transpose", dim0, input.ndim), dimension("transpose", dim1, input.ndim)
        order[a], order[b] = order[b], order[a]
    return apply(OPS["permute"], input, order=tuple(order))


swapaxes = swapdims = transpose


def t(input: Tensor) -> Tensor:
    """The two dimensions of a matrix swapped; a Tensor of fewer as it is.

    Returns:
        A Tensor that shares the memory.

    Raises:
        ShapeError: there are more than two dimensions.

    Example:
        >>> Tensor(np.zeros((2, 3))).t().shape
        (3, 2)
    """
    if input.ndim > 2:
        raise ShapeError(f"t: expected a matrix, got shape {input.shape}; mT swaps the last two dimensions")
    return apply(OPS["permute"], input, order=tuple(range(input.ndim))[::-1])


@numbers_named("dims")
def permute(input: Tensor, *dims: Any) -> Tensor:
    """The dimensions in another order.

    Args:
        dims: all dimensions, as numbers or as one tuple: the first is that of the result's first dimension.

    Returns:
        A Tensor that shares the memory.

    Raises:
        ShapeError: not every dimension is named once.

    Example:
        >>> Tensor(np.zeros((2, 3, 4))).permute(2, 0, 1).shape
        (4, 2, 3)
    """
    return apply(OPS["permute"], input, order=shape_of("permute", dims))


def movedim(input: Tensor, source: int | tuple[int, ...], destination: int | tuple[int, ...]) -> Tensor:
    """Some dimensions at other places, the others in their order.

    Args:
        source: the dimensions to move.
        destination: where each of them is in the result.

    Returns:
        A Tensor that shares the memory.

    Raises:
        ShapeError: dimensions that there are not, that are named twice, or not as many of the one as of the other.

    Example:
        >>> Tensor(np.zeros((2, 3, 4))).movedim(0, -1).shape
        (3, 4, 2)
    """
    froms, tos = ([dimension("movedim", d, input.ndim) for d in checks.several("movedim", name, dims)]
                  for name, dims in (("source", source), ("destination", destination)))
    if not len(froms) == len(tos) == len(set(froms)) == len(set(tos)):
        raise ShapeError(f"movedim: expected as many different dimensions twice, got {source} and {destination}")
    order = [d for d in range(input.ndim) if d not in froms]
    for to, d in sorted(zip(tos, froms)):
        order.insert(to, d)
    return apply(OPS["permute"], input, order=tuple(order))


moveaxis = movedim


@numbers_named("size")
def expand(input: Tensor, *sizes: Any) -> Tensor:
    """The elements repeated along dimensions of size 1, and along new ones in front, without a copy.

    Args:
        sizes: the size of each dimension, as numbers or as one tuple; -1 for one that stays.

    Returns:
        A Tensor that shares the memory, and cannot be written where elements are repeated; its gradient is summed over
        what was repeated.

    Raises:
        ShapeError: the shape of the Tensor does not broadcast to it.

    Example:
        >>> Tensor([[1.0], [2.0]]).expand(-1, 2)
        tensor([[1., 1.],
                [2., 2.]])
    """
    shape = list(shape_of("expand", sizes))
    new = len(shape) - input.ndim
    for d in range(max(new, 0), len(shape)):
        if shape[d] == -1:
            shape[d] = input.shape[d - new]
    return apply(OPS["broadcast_to"], input, shape=tuple(shape))


broadcast_to = expand


def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """The elements repeated to the shape of `other`: y = x.expand(other.shape).

    Args:
        other: the Tensor whose shape it takes.

    Returns:
        A Tensor of that shape.

    Example:
        >>> Tensor([1.0]).expand_as(Tensor([0.0, 0.0]))
        tensor([1., 1.])
    """
    return expand(input, other.shape)


@numpy_names
def squeeze(input: Tensor, dim: Axes = None) -> Tensor:
    """Without dimensions of size 1.

    Args:
        dim: the dimensions to drop where they are of size 1; None for all that are.

    Returns:
        A Tensor that shares the memory where its layout allows it.

    Raises:
        ShapeError: there is no such dimension.

    Example:
        >>> Tensor([[1.0, 2.0]]).squeeze(0).shape
        (2,)
    """
    dims = range(input.ndim) if dim is None else [dimension("squeeze", d, max(input.ndim, 1)) for d in checks.several(
        "squeeze", "dim", dim)]
    return reshape(input, tuple(n for d, n in enumerate(input.shape) if n != 1 or d not in dims))


@numpy_names
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """With a new dimension of size 1 before the dimension `dim`.

    Args:
        dim: where the new dimension is in the result.

    Returns:
        A Tensor that shares the memory where its layout allows it.

    Raises:
        ShapeError: the result has no such dimension.

    Example:
        >>> Tensor([1.0, 2.0]).unsqueeze(0).shape
        (1, 2)
    """
    at = dimension("unsqueeze", dim, input.ndim + 1)
    return reshape(input, (*input.shape[:at], 1, *input.shape[at:]))
