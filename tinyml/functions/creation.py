"""New Tensors of data, and of one value."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .. import checks
from .._kernels import memory
from ..apply import apply
from ..arguments import check_device
from ..dtypes import FLOAT32, dtype_of_number, element_dtype
from ..errors import DtypeError
from .conversion import of, requires_grad_, to
from .types import Tensor, TensorLike


def of_tensors(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of an `input` take what becomes a Tensor, and refuse what does not."""
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if args:
            if not isinstance(args[0], Tensor):
                args = (as_tensor(args[0]), *args[1:])
        elif "input" in kwargs:
            kwargs["input"] = as_tensor(kwargs["input"])
        return function(*args, **kwargs)
    return call


def sized(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let a function of a size be called as PyTorch's are: with numbers, with one tuple, or with `size=`."""
    @wraps(function)
    def call(*numbers: Any, size: Any = None, **kwargs: Any) -> Tensor:
        return function(size_of(function.__name__, numbers if size is None else (size,)), **kwargs)
    return call


def size_of(who: str, size: Any) -> tuple[int, ...]:
    """A size from its numbers, or from a tuple of one tuple of them; none is below 0."""
    return checks.several(who, "size", size[0] if len(size) == 1 and isinstance(size[0], (tuple, list)) else size, 0)


def made(who: str, array: np.ndarray, device: Any, requires_grad: bool) -> Tensor:
    """The Tensor of a new array."""
    check_device(who, device)
    return requires_grad_(of(array), requires_grad)


def tensor(data: ArrayLike | Tensor, *, dtype: DTypeLike | None = None, device: Any = None,
           requires_grad: bool = False) -> Tensor:
    """A Tensor of a copy of the data.

    Args:
        data: a number, nested lists of numbers, an array, or a Tensor, of which the new one is no result.
        dtype: of the elements; None for float32 of Python's floats, int64 of its integers, and that of an array.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there.

    Returns:
        A Tensor with memory of its own.

    Raises:
        DtypeError: what is no number, or another device; ShapeError: nested lists of different lengths.

    Example:
        >>> tinyml.tensor([[1, 2], [3, 4]])
        tensor([[1, 2],
                [3, 4]])
    """
    return made("tensor", apply.tensor(data, dtype=dtype).array.copy(), device, requires_grad)


def as_tensor(data: TensorLike, dtype: DTypeLike | None = None, device: Any = None) -> Tensor:
    """A Tensor of the data, which shares memory with an array, and is `data` itself if that is a Tensor.

    Args:
        data: a number, nested lists of numbers, an array or a Tensor.
        dtype: of the elements, which are copied where they have another; None as for `tensor`.
        device: "cpu", the one device there is.

    Returns:
        A Tensor.

    Raises:
        DtypeError: what is no number, or another device; ShapeError: nested lists of different lengths.

    Example:
        >>> array = np.zeros(2)
        >>> tinyml.as_tensor(array).numpy() is array
        True
    """
    check_device("as_tensor", device)
    if isinstance(data, Tensor):
        return data if dtype is None else to(data, dtype)
    found: Tensor = apply.tensor(data, dtype=dtype)
    return found


def from_numpy(array: np.ndarray) -> Tensor:
    """A Tensor that shares the memory of an ndarray: a change of one shows in the other.

    Args:
        array: an ndarray of a dtype that Tensors have.

    Returns:
        A Tensor of the same shape and dtype.

    Raises:
        DtypeError: no ndarray, or one of another dtype.

    Example:
        >>> array = np.zeros(2, np.float32)
        >>> x = tinyml.from_numpy(array)
        >>> x += 1
        >>> array
        array([1., 1.], dtype=float32)
    """
    found: Tensor = apply.tensor(checks.instance("from_numpy", "array", array, np.ndarray))
    if found.dtype != array.dtype:
        raise DtypeError(f"from_numpy: no Tensor can have the dtype {array.dtype}; tinyml.tensor(array) copies it as "
                         f"{found.dtype}")
    return found


@sized
def zeros(size: Any, *, dtype: DTypeLike | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor of zeros.

    Args:
        size: of each dimension, as numbers or as one tuple.
        dtype: of the elements; None for float32.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there.

    Returns:
        A Tensor of this size.

    Raises:
        ShapeError: a size below 0; DtypeError: another device, or int8, which needs a scale.

    Example:
        >>> tinyml.zeros(2, 1).tolist() == tinyml.zeros((2, 1)).tolist() == [[0.0], [0.0]]
        True
    """
    return _filled("zeros", size, 0, element_dtype("zeros", dtype, FLOAT32), device, requires_grad)


@sized
def ones(size: Any, *, dtype: DTypeLike | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor of ones.

    Args:
        size: of each dimension, as numbers or as one tuple.
        dtype: of the elements; None for float32.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there.

    Returns:
        A Tensor of this size.

    Raises:
        ShapeError: a size below 0; DtypeError: another device, or int8, which needs a scale.

    Example:
        >>> tinyml.ones(2)
        tensor([1., 1.])
    """
    return _filled("ones", size, 1, element_dtype("ones", dtype, FLOAT32), device, requires_grad)


@sized
def empty(size: Any, *, dtype: DTypeLike | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor whose elements are whatever its memory had: for who writes them next.

    Args:
        size: of each dimension, as numbers or as one tuple.
        dtype: of the elements; None for float32.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there.

    Returns:
        A Tensor of this size.

    Raises:
        ShapeError: a size below 0; DtypeError: another device, or int8, which needs a scale.

    Example:
        >>> tinyml.empty(2, 3).shape
        (2, 3)
    """
    return made("empty", memory.empty(size, element_dtype("empty", dtype, FLOAT32)), device, requires_grad)


def full(size: Any, fill_value: Any, *, dtype: DTypeLike | None = None, device: Any = None,
         requires_grad: bool = False) -> Tensor:
    """A Tensor of one value.

    Args:
        size: of each dimension, as a tuple.
        fill_value: the value: a number, or a Tensor of one element.
        dtype: of the elements; None for float32, int64 or bool, whichever the value is.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there.

    Returns:
        A Tensor of this size.

    Raises:
        ShapeError: a size below 0, or a value that the dtype does not have; DtypeError: no number, another device, or int8.

    Example:
        >>> tinyml.full((2,), 7)
        tensor([7, 7])
    """
    if isinstance(fill_value, (Tensor, np.generic)):
        fill_value = fill_value.item()
    if not isinstance(fill_value, (builtins.bool, builtins.int, builtins.float)):
        raise DtypeError(f"full: expected fill_value to be a number, got {checks.described(fill_value)}")
    kind = element_dtype("full", dtype, dtype_of_number(fill_value, None))
    return _filled("full", size_of("full", (size,)), fill_value, kind, device, requires_grad)


def _filled(who: str, size: tuple[int, ...], value: float, kind: np.dtype[Any], device: Any, requires_grad: bool) -> Tensor:
    array = memory.empty(size, kind)
    array[...] = apply.as_tensor(value, kind).array
    return made(who, array, device, requires_grad)


def eye(n: int, m: int | None = None, *, dtype: DTypeLike | None = None, device: Any = None,
        requires_grad: bool = False) -> Tensor:
    """A matrix with ones on its diagonal, and zeros elsewhere.

    Args:
        n: the number of rows.
        m: the number of columns; None for as many.
        dtype: of the elements; None for float32.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there.

    Returns:
        A Tensor (n, m).

    Raises:
        ShapeError: a number below 0; DtypeError: no whole number, another device, or int8.

    Example:
        >>> tinyml.eye(2)
        tensor([[1., 0.],
                [0., 1.]])
    """
    rows = checks.whole("eye", "n", n)
    columns = rows if m is None else checks.whole("eye", "m", m)
    x = zeros(rows, columns, dtype=dtype, device=device)
    diagonal = np.arange(min(x.shape))
    x.array[diagonal, diagonal] = 1
    return requires_grad_(x, requires_grad)
