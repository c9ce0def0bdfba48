"""Elements of a Tensor by index and by mask."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import dimension, index_of, views_first
from ..dtypes import BOOL
from ..engine import TensorBase
from ..errors import DtypeError, ShapeError
from .conversion import of
from .joining import broadcast_tensors
from .shape import expand, flatten, reshape
from .splitting import unbind
from .types import OPS, Tensor, TensorLike, apply


def getitem(input: Tensor, index: Any) -> Tensor:
    """Elements by integers, slices, None, Ellipsis, and arrays or lists of integers or bools: y = x[index].

    Integers and slices are taken first, so the dimension of one array stays in its place. Steps may be negative.

    Args:
        index: one of these, or a tuple of them.

    Returns:
        A Tensor, which shares the memory where the index has no array.

    Raises:
        ShapeError: the index does not fit.

    Example:
        >>> x = Tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> x[:, 0], x[x > 1.5]
        (tensor([1., 3.]), tensor([2., 3., 4.]))
    """
    views, arrays = views_first(index_of(index))
    if views is not None:
        input = apply(OPS["getitem"], input, index=views)
    return input if arrays is None else apply(OPS["getitem"], input, index=arrays)


def as_index(who: str, index: TensorLike) -> Tensor:
    """An index as a Tensor of integers."""
    found = apply.as_tensor(index, None) if not isinstance(index, TensorBase) else index        # type: ignore
    if found.numel() and (found.dtype.kind not in "iu" or found.quantized is not None):
        raise DtypeError(f"{who}: expected an index of integers, got {found.dtype}")
    return found if found.dtype.kind in "iu" else of(found.array.astype(np.int64))


def as_mask(who: str, mask: TensorLike) -> Tensor:
    """A mask as a Tensor of bools."""
    found: Tensor = apply.as_tensor(mask, None) if not isinstance(mask, TensorBase) else mask       # type: ignore
    if found.dtype != BOOL:
        raise DtypeError(f"{who}: expected a mask of bools, got {found.dtype}; compare it, as in mask != 0")
    return found


def index_select(input: Tensor, dim: int, index: TensorLike) -> Tensor:
    """Slices of a dimension: y[i] = x[index[i]] for dim 0.

    Args:
        dim: the dimension.
        index: integers (P), which may be negative: from the end.

    Returns:
        A Tensor with P slices; a slice that is taken more than once gets the sum of the gradients.

    Raises:
        ShapeError: no such dimension or index; DtypeError: an index that has no integers.

    Example:
        >>> Tensor([1.0, 2.0, 3.0]).index_select(0, Tensor([2, 0]))
        tensor([3., 1.])
    """
    where = as_index("index_select", index)
    if where.ndim > 1:
        raise ShapeError(f"index_select: expected an index of one dimension, got shape {where.shape}")
    if not input.ndim:
        return reshape(apply(OPS["index_select"], reshape(input, 1), where, axis=dim), ())
    return apply(OPS["index_select"], input, where if where.ndim else reshape(where, 1), axis=dim)


def take(input: Tensor, index: TensorLike) -> Tensor:
    """Elements by their number in row-major order: y[i] = x.flatten()[index[i]].

    Args:
        index: integers of any shape, which may be negative: from the end.

    Returns:
        A Tensor of the shape of the index.

    Raises:
        ShapeError: no such element; DtypeError: an index that has no integers.

    Example:
        >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).take(Tensor([3, 0]))
        tensor([4., 1.])
    """
    return apply(OPS["index_select"], flatten(input), as_index("take", index), axis=0)


def gather(input: Tensor, dim: int, index: TensorLike, *, sparse_grad: bool = False) -> Tensor:
    """An element for each of an index along a dimension: y[i, j] = x[index[i, j], j] for dim 0.

    Args:
        dim: the dimension.
        index: integers, of as many dimensions as the Tensor, none longer than its own but `dim`.
        sparse_grad: has no effect: gradients are never sparse here.

    Returns:
        A Tensor of the shape of the index; an element that is taken more than once gets the sum of the gradients.

    Raises:
        ShapeError: an index that does not fit; DtypeError: one that has no integers.

    Example:
        >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).gather(1, Tensor([[0, 0], [1, 0]]))
        tensor([[1., 1.],
                [4., 3.]])
    """
    where = as_index("gather", index)
    if not where.numel() and where.ndim != input.ndim:      # PyTorch lets an empty index have any shape
        return apply(OPS["index_select"], flatten(input), where, axis=0)
    return apply(OPS["gather"], input, where, axis=dim)


def take_along_dim(input: Tensor, indices: TensorLike, dim: int | None = None) -> Tensor:
    """`gather`, in which the other dimensions of the Tensor and the indices broadcast; what argsort gives goes in.

    Args:
        indices: integers, of as many dimensions as the Tensor, which may be negative: from the end.
        dim: the dimension; None: both are flattened.

    Returns:
        A Tensor of the shape of the indices, broadcast.

    Raises:
        ShapeError: indices that do not fit; DtypeError: no integers.

    Example:
        >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).take_along_dim(Tensor([[1], [0]]), 1)
        tensor([[2.],
                [3.]])
    """
    where = as_index("take_along_dim", indices)
    if dim is None:
        return take_along_dim(flatten(input), flatten(where), 0)
    if where.ndim != input.ndim:
        raise ShapeError(f"take_along_dim: expected indices of {input.ndim} dimensions, got shape {where.shape}")
    at = dimension("take_along_dim", dim, input.ndim)
    try:
        common = np.broadcast_shapes(*((*s[:at], 1, *s[at + 1 :]) for s in (input.shape, where.shape)))
    except ValueError:
        raise ShapeError(f"take_along_dim: shapes {input.shape} and {where.shape} do not broadcast") from None
    n, count = input.shape[at], where.shape[at]
    where = apply(OPS["where"], apply(OPS["lt"], where, 0), apply(OPS["add"], where, n), where)
    x = expand(input, *common[:at], n, *common[at + 1 :])
    return gather(x, at, expand(where, *common[:at], count, *common[at + 1 :]))


def masked_select(input: Tensor, mask: TensorLike) -> Tensor:
    """The elements where a mask is True, in row-major order: y = x[mask].

    Args:
        mask: bools, of a shape that broadcasts.

    Returns:
        A Tensor of one dimension.

    Raises:
        ShapeError: the shapes do not broadcast; DtypeError: a mask that has no bools.

    Example:
        >>> Tensor([1.0, 2.0, 3.0]).masked_select(Tensor([True, False, True]))
        tensor([1., 3.])
    """
    x, where = broadcast_tensors(input, as_mask("masked_select", mask))
    return getitem(x, where)


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Tensor | tuple[Tensor, ...]:
    """The indices of the elements that are not 0, in row-major order.

    Args:
        as_tuple: a Tensor of indices for each dimension, as x[...] takes them, instead of one.

    Returns:
        int64 (elements, dimensions), a row for each element; or a tuple of its columns.

    Example:
        >>> Tensor([0.0, 2.0, 3.0]).nonzero()
        tensor([[1],
                [2]])
    """
    if as_tuple:
        return unbind(apply(OPS["nonzero"], input if input.ndim else reshape(input, 1)), 1)
    return apply(OPS["nonzero"], input)


def argwhere(input: Tensor) -> Tensor:
    """The indices of the elements that are not 0: y = nonzero(x).

    Example:
        >>> tinyml.argwhere(Tensor([0.0, 2.0]))
        tensor([[1]])
    """
    return apply(OPS["nonzero"], input)
