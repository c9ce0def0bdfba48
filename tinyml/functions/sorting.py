"""Elements in order: sorted, the largest ones, the k-th, and where others belong among them. NaN counts as the largest."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from .. import checks
from ..arguments import dimension
from ..engine import numpy_names
from ..errors import ShapeError
from .reductions import Extremes, picked
from .types import OPS, Tensor, TensorLike, apply


def _ordered(name: str, input: Tensor, dim: int, descending: bool, k: int | None) -> Extremes:
    at = dimension(name, dim, builtins.max(input.ndim, 1))
    rows = input if input.ndim else input.reshape(1)
    indices = apply(OPS["argsort"], rows, axis=at, descending=checks.flag(name, "descending", descending), k=k)
    values = apply(OPS["gather"], rows, indices, axis=at)
    return Extremes(values, indices) if input.ndim else Extremes(values.reshape(), indices.reshape())


@numpy_names
def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Extremes:
    """The elements along `dim` in order, and their indices. Equal ones stay in their order, stable or not.

    Args:
        dim: the dimension.
        descending: whether the largest is first.
        stable: taken because PyTorch has it.

    Returns:
        A tuple (values, indices), whose gradient goes to the elements at the indices.

    Raises:
        ShapeError: a dimension that there is not.

    Example:
        >>> Tensor([3.0, 1.0, 2.0]).sort().values
        tensor([1., 2., 3.])
    """
    return _ordered("sort", input, dim, descending, None)


@numpy_names
def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """The indices of the elements along `dim` in order. Equal ones stay in their order, stable or not.

    Args:
        dim: the dimension.
        descending: whether the largest is first.
        stable: taken because PyTorch has it.

    Returns:
        An int64 Tensor of the same shape.

    Raises:
        ShapeError: a dimension that there is not.

    Example:
        >>> Tensor([3.0, 1.0, 2.0]).argsort()
        tensor([1, 2, 0])
    """
    return _ordered("argsort", input, dim, descending, None).indices


@numpy_names
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Extremes:
    """The k largest elements along `dim` from the largest on, and their indices.

    Args:
        k: how many.
        dim: the dimension.
        largest: False for the smallest, from the smallest on.
        sorted: they are in order even if it is False.

    Returns:
        A tuple (values, indices), whose gradient goes to the elements at the indices.

    Raises:
        ShapeError: a dimension that there is not, or fewer elements than k.

    Example:
        >>> Tensor([3.0, 1.0, 2.0]).topk(2).values
        tensor([3., 2.])
    """
    return _ordered("topk", input, dim, checks.flag("topk", "largest", largest), checks.whole("topk", "k", k))


@numpy_names
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Extremes:
    """The k-th smallest element along `dim`, and its index.

    Args:
        k: 1 for the smallest.
        dim: the dimension.
        keepdim: whether the result keeps the dimension, with size 1.

    Returns:
        A tuple (values, indices), whose gradient goes to the elements at the indices.

    Raises:
        ShapeError: a dimension that there is not, or fewer elements than k.

    Example:
        >>> Tensor([3.0, 1.0, 2.0]).kthvalue(2).values
        tensor(2.)
    """
    k = checks.whole("kthvalue", "k", k, 1)
    return picked("kthvalue", input, dim, keepdim, lambda rows, at: apply(OPS["argkth"], rows, axis=at, k=k))


def searchsorted(sorted_sequence: TensorLike, input: TensorLike, *, out_int32: bool = False, right: bool = False,
                 side: str | None = None, sorter: TensorLike | None = None) -> Tensor:
    """Where each value belongs in a sorted row, so that it stays sorted: before equal elements, with `right` behind them.

    Args:
        sorted_sequence: one row (N,), or (..., N) one for each row of the values.
        input: the values; a number has the result of a number.
        out_int32: whether the result is int32.
        right: whether values belong behind equal elements.
        side: "left" or "right", the same as `right`.
        sorter: the indices that sort the rows, if they are not sorted.

    Returns:
        An int64 Tensor of the shape of the values.

    Raises:
        ShapeError: as many rows as the values do not have, or a side that contradicts `right`.

    Example:
        >>> tinyml.searchsorted(Tensor([1.0, 3.0, 5.0]), Tensor([3.0, 4.0]))
        tensor([1, 2])
    """
    if checks.choice("searchsorted", "side", side, ("left", "right"), optional=True) == "left" and right:
        raise ShapeError('searchsorted: side "left" contradicts right=True')
    if sorter is not None:
        sorted_sequence = apply(OPS["gather"], sorted_sequence, sorter, axis=-1)
    found = apply(OPS["searchsorted"], sorted_sequence, input, right=right or side == "right")
    return found.to("int32") if checks.flag("searchsorted", "out_int32", out_int32) else found


def bucketize(input: TensorLike, boundaries: TensorLike, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """Between which of the sorted boundaries each element lies: searchsorted(boundaries, input).

    Args:
        input: the elements.
        boundaries: (N,), sorted.
        out_int32: whether the result is int32.
        right: whether an element that equals a boundary lies behind it.

    Returns:
        An int64 Tensor of the shape of the elements.

    Raises:
        ShapeError: boundaries that are no row.

    Example:
        >>> tinyml.bucketize(Tensor([0.5, 2.0]), Tensor([1.0, 2.0]))
        tensor([0, 1])
    """
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


@numpy_names
def unique(input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False,
           dim: int | None = None) -> Any:
    """The different elements in order, or the different slices along `dim`.

    Args:
        sorted: they are in order even if it is False.
        return_inverse: whether also to give the index of each element (or slice) among them.
        return_counts: whether also to give how often each occurs.
        dim: the dimension; None for elements.

    Returns:
        A Tensor, or a tuple of it and what else was asked for.

    Raises:
        ShapeError: a dimension that there is not.

    Example:
        >>> Tensor([2, 1, 2]).unique(return_counts=True)
        (tensor([1, 2]), tensor([1, 2]))
    """
    at = None if dim is None else dimension("unique", dim, builtins.max(input.ndim, 1))
    found, inverse, counts = np.unique(input.array if at is None or input.ndim else input.array.reshape(1), axis=at,
                                       return_inverse=True, return_counts=True, equal_nan=False)
    inverse = inverse.reshape(input.shape if at is None else -1)
    parts = [found, *[inverse] * checks.flag("unique", "return_inverse", return_inverse),
             *[counts] * checks.flag("unique", "return_counts", return_counts)]
    results = tuple(apply.tensor._of(part) for part in parts)      # type: ignore[attr-defined]
    return results if len(results) > 1 else results[0]
