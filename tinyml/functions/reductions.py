"""Sums, means and extremes over dimensions."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from .. import checks
from ..arguments import PLAIN_AXES, dimension
from ..dtypes import INT64, NAME_OF, as_dtype
from ..engine import numpy_names
from .types import OPS, Axes, Tensor, TensorLike, apply


def sum(input: Tensor, dim: Axes = None, keepdim: bool = False, *, dtype: DTypeLike | None = None,
        axis: Axes = None, keepdims: bool | None = None) -> Tensor:
    """Sum of the elements over the dimensions `dim`.

    Args:
        dim: one dimension or several; None for all.
        keepdim: whether the result keeps these dimensions, with size 1.
        dtype: what the elements are converted to first; None keeps floats, and makes int64 of integers.
        axis: NumPy's name of dim.
        keepdims: NumPy's name of keepdim.

    Returns:
        A Tensor without the dimensions `dim` (or with size 1 there).

    Raises:
        ShapeError: a dimension that there is not, or one that is named twice.

    Example:
        >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).sum(dim=0)
        tensor([4., 6.])
    """
    if axis is not None or keepdims is not None:
        dim, keepdim = dim if axis is None else axis, keepdim if keepdims is None else keepdims
    if dtype is None and type(dim) in PLAIN_AXES and type(keepdim) is bool and input.ndim and input.dtype.kind == "f":
        return apply(OPS["sum"], input, axis=dim, keepdims=keepdim)     # most calls
    found = _reduced("sum", _as_sums(input, dtype), dim, keepdim)
    return found if dtype is None else cast(found, dtype)       # NumPy adds small integers in int64


@numpy_names
def mean(input: Tensor, dim: Axes = None, keepdim: bool = False, *, dtype: DTypeLike | None = None) -> Tensor:
    """Mean of the elements over the dimensions `dim`.

    Args:
        dim: one dimension or several; None for all.
        keepdim: whether the result keeps these dimensions, with size 1.
        dtype: the float dtype that the elements are converted to first.

    Returns:
        A Tensor without the dimensions `dim` (or with size 1 there).

    Raises:
        ShapeError: a dimension that there is not, one that is named twice, or no elements.

    Example:
        >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).mean(dim=1, keepdim=True).shape
        (2, 1)
    """
    return _reduced("mean", cast(input, dtype), dim, keepdim)


class Extremes(NamedTuple):
    """What is found along a dimension: the elements, and where they were.

    Attributes:
        values: the elements.
        indices: their indices along the dimension, int64.
    """

    values: Tensor
    indices: Tensor


@numpy_names
def max(input: Tensor, dim: TensorLike | None = None, keepdim: bool = False) -> Any:
    """The largest element; along a dimension with its index; or, of two Tensors, the larger of each pair.

    Args:
        dim: the dimension to search along, None for all elements; or another Tensor, which is `maximum`.
        keepdim: whether the result keeps the dimension, with size 1.

    Returns:
        A Tensor; along a dimension a tuple (values, indices), whose gradient goes to the elements at the indices. Of all
        elements, those that are equally large share it.

    Raises:
        ShapeError: a dimension that there is not, or no elements.

    Example:
        >>> Tensor([[1.0, 4.0], [3.0, 2.0]]).max(dim=0)
        Extremes(values=tensor([3., 4.]), indices=tensor([1, 0]))
        >>> Tensor([[1.0, 4.0], [3.0, 2.0]]).max()
        tensor(4.)
    """
    return _extreme("max", "maximum", "argmax", input, dim, keepdim)


@numpy_names
def min(input: Tensor, dim: TensorLike | None = None, keepdim: bool = False) -> Any:
    """The smallest element; along a dimension with its index; or, of two Tensors, the smaller of each pair.

    Args:
        dim: the dimension to search along, None for all elements; or another Tensor, which is `minimum`.
        keepdim: whether the result keeps the dimension, with size 1.

    Returns:
        A Tensor; along a dimension a tuple (values, indices), whose gradient goes to the elements at the indices. Of all
        elements, those that are equally small share it.

    Raises:
        ShapeError: a dimension that there is not, or no elements.

    Example:
        >>> Tensor([[1.0, 4.0], [3.0, 2.0]]).min(dim=1).indices
        tensor([0, 1])
    """
    return _extreme("min", "minimum", "argmin", input, dim, keepdim)


def _extreme(name: str, pairs: str, place: str, input: Tensor, dim: Any, keepdim: bool) -> Any:
    if isinstance(dim, Tensor) or (isinstance(dim, np.ndarray) and dim.ndim):
        return apply(OPS[pairs], input, dim)
    if dim is None:
        return _reduced(name, input, None, keepdim)
    return picked(name, input, dim, keepdim, lambda rows, at: apply(OPS[place], rows, axis=at, keepdims=True))


def picked(name: str, input: Tensor, dim: int, keepdim: bool, find: Callable[[Tensor, int], Tensor]) -> Extremes:
    """The elements along `dim` at the indices that `find` finds, one along `dim`, which goes unless it is kept."""
    at, keepdim = dimension(name, dim, builtins.max(input.ndim, 1)), checks.flag(name, "keepdim", keepdim)
    rows = input if input.ndim else input.reshape(1)
    indices = find(rows, at)
    values = apply(OPS["gather"], rows, indices, axis=at)
    if keepdim and input.ndim:
        return Extremes(values, indices)
    return Extremes(values.squeeze(at), indices.squeeze(at))


@numpy_names
def amax(input: Tensor, dim: Axes = None, keepdim: bool = False) -> Tensor:
    """The largest element over the dimensions `dim`; those that are equally large share the gradient.

    Args:
        dim: one dimension or several; None for all.
        keepdim: whether the result keeps these dimensions, with size 1.

    Returns:
        A Tensor without the dimensions `dim` (or with size 1 there).

    Raises:
        ShapeError: a dimension that there is not, one that is named twice, or no elements.

    Example:
        >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).amax(dim=0)
        tensor([3., 4.])
    """
    return _reduced("max", input, dim, keepdim)


@numpy_names
def amin(input: Tensor, dim: Axes = None, keepdim: bool = False) -> Tensor:
    """The smallest element over the dimensions `dim`; those that are equally small share the gradient.

    Args:
        dim: one dimension or several; None for all.
        keepdim: whether the result keeps these dimensions, with size 1.

    Returns:
        A Tensor without the dimensions `dim` (or with size 1 there).

    Raises:
        ShapeError: a dimension that there is not, one that is named twice, or no elements.

    Example:
        >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).amin()
        tensor(1.)
    """
    return _reduced("min", input, dim, keepdim)


@numpy_names
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Index of the largest element, without a gradient; of several, the first.

    Args:
        dim: the dimension to search along; None for the index in the flattened Tensor.
        keepdim: whether the result keeps the dimension, with size 1.

    Returns:
        An int64 Tensor without the dimension `dim`.

    Raises:
        ShapeError: a dimension that there is not, or no elements.

    Example:
        >>> Tensor([[1.0, 5.0], [7.0, 2.0]]).argmax(dim=1)
        tensor([1, 0])
    """
    return _place("argmax", input, dim, keepdim)


