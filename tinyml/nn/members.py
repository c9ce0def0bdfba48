"""What a module's attributes hold: Modules and Tensors themselves, and those in lists, tuples and dicts of any depth."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

UNORDERED = (set, frozenset, deque)     # no names follow from these


def members(value: Any, name: str, kinds: tuple[type, ...]) -> Iterator[tuple[str, Any]]:
    """`value`, or what it contains, of these kinds, with names: "layers.0" is the first of the list `layers`."""
    if isinstance(value, kinds):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for i, part in enumerate(value):
            yield from members(part, f"{name}.{i}", kinds)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from members(part, f"{name}.{key}", kinds)


def replace_members(value: Any, name: str, kind: type, change: Callable[[str, Any], Any]) -> Any:
    """`value` with change(name, part) in the place of all parts of this kind; lists and dicts stay the same objects."""
    if isinstance(value, kind):
        return change(name, value)
    if next(members(value, name, (kind,)), None) is None:
        return value
    if isinstance(value, dict):
        for key, part in value.items():
            value[key] = replace_members(part, f"{name}.{key}", kind, change)
        return value
    parts = [replace_members(part, f"{name}.{i}", kind, change) for i, part in enumerate(value)]
    if isinstance(value, list):
        value[:] = parts
        return value
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
