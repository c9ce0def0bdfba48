"""Several Tensors as one, and choices between elements of two."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ... import checks, ops
from ...engine import numpy_names
from ...tensors import Tensor, TensorLike, apply, as_tensor


@numpy_names
def cat(tensors: Iterable[TensorLike], dim: int = 0) -> Tensor:
    """Tensors one after the other along a dimension.

    Args:
        tensors: whose shapes differ in the dimension `dim` only.
        dim: the dimension.

    Returns:
        A Tensor, as long along `dim` as they are together.

    Raises:
        ShapeError: shapes that do not fit, or no Tensors; DtypeError: `tensors` is no list.

    Example:
        >>> F.cat([[1.0, 2.0], [3.0]])
        tensor([1., 2., 3.])
    """
    return apply(ops.shape.Concat, *_row("cat", tensors), axis=checks.axis("cat", dim))


concat = cat


@numpy_names
def stack(tensors: Iterable[TensorLike], dim: int = 0) -> Tensor:
    """Tensors of one shape along a new dimension.

    Args:
        tensors: of one shape.
        dim: the new dimension of the result.

    Returns:
        A Tensor of one dimension more.

    Raises:
        ShapeError: shapes that differ, or no Tensors; DtypeError: `tensors` is no list.

    Example:
        >>> F.stack([[1.0, 2.0], [3.0, 4.0]], dim=1)
        tensor([[1., 3.],
                [2., 4.]])
    """
    dim = checks.axis("stack", dim)
    return cat([t.unsqueeze(dim) for t in _row("stack", tensors)], dim)


def _row(name: str, tensors: Any) -> list[Tensor]:
    return [as_tensor(t) for t in checks.rows(name, "tensors", tensors, "Tensors")]


def where(condition: TensorLike, input: TensorLike, other: TensorLike) -> Tensor:
    """`input` where the condition holds, else `other`, elementwise.

    Args:
        condition: booleans.
        input: values for True; shapes broadcast.
        other: values for False.

    Returns:
        A Tensor of the shape that all three broadcast to.

    Raises:
        ShapeError: shapes that do not broadcast; DtypeError: a condition that is not of booleans or integers.

    Example:
        >>> F.where([True, False], [1.0, 2.0], 0.0)
        tensor([1., 0.])
    """
    return apply(ops.arithmetic.Where, condition, input, other)


def maximum(input: TensorLike, other: TensorLike) -> Tensor:
    """The larger of `input` and `other`, elementwise.

    Args:
        input: any shape.
        other: a shape that broadcasts with it.

    Returns:
        A Tensor of the shape that both broadcast to.

    Raises:
        ShapeError: shapes that do not broadcast.

    Example:
        >>> F.maximum([1.0, 5.0], 3.0)
        tensor([3., 5.])
    """
    return apply(ops.arithmetic.Maximum, input, other)


def minimum(input: TensorLike, other: TensorLike) -> Tensor:
    """The smaller of `input` and `other`, elementwise.

    Args:
        input: any shape.
        other: a shape that broadcasts with it.

    Returns:
        A Tensor of the shape that both broadcast to.

    Raises:
        ShapeError: shapes that do not broadcast.

    Example:
        >>> F.minimum([1.0, 5.0], 3.0)
        tensor([1., 3.])
    """
    return apply(ops.arithmetic.Minimum, input, other)
