"""What arguments are checked for: one function for each kind of argument, for every op, layer and function that takes it.

A check is given who asks, the argument's name and its value: whole("Linear", "in_features", 2.5). It returns the value as
plain Python (NumPy's integers and floats become int and float), or raises a DtypeError for a value of the wrong kind, and a
ShapeError for one out of range: "Linear: expected in_features to be a whole number of at least 1, got 2.5".
"""

from __future__ import annotations

import math
import operator
import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from numbers import Real
from typing import Any, TypeVar

import numpy as np

from .errors import DtypeError, FileError, OutOfMemoryError, ShapeError

T = TypeVar("T")
# Bytes of this machine. A system that promises more ends the process when the promise is called in.
MEMORY = 2**60
if {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= getattr(os, "sysconf_names", {}).keys():
    MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def described(value: Any) -> str:
    """`value` in few words, for an error: arrays and Tensors by dtype and shape."""
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    if isinstance(dtype, np.dtype) and isinstance(shape, tuple) and (shape or not isinstance(value, np.generic)):
        return f"{dtype} of shape {shape}" if shape or type(value) is not np.ndarray else f"a 0-dimensional {dtype} array"
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, float, str, bytes, tuple, list, dict, set)):
        return f"{value!r:.80}"
    if isinstance(value, int):      # repr of 5,000 digits is an error
        return str(value) if value.bit_length() < 256 else f"a number of {value.bit_length()} bits"
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def is_whole(value: Any) -> bool:
    """Whether `value` is one whole number: an int, NumPy's integers too, and no bool."""
    if type(value) is int:
        return True
    if isinstance(value, (bool, np.bool_)):
        return False
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def whole(who: str, name: str, value: Any, least: int = 0, most: float = sys.maxsize) -> int:
    """`value` as an int from `least` to `most`."""
    if type(value) is int and least <= value <= most:
        return value
    if not is_whole(value):
        raise DtypeError(f"{who}: expected {name} to be {_whole(least, most)}, got {described(value)}")
    number = operator.index(value)
    if not least <= number <= most:
        raise ShapeError(f"{who}: expected {name} to be {_whole(least, most, number)}, got {described(number)}")
    return number


def _whole(least: int, most: float, number: int = 0) -> str:
    if most < sys.maxsize or sys.maxsize <= most < number:
        return f"a whole number from {least} to {most}"
    return f"a whole number of at least {least}"


def sizes(who: str, **values: Any) -> list[int]:
    """Each of `values` as an int of at least 1."""
    return [whole(who, name, value, 1) for name, value in values.items()]


def seed(who: str, value: Any, name: str = "seed") -> int:
    """`value` as the seed of a generator: a whole number of at least 0, of any size."""
    return whole(who, name, value, 0, math.inf)


def number(who: str, name: str, value: Any, least: float = -math.inf, most: float = math.inf, above: float | None = None,
           below: float | None = None, infinite: bool = False) -> float:
    """`value` as a float in [least, most], above `above` and below `below`; finite unless `infinite`, never NaN."""
    if type(value) in (float, int) and above is below is None and least <= value <= most and -1e308 < value < 1e308:
        return float(value)     # most calls, in a third of the time that the rest takes
    if not isinstance(value, Real) or isinstance(value, bool):
        raise DtypeError(f"{who}: expected {name} to be {_number(least, most, above, below, infinite)}, got "
                         f"{described(value)}")
    try:
        real = float(value)
    except OverflowError:
        real = -math.inf if value < 0 else math.inf
    if not (least <= real <= most and (above is None or real > above) and (below is None or real < below)) or (
            math.isinf(real) and not infinite):
        raise ShapeError(f"{who}: expected {name} to be {_number(least, most, above, below, infinite)}, got "
                         f"{described(value)}")
    return real


def _number(least: float, most: float, above: float | None, below: float | None, infinite: bool) -> str:
    if math.isfinite(least) and math.isfinite(most):
        return f"a number from {least:g} to {most:g}"
    limits = [f"of at least {least:g}"] if math.isfinite(least) else []
    limits += [] if above is None else [f"above {above:g}"]
    limits += [f"of at most {most:g}"] if math.isfinite(most) else []
    limits += [] if below is None else [f"below {below:g}"]
    finite = "a number" if infinite or below is not None or math.isfinite(most) else "a finite number"
    return " ".join([finite, " and ".join(limits)]).strip()


