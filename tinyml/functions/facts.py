"""What can be asked of Tensors and of dtypes, and the dtypes by PyTorch's names."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import checks
from ..arguments import Device as device
from ..arguments import dimension
from ..dtypes import BOOL, FLOAT16, FLOAT32, FLOAT64, INT8, INT32, INT64, UINT8, as_dtype, element_dtype
from ..errors import DtypeError
from .types import Tensor

__all__ = ["bool", "device", "double", "element_size", "finfo", "float", "float16", "float32", "float64",
           "get_default_dtype", "half", "iinfo", "int", "int8", "int32", "int64", "is_contiguous", "is_floating_point",
           "is_tensor", "long", "numel", "set_default_dtype", "stride", "uint8"]

float16, float32, float64 = half, float, double = FLOAT16, FLOAT32, FLOAT64
int32, int64 = int, long = INT32, INT64
int8, uint8, bool = INT8, UINT8, BOOL


def is_tensor(obj: Any) -> builtins.bool:
    """Whether `obj` is a Tensor.

    Args:
        obj: anything.

    Returns:
        True or False.

    Example:
        >>> tinyml.is_tensor(np.zeros(2))
        False
    """
    return isinstance(obj, Tensor)


def is_floating_point(input: Tensor) -> builtins.bool:
    """Whether the elements are floats; int8 codes are none.

    Returns:
        True or False.

    Example:
        >>> Tensor([1, 2]).is_floating_point()
        False
    """
    return input.dtype.kind == "f"


def numel(input: Tensor) -> builtins.int:
    """Number of elements.

    Returns:
        An int.

    Example:
        >>> tinyml.numel(Tensor([[1.0, 2.0]]))
        2
    """
    return input.numel()


def element_size(input: Tensor) -> builtins.int:
    """Bytes of one element.

    Returns:
        An int.

    Example:
        >>> Tensor([1.0]).element_size()
        4
    """
    return input.dtype.itemsize


def stride(input: Tensor, dim: builtins.int | None = None) -> Any:
    """How many elements lie in memory between two neighbours along each dimension, or along one.

    Args:
        dim: the dimension; None for all.

    Returns:
        A tuple of ints, or an int.

    Raises:
        ShapeError: a dimension that there is not.

    Example:
        >>> x = tinyml.zeros(2, 3)
        >>> x.stride(), x.T.stride(0)
        ((3, 1), 1)
    """
    strides = tuple(n // input.dtype.itemsize for n in input.array.strides)
    return strides if dim is None else strides[dimension("stride", dim, input.ndim)]


def is_contiguous(input: Tensor) -> builtins.bool:
    """Whether the elements are in row-major memory, without gaps.

    Returns:
        True or False.

    Example:
        >>> tinyml.zeros(2, 3).T.is_contiguous()
        False
    """
    return input.array.flags.c_contiguous


def finfo(type: DTypeLike = FLOAT32) -> np.finfo[Any]:
    """What floats of a dtype can be: their `min`, `max`, `eps`, `tiny` and `bits`.

    Args:
        type: the dtype.

    Returns:
        NumPy's description of it.

    Raises:
        DtypeError: no dtype of floats.

    Example:
        >>> tinyml.finfo(tinyml.half).bits
        16
    """
    return np.finfo(element_dtype("finfo", type, FLOAT32, "f"))


def iinfo(type: DTypeLike) -> np.iinfo[Any]:
    """What integers of a dtype can be: their `min`, `max` and `bits`.

    Args:
        type: the dtype.

    Returns:
        NumPy's description of it.

    Raises:
        DtypeError: no dtype of integers.

    Example:
        >>> tinyml.iinfo(tinyml.int8).max
        127
    """
    found = as_dtype(type)
    return np.iinfo(found if found == INT8 else element_dtype("iinfo", found, INT64, "iu"))


def get_default_dtype() -> np.dtype[Any]:
    """The dtype that Python's floats become: float32.

    Returns:
        A dtype.

    Example:
        >>> tinyml.get_default_dtype() == tinyml.float32
        True
    """
    return FLOAT32


def set_default_dtype(d: DTypeLike) -> None:
    """Only float32 can be chosen: layers and their kernels compute in it.

    Args:
        d: float32.

    Raises:
        DtypeError: another dtype.

    Example:
        >>> tinyml.set_default_dtype(tinyml.float32)
    """
    if as_dtype(d) != FLOAT32:
        raise DtypeError(f"set_default_dtype: Python's floats become float32 in tinyml, got {checks.described(d)}; name "
                         "the dtype where a Tensor is made, tensor(data, dtype=...)")
