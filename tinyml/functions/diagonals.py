"""Diagonals, triangles and windows of Tensors."""

from __future__ import annotations

import numpy as np

from .. import checks
from ..arguments import dimension as dimension_of
from ..errors import ShapeError
from .conversion import of
from .shape import reshape
from .splitting import narrow
from .types import OPS, Tensor, apply


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A diagonal of two dimensions, which becomes the last one: y[i] = x[i, i + offset].

    Args:
        offset: how far above the main diagonal; below it where it is negative.
        dim1: the dimension of the rows.
        dim2: the dimension of the columns.

    Returns:
        A Tensor that shares the memory.

    Raises:
        ShapeError: dimensions that there are not.

    Example:
        >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).diagonal()
        tensor([1., 4.])
    """
    return apply(OPS["diagonal"], input, offset=checks.whole("diagonal", "offset", offset, -(2**62)), dim1=dim1, dim2=dim2)


def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Zeros with the elements on a diagonal of two new dimensions: y[i, i + offset] = x[i].

    Args:
        offset: how far above the main diagonal; below it where it is negative.
        dim1: where the dimension of the rows is in the result.
        dim2: where the dimension of the columns is in it.

    Returns:
        A Tensor with one dimension more.

    Raises:
        ShapeError: dimensions that there are not, or one for both.

    Example:
        >>> Tensor([1.0, 2.0]).diag_embed()
        tensor([[1., 0.],
                [0., 2.]])
    """
    offset, ndim = checks.whole("diag_embed", "offset", offset, -(2**62)), input.ndim + 1
    row, column = dimension_of("diag_embed", dim1, ndim), dimension_of("diag_embed", dim2, ndim)
    if not input.ndim or row == column:
        raise ShapeError(f"diag_embed: dimensions {dim1} and {dim2} do not fit a Tensor of shape {input.shape}")
    n = input.shape[-1] + abs(offset)
    shape = list(input.shape[:-1])
    for d in sorted((row, column)):
        shape.insert(d, n)
    attrs = {"offset": offset, "dim1": row, "dim2": column}
    path = (("diagonal", tuple(attrs.items())),)
    return apply(OPS["put"], of(np.zeros(shape, input.dtype)), input, path=path, index=None)


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix, as a copy, or the matrix with a vector on its diagonal.

    Args:
        diagonal: how far above the main diagonal; below it where it is negative.

    Returns:
        A vector, or a matrix.

    Raises:
        ShapeError: the Tensor has not one or two dimensions.

    Example:
        >>> tinyml.diag(Tensor([[1.0, 2.0], [3.0, 4.0]]), 1)
        tensor([2.])
    """
    if input.ndim == 2:
        return apply(OPS["clone"], apply(OPS["diagonal"], input, offset=diagonal, dim1=0, dim2=1))
    if input.ndim != 1:
        raise ShapeError(f"diag: expected a vector or a matrix, got shape {input.shape}")
    return diag_embed(input, diagonal)


def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle of each matrix, zeros above: y[i, j] = x[i, j] where j <= i + diagonal, else 0.

    Args:
        diagonal: how far above the main diagonal the triangle ends; below it where it is negative.

    Returns:
        A Tensor of the same shape.

    Raises:
        ShapeError: the Tensor has fewer than two dimensions.

    Example:
        >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).tril()
        tensor([[1., 0.],
                [3., 4.]])
    """
    return _triangle("tril", input, diagonal)


def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of each matrix, zeros below: y[i, j] = x[i, j] where j >= i + diagonal, else 0.

    Args:
        diagonal: how far above the main diagonal the triangle begins; below it where it is negative.

    Returns:
        A Tensor of the same shape.

    Raises:
        ShapeError: the Tensor has fewer than two dimensions.

    Example:
        >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).triu(1)
        tensor([[0., 2.],
                [0., 0.]])
    """
    return _triangle("triu", input, diagonal)


def _triangle(name: str, input: Tensor, diagonal: int) -> Tensor:
    if input.ndim < 2:
        raise ShapeError(f"{name}: expected a matrix or a batch of them, got shape {input.shape}")
    k = checks.whole(name, "diagonal", diagonal, -(2**62))
    rows, columns = (np.arange(n) for n in input.shape[-2:])
    kept = columns <= rows[:, None] + k if name == "tril" else columns >= rows[:, None] + k
    return apply(OPS["where"], of(kept), input, of(np.zeros((), input.dtype)))


def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Windows along a dimension, whose elements are the last dimension of the result: y[i, j] = x[i * step + j].

    Args:
        dimension: the dimension.
        size: the elements of a window.
        step: how far apart windows begin.

    Returns:
        A Tensor that shares the memory, and cannot be written where windows overlap.

    Raises:
        ShapeError: there is no such dimension, or it has fewer elements than a window.

    Example:
        >>> Tensor([1.0, 2.0, 3.0, 4.0]).unfold(0, 2, 1)
        tensor([[1., 2.],
                [2., 3.],
                [3., 4.]])
    """
    size, step = checks.whole("unfold", "size", size), checks.whole("unfold", "step", step, 1)
    if not input.ndim:
        return narrow(reshape(input, 1), dimension, 0, size)
    return apply(OPS["unfold"], input, axis=checks.axis("unfold", dimension), size=size, step=step)
