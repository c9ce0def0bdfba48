"""Dicts, lists and tuples of Tensors, arrays, numbers and strings in files: the form as JSON, the elements as arrays, which
are named by their places: "model.0.weight".
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from .. import checks
from ..errors import FileError
from ..nn.parameter import Parameter, as_parameter
from ..tensors import Tensor
from .container import DIMENSIONS, DTYPES

DEEPEST = 100       # dicts, lists and tuples in each other
BITS = 8192         # of an int; Python reads no decimal numbers of many more
PLAIN = (str, bool, int, float, type(None))
ADVICE = "dicts, lists and tuples of Tensors, arrays, numbers, strings and None"
OF_CODES = ("scale", "zero_point")


def describe_nested(content: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A description as plain data, and the arrays.

    Raises:
        FileError: a file cannot hold part of the content; the message names its place: ["model"]["x"].
    """
    arrays: dict[str, np.ndarray] = {}
    return {"kind": "nested", "content": _encode(content, (), arrays)}, arrays


def load_nested(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    """The content that `describe_nested` was given.

    Raises:
        FileError: it describes no such content.
    """
    content = _decode(about["content"], arrays)
    if arrays:
        raise FileError(f"damaged description: nothing has the array {min(arrays)!r:.80}")
    return content


def _encode(value: Any, place: tuple[Any, ...], arrays: dict[str, np.ndarray]) -> Any:
    """A JSON value; arrays go to `arrays`."""
    kind = type(value)
    if len(place) > DEEPEST:
        raise _refused(place[:3], f"dicts, lists and tuples in each other more than {DEEPEST} times, or in themselves")
    if kind is float and not math.isfinite(value):
        return {"float": repr(value)}
    if kind in PLAIN:
        if kind is int and value.bit_length() > BITS:
            raise _refused(place, f"a number of {value.bit_length()} bits; the limit is {BITS}")
        return value
    if isinstance(value, list) or kind is tuple:        # lists of other classes, such as a Trainer's history, become lists
        items = [_encode(v, (*place, i), arrays) for i, v in enumerate(value)]
        return {"tuple": items} if kind is tuple else items
    if isinstance(value, dict):
        for key in value:
            if type(key) not in PLAIN:
                raise _refused(place, f"a dict with a key of type {type(key).__name__}; use strings or numbers")
        return {"dict": [[_encode(k, (*place, k), arrays), _encode(v, (*place, k), arrays)] for k, v in value.items()]}
    if isinstance(value, np.generic):
        return {"number": _keep(value, place, arrays)}      # of its own dtype
    if isinstance(value, Tensor):
        return _encode_tensor(value, place, arrays)
    if kind in (np.ndarray, np.memmap):
        return {"array": _keep(value, place, arrays)}
    hint = "; save its state_dict()" if hasattr(value, "state_dict") else ""
    raise _refused(place, f"{checks.described(value)}{hint}")


def _encode_tensor(t: Tensor, place: tuple[Any, ...], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    found: dict[str, Any] = {"tensor": _keep(t.array, place, arrays)}
    if t.quantized is not None:
        found |= {"axis": t.axis, "group": t.group}
        found |= {name: _keep(getattr(t, name), (*place, name), arrays) for name in OF_CODES}
    if isinstance(t, Parameter):
        found["decay"] = t.decay
    return found | ({"requires_grad": True} if t.requires_grad else {})


def _keep(value: Any, place: tuple[Any, ...], arrays: dict[str, np.ndarray]) -> str:
    """The name in `arrays` under which the array is stored now."""
    array = np.asarray(value)
    if array.dtype not in DTYPES.values() or array.ndim > DIMENSIONS:
        raise _refused(place, f"an array of {array.dtype} of {array.ndim} dimensions; known are "
                              f"{', '.join(map(str, DTYPES.values()))} of up to {DIMENSIONS}")
    # a file's names are UTF-8, and all different; one of them is the metadata's
    name = ".".join(map(str, place)).encode("utf-8", "replace").decode() or "content"
    while name in arrays or name == "__metadata__":
        name += "'"
    arrays[name] = array
    return name


def _refused(place: tuple[Any, ...], what: str) -> FileError:
    path = "".join(f"[{json.dumps(key) if isinstance(key, str) else key}]" for key in place)
    return FileError(f"save: expected {ADVICE}, got at {path or 'the top'} {what}")


def _decode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The value that `_encode` was given. Its arrays are removed from `arrays`."""
    if type(value) in PLAIN:
        return value
    if isinstance(value, list):
        return [_decode(v, arrays) for v in value]
    kind, inner = next(iter(value.items()), (None, None))
    if kind == "tensor":
        return _decode_tensor(value, arrays)
    if len(value) == 1:
        if kind == "float" and inner in ("inf", "-inf", "nan"):
            return float(inner)
        if kind == "tuple" and isinstance(inner, list):
            return tuple(_decode(v, arrays) for v in inner)
        if kind == "dict" and isinstance(inner, list):
            pairs = [(_decode(k, {}), _decode(v, arrays)) for k, v in inner]
            if all(type(k) in PLAIN for k, _ in pairs) and len(dict(pairs)) == len(pairs):
                return dict(pairs)
        if kind == "array" and isinstance(inner, str):
            return arrays.pop(inner)
        if kind == "number" and isinstance(inner, str) and arrays[inner].ndim == 0:
            return arrays.pop(inner)[()]
    raise FileError(f"damaged description: {value!r:.200} is nothing that save writes")


def _decode_tensor(value: dict[str, Any], arrays: dict[str, np.ndarray]) -> Tensor:
    array = arrays.pop(value["tensor"])
    codes: dict[str, Any] = {}
    if "scale" in value:
        array.flags.writeable = False       # as to_int8 leaves them: packed weights are made once
        codes = {name: arrays.pop(value[name]) for name in OF_CODES} | {name: value[name] for name in ("axis", "group")}
    requires_grad = checks.flag("load", "requires_grad", value.get("requires_grad", False))
    t = Tensor(array, requires_grad, **codes)
    if t.dtype != array.dtype:
        raise FileError(f"damaged description: expected the dtype of a Tensor, got {array.dtype}")
    if "decay" not in value:
        return t
    parameter = as_parameter(t, requires_grad)
    parameter.decay = checks.flag("load", "decay", value["decay"])
    return parameter
