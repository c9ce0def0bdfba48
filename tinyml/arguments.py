"""Arguments of Tensor's methods as ops take them: one function for each kind, which raises where there is no such value."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from . import checks
from .engine import TensorBase
from .errors import DtypeError, ShapeError

F = TypeVar("F", bound=Callable[..., Any])
PLAIN_AXES = (type(None), int)      # which need no conversion: most calls
DEVICES = ("cpu", "cuda", "mps", "xpu", "meta")     # which programs for PyTorch name


class Device(str):
    """The one device there is, "cpu", as an object that has PyTorch's attributes, and is equal to its name.

    Attributes:
        type: "cpu".
        index: None.

    Args:
        type: the name of a device.

    Raises:
        DtypeError: another device than the CPU.

    Example:
        >>> tinyml.device("cpu").type == tinyml.zeros(2).device
        True
    """

    type = "cpu"
    index: Any = None       # not that of strings

    def __new__(cls, type: Any = "cpu") -> Device:
        check_device("device", type)
        return super().__new__(cls, "cpu")


def check_device(who: str, device: Any) -> None:
    """Raise DtypeError for any device but the CPU."""
    if device is not None and not (isinstance(device, str) and device in ("cpu", "cpu:0")):
        raise DtypeError(f"{who}: tinyml computes on one device, 'cpu', got {checks.described(device)}")


def is_device(value: Any) -> bool:
    """Whether `value` names a device."""
    return isinstance(value, str) and value.split(":")[0] in DEVICES


def renamed(**names: str) -> Callable[[F], F]:
    """Let a function be called with the keywords that it had before, too: renamed(old="new")."""
    def accept(function: F) -> F:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **{names.get(k, k): v for k, v in kwargs.items()})
        return call     # type: ignore[return-value]
    return accept


def dimension(name: str, axis: Any, ndim: int) -> int:
    """`axis` counted from the front.

    Raises:
        ShapeError: naming the method, where there is no such dimension.
    """
    at = checks.axis(name, axis)
    if not -ndim <= at < ndim:
        raise ShapeError(f"{name}: dimension {at} of {ndim}")
    return at % ndim


def shape_of(name: str, shape: tuple[Any, ...]) -> tuple[int, ...]:
    """(2, 3) from reshape(2, 3) as from reshape((2, 3))."""
    if len(shape) == 1:
        if type(shape[0]) is int:
            return shape        # a third of the time that reshape takes
        if isinstance(shape[0], (tuple, list)):
            shape = tuple(shape[0])
    for n in shape:
        if type(n) is not int:
            break
    else:
        return shape
    return checks.several(name, "dimensions", shape)


def number(name: str, argument: str, value: Any) -> float:
    """A Python float, which may be infinite, from a number or a Tensor or array of one element."""
    several: Any = value if isinstance(value, (TensorBase, np.ndarray)) else None
    if several is not None and np.size(several) == 1 and several.dtype.kind in "fiu":
        value = several.item()
    return checks.number(name, argument, value, infinite=True)


def index_of(index: Any) -> tuple[Any, ...]:
    """An index as a tuple of ints, slices, None, Ellipsis and integer or boolean arrays."""
    if type(index) is int:
        return (index,)

    def one(i: Any) -> Any:
        i = i.array if isinstance(i, TensorBase) else i
        if isinstance(i, (list, tuple, range)):
            found = checks.array("getitem", "an index", i, "biu")
            return found if found.size else found.astype(np.int64)
        if isinstance(i, (bool, np.bool_)):
            return np.asarray(i)
        return int(i) if isinstance(i, np.ndarray) and not i.ndim and i.dtype.kind in "iu" else i

    return tuple(map(one, index)) if isinstance(index, tuple) else (one(index),)


def views_first(index: tuple[Any, ...] | None) -> tuple[tuple[Any, ...] | None, tuple[Any, ...] | None]:
    """An index as two: what makes a view, then what has arrays, as PyTorch takes them; None where there is none.

    NumPy takes an integer beside an array for an array too, which moves the dimension of both to the front.
    """
    if index is None:
        return None, None
    arrays = [isinstance(i, np.ndarray) for i in index]
    if True not in arrays:
        return index, None
    if all(array or i is Ellipsis or (isinstance(i, slice) and i == slice(None)) for array, i in zip(arrays, index)):
        return None, index
    views, rest = [], []
    for array, i in zip(arrays, index):
        if array:
            views += [slice(None)] * (i.ndim if i.dtype == np.bool_ else 1)
            rest.append(i)
        else:
            views.append(i)
            rest += [i] if i is Ellipsis else [slice(None)] if i is None or isinstance(i, slice) else []
    return tuple(views), tuple(rest)
