"""`tinyml.linalg`: norms of vectors and matrices."""

from __future__ import annotations

import math

from numpy.typing import DTypeLike

from .. import checks
from ..engine import numpy_names
from ..errors import ShapeError
from .reductions import cast, dims
from .types import OPS, Axes, Tensor, apply

_ORDERS = ("fro", "nuc")


@numpy_names
def vector_norm(input: Tensor, ord: float = 2, dim: Axes = None, keepdim: bool = False, *,
                dtype: DTypeLike | None = None) -> Tensor:
    """(sum of |x|^ord)^(1/ord) over the dimensions `dim`; where it is 0, so is its gradient.

    Args:
        ord: inf and -inf for the largest and smallest |x|, 0 for how many are not 0.
        dim: one dimension or several; None for all.
        keepdim: whether the result keeps these dimensions, with size 1.
        dtype: the float dtype that the elements are converted to first.

    Returns:
        A Tensor without the dimensions `dim` (or with size 1 there).

    Raises:
        ShapeError: a dimension that there is not, or no elements, for an `ord` that has no norm of them.

    Example:
        >>> tinyml.linalg.vector_norm(Tensor([3.0, 4.0]))
        tensor(5.)
    """
    return apply(OPS["vector_norm"], cast(input, dtype), axis=dims("vector_norm", dim, input.ndim),
                 keepdims=checks.flag("vector_norm", "keepdim", keepdim),
                 ord=checks.number("vector_norm", "ord", ord, infinite=True))


@numpy_names
def matrix_norm(input: Tensor, ord: float | str = "fro", dim: Axes = (-2, -1), keepdim: bool = False, *,
                dtype: DTypeLike | None = None) -> Tensor:
    """The norm of each matrix: "fro" the root of the sum of squares, "nuc" the sum of the singular values.

    Args:
        ord: "fro", "nuc"; 2 and -2 for the largest and smallest singular value, 1 and -1 for the largest and smallest sum
            of |x| of a column, inf and -inf of a row.
        dim: the dimensions of the rows and the columns.
        keepdim: whether the result keeps these dimensions, with size 1.
        dtype: the float dtype that the elements are converted to first.

    Returns:
        A Tensor without the dimensions `dim` (or with size 1 there).

    Raises:
        ShapeError: no two dimensions, or another `ord`.

    Example:
        >>> tinyml.linalg.matrix_norm(Tensor([[3.0, 0.0], [0.0, 4.0]]), "nuc")
        tensor(7.)
    """
    axes = checks.several("matrix_norm", "dim", dim)
    checks.fits("matrix_norm", axes, input.ndim)
    if len(axes) != 2 or not (ord in _ORDERS if isinstance(ord, str) else abs(ord) in (1, 2, math.inf)):
        raise ShapeError(f'matrix_norm: expected two dimensions and ord "fro", "nuc", 1, 2, inf or minus one of them, got '
                         f"{dim} and {ord}")
    x, (rows, columns) = cast(input, dtype), (a % input.ndim for a in axes)
    if ord == "fro":
        return vector_norm(x, 2, (rows, columns), keepdim)
    if ord == "nuc" or abs(ord) == 2:       # type: ignore[arg-type]
        order = (*(d for d in range(x.ndim) if d not in (rows, columns)), rows, columns)
        values = apply(OPS["svdvals"], x.permute(*order))
        found = values.sum(-1) if ord == "nuc" else values.amax(-1) if ord == 2 else values.amin(-1)
    else:
        first, second = (rows, columns) if abs(ord) == 1 else (columns, rows)       # type: ignore[arg-type]
        sums = vector_norm(x, 1, first, True)
        found = (sums.amax if ord > 0 else sums.amin)((first, second))      # type: ignore[operator]
    if not checks.flag("matrix_norm", "keepdim", keepdim):
        return found
    for d in sorted((rows, columns)):
        found = found.unsqueeze(d)
    return found


@numpy_names
def norm(input: Tensor, ord: float | str | None = None, dim: Axes = None, keepdim: bool = False, *,
                dtype: DTypeLike | None = None) -> Tensor:
    """A norm of vectors, or of matrices if `dim` has two dimensions or an `ord` is given for a matrix.

    Args:
        ord: as in `vector_norm` or `matrix_norm`; None for the root of the sum of squares.
        dim: one dimension or two; None for all.
        keepdim: whether the result keeps these dimensions, with size 1.
        dtype: the float dtype that the elements are converted to first.

    Returns:
        A Tensor without the dimensions `dim` (or with size 1 there).

    Raises:
        ShapeError: a dimension that there is not, or an `ord` that does not fit.

    Example:
        >>> tinyml.linalg.norm(Tensor([3.0, 4.0]), float("inf"))
        tensor(4.)
    """
    if ord is None:
        return vector_norm(input, 2, dim, keepdim, dtype=dtype)
    if dim is None and input.ndim > 2:
        raise ShapeError(f"linalg.norm: expected a vector or a matrix with ord {ord} and no dim, got shape {input.shape}")
    two = input.ndim == 2 if dim is None else isinstance(dim, (tuple, list)) and len(dim) == 2
    if two:
        return matrix_norm(input, ord, (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    return vector_norm(input, ord, dim, keepdim, dtype=dtype)       # type: ignore[arg-type]
