"""The attributes of modules that are neither tensors nor layers, where they changed since the constructor set them."""

from __future__ import annotations

from types import FunctionType
from typing import Any

import numpy as np

from ..errors import FileError
from ..nn.module import Module
from ..tensors import Tensor
from .encoding import decode, encode

OWN = ("_training", "_name", "_recipe")     # the attributes of Module itself


def changed_attributes(model: Module, fresh: Module, arrays: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """The attributes of each layer, as JSON, that differ from those of `fresh`, a new model from the same constructor.

    The arrays in them go to `arrays`.

    Raises:
        FileError: a file cannot hold such an attribute; the message names the layer and the attribute.
    """
    made = dict(fresh.named_modules())
    found: dict[str, dict[str, Any]] = {}
    for name, m in model.named_modules():
        if name not in made or type(made[name]).__qualname__ != type(m).__qualname__:
            continue        # the layer was replaced by one of another class: load will ask for an instance
        before = vars(made[name])
        for key, value in vars(m).items():
            if key in OWN or isinstance(value, (Tensor, Module)) or (key in before and same(value, before[key])):
                continue
            try:
                found.setdefault(name, {})[key] = encode(value, arrays)
            except FileError as error:
                raise FileError(f"save: {type(m).__name__}{f' {name!r}' if name else ''} has an attribute {key!r} that its "
                                f"constructor did not make, of type {type(value).__name__}, which a file cannot hold; make "
                                "it a constructor argument, or save the state_dict() instead") from error
    return found


def set_attributes(model: Module, about: dict[str, dict[str, Any]], arrays: dict[str, np.ndarray]) -> None:
    """Put what `changed_attributes` found into the layers of `model`.

    Raises:
        FileError: there is no such layer, or it cannot have an attribute of that name.
    """
    layers = dict(model.named_modules())
    for name, attributes in about.items():
        for key, value in attributes.items():
            if name not in layers or not key.isidentifier() or key in OWN or _is_code(type(layers[name]), key):
                raise FileError(f"expected attributes of the model's layers, got {key!r:.80} of {name!r:.80}")
            setattr(layers[name], key, decode(value, arrays))


def _is_code(kind: type, name: str) -> bool:
    """Whether the name is that of a method or property."""
    known = getattr(kind, name, None)
    return name.startswith("__") or callable(known) or hasattr(known, "__get__")


def same(a: Any, b: Any) -> bool:
    """Whether two attributes are equal, apart from tensors and layers in them, which a file holds elsewhere."""
    if a is b:
        return True
    if type(a) is not type(b):
        return isinstance(a, (Tensor, Module)) and isinstance(b, (Tensor, Module))
    if isinstance(a, (Tensor, Module)):
        return True
    if isinstance(a, np.ndarray):
        return bool(a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, FunctionType):     # each call of a constructor makes a new one
        return bool(a.__code__ == b.__code__)
    if type(a).__eq__ is not object.__eq__:     # type: ignore[comparison-overlap]
        return bool(a == b) or (a != a and b != b)
    return same(vars(a), vars(b)) if hasattr(a, "__dict__") else True
