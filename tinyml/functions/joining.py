"""Several Tensors as one, or in one shape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import checks
from ..arguments import dimension
from ..engine import numpy_names
from ..errors import ShapeError
from .shape import expand, reshape, unsqueeze
from .types import OPS, Tensor, TensorLike, apply


def _tensors(who: str, tensors: Any) -> list[Tensor]:
    found: list[Any] = [apply.as_tensor(t, None) for t in checks.rows(who, "tensors", tensors, "Tensors")]  # type: ignore
    if not found:
        raise ShapeError(f"{who}: expected at least one Tensor")
    return found


@numpy_names
def cat(tensors: Iterable[TensorLike], dim: int = 0) -> Tensor:
    """Tensors one after the other along a dimension.

    Args:
        tensors: whose shapes differ in this dimension only. Those of shape (0,) go with any.
        dim: the dimension.

    Returns:
        A Tensor of their common dtype, as long along `dim` as they are together.

    Raises:
        ShapeError: shapes that do not fit, or no Tensors; DtypeError: `tensors` is no list.

    Example:
        >>> tinyml.cat([Tensor([1.0, 2.0]), Tensor([3.0])])
        tensor([1., 2., 3.])
    """
    found = _tensors("cat", tensors)
    if any(t.ndim != 1 for t in found):
        found = [t for t in found if t.shape != (0,)]
    return apply(OPS["concat"], *found, axis=checks.axis("cat", dim))


concat = concatenate = cat


@numpy_names
def stack(tensors: Iterable[TensorLike], dim: int = 0) -> Tensor:
    """Tensors of one shape along a new dimension.

    Args:
        tensors: of one shape.
        dim: where the new dimension is in the result.

    Returns:
        A Tensor with one dimension more.

    Raises:
        ShapeError: different shapes, or no Tensors; DtypeError: `tensors` is no list.

    Example:
        >>> tinyml.stack([Tensor([1.0, 2.0]), Tensor([3.0, 4.0])])
        tensor([[1., 2.],
                [3., 4.]])
    """
    found = _tensors("stack", tensors)
    shape = found[0].shape
    if any(t.shape != shape for t in found):
        raise ShapeError(f"stack: expected Tensors of one shape, got {', '.join(str(t.shape) for t in found)}")
    at = dimension("stack", dim, len(shape) + 1)
    if at == len(shape):
        return apply(OPS["concat"], *(unsqueeze(t, at) for t in found), axis=at)
    joined = apply(OPS["concat"], *found, axis=at)      # one op for all: (n * size) of a dimension is (n, size)
    return reshape(joined, (*shape[:at], len(found), *shape[at:]))


def hstack(tensors: Iterable[TensorLike]) -> Tensor:
    """Tensors side by side: `cat` along the second dimension, along the first where there is one.

    Args:
        tensors: whose shapes differ in this dimension only.

    Returns:
        A Tensor.

    Raises:
        ShapeError: shapes that do not fit, or no Tensors.

    Example:
        >>> tinyml.hstack([Tensor([[1.0], [2.0]]), Tensor([[3.0], [4.0]])])
        tensor([[1., 3.],
                [2., 4.]])
    """
    found = [atleast_1d(t) for t in _tensors("hstack", tensors)]
    return cat(found, min(1, found[0].ndim - 1))


def vstack(tensors: Iterable[TensorLike]) -> Tensor:
    """Tensors one above the other: `cat` along the first dimension; those of one dimension are rows.

    Args:
        tensors: whose shapes differ in this dimension only.

    Returns:
        A Tensor.

    Raises:
        ShapeError: shapes that do not fit, or no Tensors.

    Example:
        >>> tinyml.vstack([Tensor([1.0, 2.0]), Tensor([3.0, 4.0])]).shape
        (2, 2)
    """
    return cat([atleast_2d(t) for t in _tensors("vstack", tensors)])


row_stack = vstack


def dstack(tensors: Iterable[TensorLike]) -> Tensor:
    """Tensors one behind the other: `cat` along the third dimension.

    Args:
        tensors: whose shapes differ in this dimension only.

    Returns:
        A Tensor of at least three dimensions.

    Raises:
        ShapeError: shapes that do not fit, or no Tensors.

    Example:
        >>> tinyml.dstack([Tensor([1.0, 2.0]), Tensor([3.0, 4.0])]).shape
        (1, 2, 2)
    """
    return cat([atleast_3d(t) for t in _tensors("dstack", tensors)], 2)


def column_stack(tensors: Iterable[TensorLike]) -> Tensor:
    """Tensors side by side as columns: `hstack`, in which those of one dimension are columns.

    Args:
        tensors: whose shapes differ in the second dimension only.

    Returns:
        A Tensor of at least two dimensions.

    Raises:
        ShapeError: shapes that do not fit, or no Tensors.

    Example:
        >>> tinyml.column_stack([Tensor([1.0, 2.0]), Tensor([3.0, 4.0])])
        tensor([[1., 3.],
                [2., 4.]])
    """
    return cat([reshape(t, t.numel(), 1) if t.ndim < 2 else t for t in _tensors("column_stack", tensors)], 1)


def atleast_1d(input: Tensor) -> Tensor:
    """With at least one dimension.

    Example:
        >>> tinyml.atleast_1d(Tensor(1.0)).shape
        (1,)
    """
    return input if input.ndim else reshape(input, 1)


def atleast_2d(input: Tensor) -> Tensor:
    """With at least two dimensions: a vector is a row.

    Example:
        >>> tinyml.atleast_2d(Tensor([1.0, 2.0])).shape
        (1, 2)
    """
    return input if input.ndim > 1 else reshape(input, 1, input.numel())


def atleast_3d(input: Tensor) -> Tensor:
    """With at least three dimensions: a matrix gets a last one, a vector one on each side.

    Example:
        >>> tinyml.atleast_3d(Tensor([1.0, 2.0])).shape
        (1, 2, 1)
    """
    return input if input.ndim > 2 else unsqueeze(atleast_2d(input), 2)


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors stretched to the shape that they have together.

    Args:
        tensors: whose shapes broadcast.

    Returns:
        A tuple of Tensors that share the memory of these.

    Raises:
        ShapeError: the shapes do not broadcast.

    Example:
        >>> [t.shape for t in tinyml.broadcast_tensors(Tensor([1.0, 2.0]), Tensor([[3.0], [4.0]]))]
        [(2, 2), (2, 2)]
    """
    try:
        shape = np.broadcast_shapes(*(t.shape for t in tensors))
    except ValueError:
        raise ShapeError(f"broadcast_tensors: shapes {', '.join(str(t.shape) for t in tensors)} do not "
                         "broadcast") from None
    return tuple(expand(t, shape) for t in tensors)
