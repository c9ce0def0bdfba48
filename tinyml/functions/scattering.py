"""Elements written or added at an index, or where a mask is True, as new Tensors; the methods with _ change the Tensor."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import checks
from ..arguments import dimension, index_of, views_first
from ..dtypes import category
from ..engine import TensorBase
from ..errors import DtypeError, ShapeError
from .conversion import of
from .indexing import as_index, as_mask
from .shape import expand, flatten, reshape
from .types import OPS, Tensor, TensorLike, apply


def _fitting(who: str, input: Tensor, value: Any) -> Tensor:
    """A value as a Tensor of the dtype of `input`, which must not lose the fraction of a float."""
    if isinstance(value, TensorBase):
        found: Any = value
    else:
        found = apply.as_tensor(value, None)        # type: ignore
    if found.dtype != input.dtype and input.quantized is None:
        if category(found.dtype) > category(input.dtype) and found.dtype.kind == "f":
            raise DtypeError(f"{who}: values of {found.dtype} do not fit in a Tensor of {input.dtype}; convert one of them "
                             "with to()")
        found = apply(OPS["cast"], found, dtype=str(input.dtype))
    return found        # type: ignore[no-any-return]


def _one(who: str, input: Tensor, value: Any) -> Tensor:
    """A number, or a Tensor of no dimensions."""
    found = _fitting(who, input, value)
    if found.ndim:
        raise ShapeError(f"{who}: expected one value, got shape {found.shape}")
    return found


def masked_fill(input: Tensor, mask: TensorLike, value: Any) -> Tensor:
    """One value where a mask is True: y = value where mask, else x.

    Args:
        mask: bools, of a shape that broadcasts.
        value: a number, or a Tensor of no dimensions.

    Returns:
        A Tensor of the dtype of this one.

    Raises:
        ShapeError: the shapes do not broadcast; DtypeError: a mask that has no bools, or a float for integers.

    Example:
        >>> Tensor([1.0, 2.0]).masked_fill(Tensor([True, False]), 0)
        tensor([0., 2.])
    """
    return apply(OPS["where"], as_mask("masked_fill", mask), _one("masked_fill", input, value), input)


def masked_scatter(input: Tensor, mask: TensorLike, source: Tensor) -> Tensor:
    """The elements of a source, in their order, where a mask is True: y[mask] = source.

    Args:
        mask: bools, of a shape that broadcasts.
        source: at least as many elements as the mask has of True.

    Returns:
        A Tensor of the dtype of this one.

    Raises:
        ShapeError: the shapes do not broadcast, or there are too few elements; DtypeError: other dtypes.

    Example:
        >>> Tensor([1.0, 2.0, 3.0]).masked_scatter(Tensor([True, False, True]), Tensor([7.0, 8.0]))
        tensor([7., 2., 8.])
    """
    where = expand(as_mask("masked_scatter", mask), input.shape)
    places = apply(OPS["nonzero"], flatten(where)).reshape(-1)
    if source.numel() < places.numel():
        raise ShapeError(f"masked_scatter: expected at least {places.numel()} elements for the mask, got {source.numel()}")
    return reshape(scatter(flatten(input), 0, places, flatten(source)), input.shape)


def scatter(input: Tensor, dim: int, index: TensorLike, src: Any = None, *, value: Any = None,
            reduce: str | None = None) -> Tensor:
    """Elements of a source at an index along a dimension: y = x, y[index[i, j], j] = src[i, j] for dim 0.

    Args:
        dim: the dimension.
        index: integers, of as many dimensions as the Tensor, none longer than its own but `dim`.
        src: a Tensor, in no dimension shorter than the index, or a number.
        value: a number in place of `src`.
        reduce: "add" adds them to the elements; None puts them in their place.

    Returns:
        A Tensor of the shape of this one. Where an element is written twice, the last counts.

    Raises:
        ShapeError: an index or a source that does not fit; DtypeError: other dtypes.

    Example:
        >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).scatter(1, Tensor([[0], [1]]), 9.0)
        tensor([[9., 2.],
                [3., 9.]])
    """
    op = "scatter" if checks.choice("scatter", "reduce", reduce, ("add",), optional=True) is None else "scatter_add"
    source = value if src is None else src
    if isinstance(source, (int, float)):        # which PyTorch cuts to the dtype
        source = of(np.asarray(source).astype(input.dtype))
    return _written(op, input, dim, as_index(op, index), _fitting(op, input, source))


def _written(op: str, input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    checks.fits(op, dim, max(input.ndim, 1))
    return apply(OPS[op], input, index, source, axis=dim) if index.numel() else apply(OPS["clone"], input)


def scatter_add(input: Tensor, dim: int, index: TensorLike, src: Tensor) -> Tensor:
    """The elements of a source added at an index along a dimension: y = x, y[index[i, j], j] += src[i, j] for dim 0.

    Args:
        dim: the dimension.
        index: integers, of as many dimensions as the Tensor, none longer than its own but `dim`.
        src: a Tensor, in no dimension shorter than the index.

    Returns:
        A Tensor of the shape of this one.

    Raises:
        ShapeError: an index or a source that does not fit; DtypeError: other dtypes.

    Example:
        >>> Tensor([1.0, 2.0]).scatter_add(0, Tensor([0, 0]), Tensor([10.0, 20.0]))
        tensor([31.,  2.])
    """
    return _written("scatter_add", input, dim, as_index("scatter_add", index), _fitting("scatter_add", input, src))


def _slices(who: str, op: str, input: Tensor, dim: int, index: TensorLike, source: Tensor) -> Tensor:
    """`scatter` or `scatter_add` of whole slices: the index (P) numbers those of the dimension."""
    where, at = as_index(who, index), dimension(who, dim, max(input.ndim, 1))
    count, shape = where.numel(), list(input.shape)
    if where.ndim > 1:
        raise ShapeError(f"{who}: expected an index of one dimension, got shape {where.shape}")
    if shape:
        shape[at] = count
    if source.ndim and source.shape != tuple(shape) and not (source.numel() == count == math.prod(shape)):
        raise ShapeError(f"{who}: expected a source of shape {tuple(shape)} for {count} slices of shape {input.shape}, got "
                         f"{source.shape}")
    steps = [count if d == at else 1 for d in range(len(shape))]
    source = reshape(source, shape) if source.ndim else source
    return _written(op, input, at, expand(reshape(where, steps), shape), source)


def index_add(input: Tensor, dim: int, index: TensorLike, source: Tensor, *, alpha: float = 1) -> Tensor:
    """Slices of a source added to those of a dimension: y = x, y[index[i]] += alpha * source[i] for dim 0.

    Args:
        dim: the dimension.
        index: integers (P).
        source: P slices.
        alpha: what they are multiplied by.

    Returns:
        A Tensor of the shape of this one.

    Raises:
        ShapeError: an index or a source that does not fit; DtypeError: other dtypes.

    Example:
        >>> Tensor([1.0, 2.0]).index_add(0, Tensor([0, 0]), Tensor([10.0, 20.0]))
        tensor([31.,  2.])
    """
    added = _fitting("index_add", input, source)
    if alpha != 1:
        added = apply(OPS["mul"], added, _one("index_add", input, alpha))
    return _slices("index_add", "scatter_add", input, dim, index, added)


def index_copy(input: Tensor, dim: int, index: TensorLike, source: Tensor) -> Tensor:
    """Slices of a source in place of those of a dimension: y = x, y[index[i]] = source[i] for dim 0.

    Args:
        dim: the dimension.
        index: integers (P).
        source: P slices.

    Returns:
        A Tensor of the shape of this one.

    Raises:
        ShapeError: an index or a source that does not fit; DtypeError: other dtypes.

    Example:
        >>> Tensor([1.0, 2.0]).index_copy(0, Tensor([1]), Tensor([9.0]))
        tensor([1., 9.])
    """
    return _slices("index_copy", "scatter", input, dim, index, _fitting("index_copy", input, source))


def index_fill(input: Tensor, dim: int, index: TensorLike, value: Any) -> Tensor:
    """One value in place of slices of a dimension: y = x, y[index[i]] = value for dim 0.

    Args:
        dim: the dimension.
        index: integers (P).
        value: a number, or a Tensor of no dimensions.

    Returns:
        A Tensor of the shape of this one.

    Raises:
        ShapeError: an index that does not fit; DtypeError: other dtypes.

    Example:
        >>> Tensor([1.0, 2.0]).index_fill(0, Tensor([1]), 9.0)
        tensor([1., 9.])
    """
    at = dimension("index_fill", dim, max(input.ndim, 1))
    nowhere = of(np.zeros(input.shape[at] if input.ndim else 1, bool))
    mask = _slices("index_fill", "scatter", nowhere, 0, index, of(np.asarray(True)))
    return masked_fill(input, reshape(mask, [-1 if d == at else 1 for d in range(input.ndim)]), value)


def index_put(input: Tensor, indices: tuple[Any, ...], values: TensorLike, accumulate: bool = False) -> Tensor:
    """Values at an index, as x[indices] = values writes them; or added, each as often as its element is named.

    Args:
        indices: a tuple of what x[...] takes.
        values: of a shape that broadcasts to that of x[indices].
        accumulate: whether they are added.

    Returns:
        A Tensor of the shape of this one.

    Raises:
        ShapeError: an index or values that do not fit; DtypeError: other dtypes.

    Example:
        >>> Tensor([1.0, 2.0]).index_put((Tensor([0, 0]),), Tensor([10.0, 20.0]), accumulate=True)
        tensor([31.,  2.])
    """
    indices = tuple(checks.rows("index_put", "indices", indices, "indices"))
    source, (views, arrays) = _fitting("index_put", input, values), views_first(index_of(indices))
    path = () if views is None else (("getitem", (("index", views),)),)
    if not checks.flag("index_put", "accumulate", accumulate):
        return apply(OPS["put"], input, source, path=path, index=arrays)
    places = of(np.arange(input.numel()).reshape(input.shape))[tuple(indices)]
    return reshape(_written("scatter_add", flatten(input), 0, flatten(places), flatten(expand(source, places.shape))),
                   input.shape)
