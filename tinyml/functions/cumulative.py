"""Sums, products and extremes of all elements up to each along a dimension, and differences of neighbours."""

from __future__ import annotations

import builtins

from numpy.typing import DTypeLike

from .. import checks
from ..arguments import dimension
from ..engine import numpy_names
from ..errors import ShapeError
from .reductions import Extremes, _as_sums
from .types import OPS, Tensor, apply


@numpy_names
def cumsum(input: Tensor, dim: int, *, dtype: DTypeLike | None = None) -> Tensor:
    """Sums of the elements up to each along `dim`: y_i = x_0 + ... + x_i.

    Args:
        dim: the dimension.
        dtype: what the elements are converted to first; None keeps floats, and makes int64 of integers.

    Returns:
        A Tensor of the same shape.

    Raises:
        ShapeError: a dimension that there is not.

    Example:
        >>> Tensor([1.0, 2.0, 3.0]).cumsum(0)
        tensor([1., 3., 6.])
    """
    return _along("cumsum", _as_sums(input, dtype), dim)


@numpy_names
def cumprod(input: Tensor, dim: int, *, dtype: DTypeLike | None = None) -> Tensor:
    """Products of the elements up to each along `dim`: y_i = x_0 ... x_i.

    Args:
        dim: the dimension.
        dtype: what the elements are converted to first; None keeps floats, and makes int64 of integers.

    Returns:
        A Tensor of the same shape.

    Raises:
        ShapeError: a dimension that there is not.

    Example:
        >>> Tensor([1.0, 2.0, 3.0]).cumprod(0)
        tensor([1., 2., 6.])
    """
    return _along("cumprod", _as_sums(input, dtype), dim)


@numpy_names
def cummax(input: Tensor, dim: int) -> Extremes:
    """The largest element up to each along `dim`, and its index, of equal ones the last.

    Args:
        dim: the dimension.

    Returns:
        A tuple (values, indices), whose gradient goes to the elements at the indices.

    Raises:
        ShapeError: a dimension that there is not.

    Example:
        >>> Tensor([1.0, 3.0, 2.0]).cummax(0).values
        tensor([1., 3., 3.])
    """
    return _extremes("cummax", input, dim)


@numpy_names
def cummin(input: Tensor, dim: int) -> Extremes:
    """The smallest element up to each along `dim`, and its index, of equal ones the last.

    Args:
        dim: the dimension.

    Returns:
        A tuple (values, indices), whose gradient goes to the elements at the indices.

    Raises:
        ShapeError: a dimension that there is not.

    Example:
        >>> Tensor([3.0, 1.0, 2.0]).cummin(0).values
        tensor([3., 1., 1.])
    """
    return _extremes("cummin", input, dim)


def _along(name: str, input: Tensor, dim: int) -> Tensor:
    at = dimension(name, dim, builtins.max(input.ndim, 1))
    return apply(OPS[name], input, axis=at) if input.ndim else input.clone()


def _extremes(name: str, input: Tensor, dim: int) -> Extremes:
    at, rows = dimension(name, dim, builtins.max(input.ndim, 1)), input if input.ndim else input.reshape(1)
    indices = apply(OPS[f"arg{name}"], rows, axis=at)
    return Extremes(apply(OPS["gather"], rows, indices, axis=at).reshape(input.shape), indices.reshape(input.shape))


@numpy_names
def diff(input: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None) -> Tensor:
    """Differences of neighbours along `dim`, n times: y_i = x_{i + 1} - x_i. Of bools, whether they differ.

    Args:
        n: how many times.
        dim: the dimension.
        prepend: what is put before the elements first.
        append: what is put behind them first.

    Returns:
        A Tensor that is n shorter along `dim`.

    Raises:
        ShapeError: a dimension that there is not, or parts that do not fit.

    Example:
        >>> Tensor([1.0, 4.0, 9.0]).diff()
        tensor([3., 5.])
    """
    if not input.ndim:
        raise ShapeError("diff: expected a Tensor of at least one dimension, got one element of shape ()")
    at, n = dimension("diff", dim, input.ndim), checks.whole("diff", "n", n)
    if not n:
        return input
    parts = [t for t in (prepend, input, append) if t is not None]
    found = apply(OPS["concat"], *parts, axis=at) if len(parts) > 1 else input
    every = (slice(None),) * at
    for _ in range(builtins.min(n, found.shape[at])):
        name = "sub" if found.dtype.kind != "b" else "ne"
        found = apply(OPS[name], found[(*every, slice(1, None))], found[(*every, slice(None, -1))])
    return found