def probability(who: str, name: str, value: Any) -> float:
    """`value` as a float in [0, 1]."""
    return number(who, name, value, 0, 1)


def flag(who: str, name: str, value: Any) -> bool:
    """`value` as a bool: True or False, of NumPy too, 1 or 0."""
    if value is True or value is False:
        return value
    if isinstance(value, np.bool_) or (is_whole(value) and operator.index(value) in (0, 1)):
        return bool(value)
    raise DtypeError(f"{who}: expected {name} to be True or False, got {described(value)}")


def pair(who: str, name: str, value: Any, least: int = 1) -> tuple[int, int]:
    """(v, v) from a whole number of at least `least`, or the two given."""
    if type(value) is tuple and len(value) == 2 and type(value[0]) is type(value[1]) is int and (
            least <= value[0] <= sys.maxsize and least <= value[1] <= sys.maxsize):
        return value
    two = (value, value) if is_whole(value) else tuple(value) if isinstance(value, (tuple, list, np.ndarray)) and (
        not isinstance(value, np.ndarray) or value.ndim) else None
    if two is None or not all(map(is_whole, two)):
        raise DtypeError(f"{who}: expected {name} to be one or two whole numbers of at least {least}, got "
                         f"{described(value)}")
    if len(two) != 2 or not all(least <= v <= sys.maxsize for v in two):
        raise ShapeError(f"{who}: expected {name} to be one or two whole numbers of at least {least}, got "
                         f"{described(value)}")
    return operator.index(two[0]), operator.index(two[1])


def several(who: str, name: str, value: Any, least: int = -sys.maxsize) -> tuple[int, ...]:
    """`value`, a whole number or a row of them, as a tuple of ints of at least `least`."""
    if is_whole(value):
        return (whole(who, name, value, least),)
    if not isinstance(value, (tuple, list, range)) and not (isinstance(value, np.ndarray) and value.ndim):
        raise DtypeError(f"{who}: expected {name} to be whole numbers, got {described(value)}")
    if all(type(v) is int and least <= v < sys.maxsize for v in value):
        return tuple(value)
    return tuple(whole(who, name, v, least) for v in value)


def axes(who: str, value: Any) -> int | tuple[int, ...] | None:
    """An axis, or several, or None for all: an int, a tuple of ints, None. Whether they fit is `fits`."""
    if value is None or type(value) is int:
        return value
    if is_whole(value):
        return operator.index(value)
    return several(who, "axis", value)


def axis(who: str, value: Any) -> int:
    """One axis as an int. Whether it fits is `fits`."""
    return value if type(value) is int else whole(who, "axis", value, -sys.maxsize)


def fits(who: str, value: int | tuple[int, ...] | None, ndim: int) -> None:
    """Raise ShapeError unless the axes fit `ndim` dimensions, each named once."""
    if value is None:
        return
    named = value if isinstance(value, tuple) else (value,)
    if any(not -ndim <= a < ndim for a in named) or len({a % ndim for a in named}) != len(named):
        raise ShapeError(f"{who}: axis {value} does not fit a Tensor of {ndim} dimensions")


def choice(who: str, name: str, value: Any, choices: Iterable[str], optional: bool = False) -> Any:
    """`value`, one of the names `choices`, or None if that is `optional`."""
    if (optional and value is None) or (isinstance(value, str) and value in choices):
        return value
    kind = ShapeError if isinstance(value, str) else DtypeError
    raise kind(f"{who}: expected {name} to be {'None or ' if optional else ''}one of {', '.join(map(repr, choices))}, got "
               f"{described(value)}")


def text(who: str, name: str, value: Any) -> str:
    """`value`, a string."""
    if not isinstance(value, str):
        raise DtypeError(f"{who}: expected {name} to be a string, got {described(value)}")
    return value


