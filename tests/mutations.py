"""Other descriptions and arrays in the place of a model's: well-formed, with any content."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

VALUES = (None, True, False, -1, 0, 1, 2, 3, 7, 200, -200, 2000, 0.5, -1.5, 1e30, "", "weight", "float32", [], [1],
          [0, 0], [[1, 2], [3, 4]], {}, {"tuple": []}, {"batch": 1}, {"tuple": [2, 2]}, {"array": "weight"},
          {"slice": [1, 0, 0]})
HUGE = (2**31 - 1, 2**31, -(2**31), 2**32 + 1, 2**60, -(2**60), 2**63 - 1, 2**63, 2**64, 10**30, -(10**30), 1e300, -1e300,
        1e-300, 5e-324, {"batch": 2**60}, {"tuple": [2**60, 2**60]}, [2**60, 0, 0])


def leaves(value: Any, at: tuple = ()) -> list[tuple]:
    """Paths of everything inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at] * bool(at) + [p for k, v in inner for p in leaves(v, (*at, k))]


def _inside(about: dict[str, Any]) -> tuple[dict[str, Any], list[tuple]]:
    """A copy of a description, and the paths of what may change in it."""
    return json.loads(json.dumps(about)), [at for at in leaves(about) if at[0] not in ("version", "digest")]


def _follow(value: Any, at: tuple) -> Any:
    for key in at:
        value = value[key]
    return value


def other_description(about: dict[str, Any], rng: np.random.Generator, values: Sequence[Any] = VALUES) -> dict[str, Any]:
    """`about` with a value changed to one of `values`, dropped, or put in the place of another."""
    about, everywhere = _inside(about)
    at, other = (everywhere[rng.integers(len(everywhere))] for _ in range(2))
    value, parent = _follow(about, other), _follow(about, at[:-1])
    choice = rng.integers(4)
    if choice == 0:
        del parent[at[-1]]
    else:
        parent[at[-1]] = value if choice == 1 and at[: len(other)] != other else values[rng.integers(len(values))]
    return about


def other_number(about: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """`about` with another number in the place of one: near to it, much larger, negative, or a float."""
    about, everywhere = _inside(about)
    numbers = [at for at in everywhere if type(_follow(about, at)) in (int, float)]
    at = numbers[rng.integers(len(numbers))]
    n = _follow(about, at)
    others = (-n, n + 1, n - 1, n + 0.5, 2 * n + 3, n * 1000 + 7, n * 10**6, n + 2**31, n + 2**60, n * 1e30, 1 / (n or 1))
    _follow(about, at[:-1])[at[-1]] = others[rng.integers(len(others))]
    return about


def other_length(about: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """`about` with a list that is longer, shorter, reversed, or inside another."""
    about, everywhere = _inside(about)
    lists = [at for at in everywhere if type(_follow(about, at)) is list]
    at = lists[rng.integers(len(lists))]
    a = _follow(about, at)
    others = (a + a[:1], a[:-1], a + [0, 0], a * 2, a[::-1], [a], a[1:] + [2**60], [])
    _follow(about, at[:-1])[at[-1]] = others[rng.integers(len(others))]
    return about


def other_arrays(arrays: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """`arrays` with one missing, or of another shape, dtype or content."""
    names = [n for n in arrays if not n.endswith("running_var")]        # of which a negative one makes NaN
    name = names[rng.integers(len(names))]
    a = arrays[name]
    noise = rng.integers(-128, 127, a.shape).astype(a.dtype)
    large = (a.astype(np.int64) * 1000 + 12345).astype(a.dtype)
    flat = a.reshape(-1)
    changes = [flat, flat[:-1], flat[:0], np.stack([a, a]), a[None], a.T, a.astype(np.float32), a.astype(np.int64), noise,
               large, 0 - a.astype(np.int8), a[:-1] if a.ndim else a, a[..., :1] if a.ndim else a]
    choice = rng.integers(len(changes) + 1)
    others = {n: b for n, b in arrays.items() if n != name}
    return others if choice == len(changes) else {**others, name: np.ascontiguousarray(changes[choice])}
