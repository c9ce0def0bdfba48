"""New Tensors of the shape or the dtype of another."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, DTypeLike

from .creation import empty, full, ones, tensor, zeros
from .types import Tensor


def zeros_like(input: Tensor, *, dtype: DTypeLike | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros in the shape of `input`.

    Args:
        dtype: of the elements; None for that of `input`.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there.

    Returns:
        A Tensor of the same shape.

    Raises:
        DtypeError: another device, or int8, which needs a scale.

    Example:
        >>> tinyml.zeros_like(Tensor([1, 2]))
        tensor([0, 0])
    """
    return zeros(input.shape, dtype=_own(input, dtype), device=device, requires_grad=requires_grad)


def ones_like(input: Tensor, *, dtype: DTypeLike | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones in the shape of `input`.

    Args:
        dtype: of the elements; None for that of `input`.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there.

    Returns:
        A Tensor of the same shape.

    Raises:
        DtypeError: another device, or int8, which needs a scale.

    Example:
        >>> tinyml.ones_like(Tensor([1, 2]))
        tensor([1, 1])
    """
    return ones(input.shape, dtype=_own(input, dtype), device=device, requires_grad=requires_grad)


def empty_like(input: Tensor, *, dtype: DTypeLike | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor in the shape of `input`, whose elements are whatever its memory had.

    Args:
        dtype: of the elements; None for that of `input`.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there.

    Returns:
        A Tensor of the same shape.

    Raises:
        DtypeError: another device, or int8, which needs a scale.

    Example:
        >>> tinyml.empty_like(Tensor([1, 2])).shape
        (2,)
    """
    return empty(input.shape, dtype=_own(input, dtype), device=device, requires_grad=requires_grad)


def full_like(input: Tensor, fill_value: Any, *, dtype: DTypeLike | None = None, device: Any = None,
              requires_grad: bool = False) -> Tensor:
    """One value in the shape of `input`.

    Args:
        fill_value: the value: a number, or a Tensor of one element.
        dtype: of the elements; None for that of `input`.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there.

    Returns:
        A Tensor of the same shape.

    Raises:
        ShapeError: a value that the dtype does not have; DtypeError: no number, another device, or int8.

    Example:
        >>> tinyml.full_like(Tensor([1, 2]), 7)
        tensor([7, 7])
    """
    return full(input.shape, fill_value, dtype=_own(input, dtype), device=device, requires_grad=requires_grad)


def new_zeros(input: Tensor, *size: Any, dtype: DTypeLike | None = None, device: Any = None,
              requires_grad: bool = False) -> Tensor:
    """Zeros of the dtype of `input`.

    Args:
        size: of each dimension, as numbers or as one tuple.
        dtype: of the elements; None for that of `input`.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there.

    Returns:
        A Tensor of this size.

    Raises:
        ShapeError: a size below 0; DtypeError: another device, or int8, which needs a scale.

    Example:
        >>> Tensor([1, 2]).new_zeros(3)
        tensor([0, 0, 0])
    """
    return zeros(*size, dtype=_own(input, dtype), device=device, requires_grad=requires_grad)


def new_ones(input: Tensor, *size: Any, dtype: DTypeLike | None = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:
    """Ones of the dtype of `input`.

    Args:
        size: of each dimension, as numbers or as one tuple.
        dtype: of the elements; None for that of `input`.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there.

    Returns:
        A Tensor of this size.

    Raises:
        ShapeError: a size below 0; DtypeError: another device, or int8, which needs a scale.

    Example:
        >>> Tensor([1, 2]).new_ones(3)
        tensor([1, 1, 1])
    """
    return ones(*size, dtype=_own(input, dtype), device=device, requires_grad=requires_grad)


def new_empty(input: Tensor, *size: Any, dtype: DTypeLike | None = None, device: Any = None,
              requires_grad: bool = False) -> Tensor:
    """A Tensor of the dtype of `input`, whose elements are whatever its memory had.

    Args:
        size: of each dimension, as numbers or as one tuple.
        dtype: of the elements; None for that of `input`.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there.

    Returns:
        A Tensor of this size.

    Raises:
        ShapeError: a size below 0; DtypeError: another device, or int8, which needs a scale.

    Example:
        >>> Tensor([1, 2]).new_empty(3).shape
        (3,)
    """
    return empty(*size, dtype=_own(input, dtype), device=device, requires_grad=requires_grad)


def new_full(input: Tensor, size: Any, fill_value: Any, *, dtype: DTypeLike | None = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:
    """One value in the dtype of `input`.

    Args:
        size: of each dimension, as a tuple.
        fill_value: the value: a number, or a Tensor of one element.
        dtype: of the elements; None for that of `input`.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there.

    Returns:
        A Tensor of this size.

    Raises:
        ShapeError: a size below 0, or a value that the dtype does not have; DtypeError: no number, another device, or int8.

    Example:
        >>> Tensor([1, 2]).new_full((3,), 7)
        tensor([7, 7, 7])
    """
    return full(size, fill_value, dtype=_own(input, dtype), device=device, requires_grad=requires_grad)


def new_tensor(input: Tensor, data: ArrayLike, *, dtype: DTypeLike | None = None, device: Any = None,
               requires_grad: bool = False) -> Tensor:
    """A Tensor of a copy of the data, in the dtype of `input`.

    Args:
        data: a number, nested lists of numbers, an array, or a Tensor.
        dtype: of the elements; None for that of `input`.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there.

    Returns:
        A Tensor with memory of its own.

    Raises:
        DtypeError: what is no number, another device, or int8; ShapeError: nested lists of different lengths.

    Example:
        >>> Tensor([1.0]).new_tensor([2, 3])
        tensor([2., 3.])
    """
    return tensor(data, dtype=_own(input, dtype), device=device, requires_grad=requires_grad)


def _own(input: Tensor, dtype: DTypeLike | None) -> Any:
    return input.dtype if dtype is None else dtype
