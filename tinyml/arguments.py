"""Arguments of Tensor's methods as ops take them: one function for each kind, which raises where there is no such value."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import checks
from .engine import TensorBase
from .errors import ShapeError

PLAIN_AXES = (type(None), int)      # which need no conversion: most calls


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
    if several is not None and several.size == 1 and several.dtype.kind in "fiu":
        value = several.item()
    return checks.number(name, argument, value, infinite=True)


def index_of(index: Any) -> tuple[Any, ...]:
    """An index as a tuple of ints, slices, None, Ellipsis and integer or boolean arrays."""
    if type(index) is int:
        return (index,)

    def one(i: Any) -> Any:
        i = i.data if isinstance(i, TensorBase) else i
        if isinstance(i, list):
            found = checks.array("getitem", "an index", i, "biu")
            return found if found.size else found.astype(np.int64)
        return i

    return tuple(one(i) for i in index) if isinstance(index, tuple) else (one(index),)
