"""Attributes of ops as JSON: tuples, slices, arrays, batch sizes and non-finite numbers keep their meaning."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import FileError
from ..graph import Batch


def encode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """A JSON value; ndarrays go to `arrays` under a new key."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, np.generic):
        return encode(value.item(), arrays)
    if isinstance(value, Batch):
        return {"batch": value.factor}
    if isinstance(value, tuple):
        return {"tuple": [encode(v, arrays) for v in value]}
    if isinstance(value, list):
        return [encode(v, arrays) for v in value]
    if isinstance(value, slice):
        return {"slice": [encode(v, arrays) for v in (value.start, value.stop, value.step)]}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, np.ndarray):
        key = f"attr{len(arrays)}"
        arrays[key] = value
        return {"array": key}
    raise FileError(f"save: cannot write an attribute of type {type(value).__name__}: {value!r}")


def decode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The value that `encode` was given. Its arrays are removed from `arrays`.

    Raises:
        FileError: `encode` does not write such a value.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [decode(v, arrays) for v in value]
    if isinstance(value, dict) and len(value) == 1:
        (kind, inner), = value.items()
        if kind == "float" and inner in ("inf", "-inf", "nan"):
            return float(inner)
        if kind == "batch" and type(inner) is int:
            return Batch(inner)
        if kind == "tuple" and isinstance(inner, list):
            return tuple(decode(v, arrays) for v in inner)
        if kind == "slice" and isinstance(inner, list) and len(inner) == 3:
            return slice(*(decode(v, arrays) for v in inner))
        if kind == "ellipsis":
            return Ellipsis
        if kind == "array" and isinstance(inner, str) and inner in arrays:
            return arrays.pop(inner)
    raise FileError(f"load: {value!r:.200} is not an attribute that save writes")