@numpy_names
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Index of the smallest element, without a gradient; of several, the first.

    Args:
        dim: the dimension to search along; None for the index in the flattened Tensor.
        keepdim: whether the result keeps the dimension, with size 1.

    Returns:
        An int64 Tensor without the dimension `dim`.

    Raises:
        ShapeError: a dimension that there is not, or no elements.

    Example:
        >>> Tensor([[1.0, 5.0], [7.0, 2.0]]).argmin()
        tensor(0)
    """
    return _place("argmin", input, dim, keepdim)


def _place(name: str, input: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    if dim is not None:
        dim = dimension(name, dim, builtins.max(input.ndim, 1)) if input.ndim else None
    return apply(OPS[name], input, axis=dim, keepdims=checks.flag(name, "keepdim", keepdim))


@numpy_names
def prod(input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: DTypeLike | None = None) -> Tensor:
    """Product of the elements over the dimension `dim`.

    Args:
        dim: the dimension; None for all.
        keepdim: whether the result keeps it, with size 1.
        dtype: what the elements are converted to first; None keeps floats, and makes int64 of integers.

    Returns:
        A Tensor without the dimension `dim` (or with size 1 there).

    Raises:
        ShapeError: a dimension that there is not.

    Example:
        >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).prod(dim=1)
        tensor([ 2., 12.])
    """
    return _reduced("prod", _as_sums(input, dtype), dim, keepdim)


@numpy_names
def any(input: Tensor, dim: Axes = None, keepdim: bool = False) -> Tensor:
    """Whether any element over the dimensions `dim` is not 0.

    Args:
        dim: one dimension or several; None for all.
        keepdim: whether the result keeps these dimensions, with size 1.

    Returns:
        A Tensor of bools, of uint8 for one of uint8.

    Raises:
        ShapeError: a dimension that there is not, or one that is named twice.

    Example:
        >>> Tensor([[0, 1], [0, 0]]).any(dim=1)
        tensor([ True, False])
    """
    return _reduced("any", input, dim, keepdim)


@numpy_names
def all(input: Tensor, dim: Axes = None, keepdim: bool = False) -> Tensor:
    """Whether all elements over the dimensions `dim` are not 0.

    Args:
        dim: one dimension or several; None for all.
        keepdim: whether the result keeps these dimensions, with size 1.

    Returns:
        A Tensor of bools, of uint8 for one of uint8.

    Raises:
        ShapeError: a dimension that there is not, or one that is named twice.

    Example:
        >>> Tensor([[0, 1], [1, 1]]).all(dim=1)
        tensor([False,  True])
    """
    return _reduced("all", input, dim, keepdim)


@numpy_names
def count_nonzero(input: Tensor, dim: Axes = None) -> Tensor:
    """How many elements over the dimensions `dim` are not 0.

    Args:
        dim: one dimension or several; None for all.

    Returns:
        An int64 Tensor without the dimensions `dim`.

    Raises:
        ShapeError: a dimension that there is not, or one that is named twice.

    Example:
        >>> Tensor([0.0, 2.0, 3.0]).count_nonzero()
        tensor(2)
    """
    return sum(apply(OPS["ne"], input, 0), dim)


@numpy_names
def logsumexp(input: Tensor, dim: Axes, keepdim: bool = False) -> Tensor:
    """ln of the sum of exp(x) over the dimensions `dim`, without overflow.

    Args:
        dim: one dimension or several.
        keepdim: whether the result keeps these dimensions, with size 1.

    Returns:
        A Tensor without the dimensions `dim` (or with size 1 there).

    Raises:
        ShapeError: a dimension that there is not, or one that is named twice.

    Example:
        >>> Tensor([0.0, 0.0]).logsumexp(0)
        tensor(0.6931)
    """
    return _reduced("logsumexp", input, dim, keepdim)


def cast(input: Tensor, dtype: DTypeLike | None) -> Tensor:
    """The Tensor in another dtype; None for its own."""
    return input if dtype is None else apply(OPS["cast"], input, dtype=NAME_OF[as_dtype(dtype)])


def _as_sums(input: Tensor, dtype: DTypeLike | None) -> Tensor:
    """The Tensor in the dtype of its sums."""
    if dtype is None and input.dtype.kind in "biu" and input.quantized is None:
        dtype = INT64
    return input if dtype is None or input.dtype == dtype else cast(input, dtype)


def dims(name: str, dim: Axes, ndim: int) -> Any:
    """`dim` as ops take it. A number has the dimension 0, too, and no dimensions named are all of them."""
    found = checks.axes(name, dim)
    if found == () or (ndim == 0 and found in (0, -1, (0,), (-1,))):
        return None
    return found


def _reduced(name: str, input: Tensor, dim: Axes, keepdim: bool) -> Tensor:
    """The reduction `name`, whose arguments are mostly as the op takes them."""
    if type(dim) not in PLAIN_AXES or type(keepdim) is not bool or not input.ndim:
        dim, keepdim = dims(name, dim, input.ndim), checks.flag(name, "keepdim", keepdim)
    return apply(OPS[name], input, axis=dim, keepdims=keepdim)
