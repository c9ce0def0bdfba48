"""Nests: an array, or tuples, lists and dicts of nests, as batches and the outputs of models may be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from .errors import ShapeError
from .tensors import Tensor

NUMBERS = (bool, int, float, np.generic)


def is_array(value: Any) -> bool:
    """Whether `value` is one array and no nest of several. A list is one if it holds numbers, or lists of them."""
    if isinstance(value, list):
        return all(isinstance(v, NUMBERS) or (isinstance(v, list) and is_array(v)) for v in value)
    return not isinstance(value, (tuple, Mapping))


def map_arrays(function: Callable[[Any], Any], nest: Any) -> Any:
    """A nest of the same form with function(array) in the place of each array."""
    if is_array(nest):
        return function(nest)
    if isinstance(nest, Mapping):
        return {name: map_arrays(function, value) for name, value in nest.items()}
    parts = [map_arrays(function, value) for value in nest]
    return type(nest)(*parts) if hasattr(nest, "_fields") else type(nest)(parts)


def leaves(nest: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each array of a nest and its place in it: "[0]" or "['mask']", and "" for an array by itself."""
    if is_array(nest):
        yield path, nest
        return
    for key, value in nest.items() if isinstance(nest, Mapping) else enumerate(nest):
        yield from leaves(value, f"{path}[{key!r}]")


def join(what: str, nests: list[Any]) -> Any:
    """One nest of the ndarrays of several nests of the same form, each joined along the first dimension.

    Raises:
        ShapeError: The nests have different forms, or arrays do not fit together; the message begins with `what`.
    """
    paths = [[path for path, _ in leaves(nest)] for nest in nests]
    for other in paths:
        if other != paths[0]:
            raise ShapeError(f"{what}: expected outputs of one form in all batches, got {paths[0]} and {other}")
    columns = zip(*([a for _, a in leaves(nest)] for nest in nests))
    try:
        whole = [np.concatenate([np.atleast_1d(a) for a in column]) for column in columns]
    except ValueError as error:
        raise ShapeError(f"{what}: expected outputs that differ in the number of samples only: {error}") from error
    each = iter(whole)
    return map_arrays(lambda _: next(each), nests[0])


def count_samples(nest: Any) -> int:
    """The number of samples in a nest of Tensors or ndarrays: the length of the first of them."""
    return next((a.shape[0] if a.ndim else 1 for _, a in leaves(nest) if isinstance(a, (Tensor, np.ndarray))), 0)
