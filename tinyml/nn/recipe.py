"""How a module was built: what a file needs to build it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

B = TypeVar("B", bound="Built")


@dataclass(frozen=True)
class Recipe:
    """A module's class by name, and its constructor's arguments, Modules among them as recipes."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class Opaque:
    """A constructor argument that no file can hold."""

    kind: str


class Built:
    """An object that knows how it was built."""

    _recipe: Recipe

    def __new__(cls: type[B], *args: Any, **kwargs: Any) -> B:
        self = super().__new__(cls)
        recipe = Recipe(f"{cls.__module__}.{cls.__qualname__}", _plain(args), _plain(kwargs))
        object.__setattr__(self, "_recipe", recipe)
        return self


def _plain(value: Any) -> Any:
    """A constructor argument as a Recipe has it."""
    if isinstance(value, Built):
        return value._recipe
    if isinstance(value, (tuple, list)):
        return tuple(_plain(v) for v in value) if isinstance(value, tuple) else [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    known = value is None or isinstance(value, (bool, int, float, str, np.generic))
    return value if known else Opaque(type(value).__name__)