def names(who: str, name: str, value: Any) -> list[str]:
    """`value`, a string or a row of strings, as a list."""
    row = [value] if isinstance(value, str) else value
    if not isinstance(row, (tuple, list, set, frozenset, type({}.keys()))) or not all(isinstance(v, str) for v in row):
        raise DtypeError(f"{who}: expected {name} to be a list of strings, got {described(value)}")
    return list(row)


def path(who: str, value: Any, name: str = "path") -> str:
    """`value`, a path that a file can have, as a string."""
    if not isinstance(value, (str, os.PathLike)):
        raise DtypeError(f"{who}: expected {name} to be a path, got {described(value)}")
    found = os.fsdecode(value)
    try:
        named = "\0" not in found and os.fsencode(found)
    except UnicodeEncodeError:
        named = False
    if named is False:
        raise FileError(f"{who}: expected {name} to be a path that a file can have, got {found!a:.80}")
    return found


def function(who: str, name: str, value: Any) -> Callable[..., Any]:
    """`value`, something that can be called."""
    if not callable(value):
        raise DtypeError(f"{who}: expected {name} to be a function, got {described(value)}")
    found: Callable[..., Any] = value
    return found


def rows(who: str, name: str, value: Any, what: str, hint: str = "") -> Iterable[Any]:
    """`value`, anything that can be iterated over for several of `what`: no string, array, dict or number."""
    if isinstance(value, (str, bytes, dict, np.ndarray, np.generic)) or hasattr(value, "quantized") or not isinstance(
            value, Iterable):
        raise DtypeError(f"{who}: expected {name} to be a list of {what}, got {described(value)}{hint}")
    return value


def instance(who: str, name: str, value: Any, kind: type[T], hint: str = "") -> T:
    """`value`, an instance of `kind`; `hint` is the way out, if there is one."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIO" else "a"
        raise DtypeError(f"{who}: expected {name} to be {article} {kind.__name__}, got {described(value)}{hint}")
    return value


def mapping(who: str, name: str, value: Any) -> Mapping[Any, Any]:
    """`value`, a dict or what can be read like one."""
    given: Mapping[Any, Any] = instance(who, name, value, Mapping)  # type: ignore[type-abstract]  # none is made
    return given


def array(who: str, name: str, value: Any, kinds: str = "biuf") -> np.ndarray:
    """`value`, an array, a Tensor, a number or nested lists of them, as an ndarray whose dtype is of `kinds`."""
    expected = {"iu": "integers", "f": "floats"}.get(kinds, "numbers")
    value = getattr(value, "array", value) if hasattr(value, "quantized") else value
    try:
        found = np.asarray(value)
    except (ValueError, TypeError, OverflowError):      # lists of different lengths
        raise ShapeError(f"{who}: expected {name} to be an array of {expected}, got {described(value)}") from None
    if found.dtype.kind not in kinds and not (found.size == 0 and found.dtype == np.float64):     # np.asarray([])
        raise DtypeError(f"{who}: expected {name} to be an array of {expected}, got "
                         f"{described(found) if isinstance(value, (np.ndarray, list, tuple)) else described(value)}")
    return found


def ids(value: np.ndarray) -> np.ndarray:
    """Integers of any width as int64, int32 and uint8 as they are; anything else as it came."""
    if value.dtype.kind not in "iu" or value.dtype in (np.int64, np.int32, np.uint8):
        return value
    if value.dtype == np.uint64 and value.size and int(value.max()) > sys.maxsize:      # NumPy 1 compares as floats
        raise ShapeError(f"expected integers below 2^63, got {value.max()}")
    return value.astype(np.int64)


def writable(who: str, name: str, value: np.ndarray) -> None:
    """Raise ShapeError unless `value` can be written."""
    if not value.flags.writeable:
        raise ShapeError(f"{who}: expected {name} to be an array that can be written, got a read-only one; make it of a "
                         "copy, array.copy()")


def room(who: str, what: str, shape: Collection[int], itemsize: int = 4) -> None:
    """Raise OutOfMemoryError where an array of `shape` is larger than the memory of this machine."""
    nbytes = math.prod(shape) * itemsize
    if nbytes > MEMORY:
        raise OutOfMemoryError(f"{who}: {what} of shape {tuple(shape)} would take {nbytes:,} bytes, more than the "
                               f"{MEMORY:,} of this machine")
