"""State dicts: arrays by name, put into the parameters and buffers of the same names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .. import checks
from ..engine import note_change
from ..errors import DtypeError, ShapeError
from ..tensors import Tensor


class LoadedKeys(NamedTuple):
    """What `load_state_dict` found no value for, and what it found no place for."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def load_into(own: dict[str, Tensor], values: Mapping[str, Any], strict: bool, who: str) -> LoadedKeys:
    """Copy `values` into the Tensors `own` of the same names; see Module.load_state_dict. `who` is for errors."""
    arrays = {k: checks.array(who, str(k), v) for k, v in values.items()}
    keys = LoadedKeys([name for name in own if name not in arrays], [name for name in arrays if name not in own])
    problems = [f"missing {name} {own[name].shape}" for name in keys.missing_keys] if strict else []
    problems += [f"unexpected {name} {arrays[name].shape}" for name in keys.unexpected_keys] if strict else []
    shared = {name: t for name, t in own.items() if name in arrays}
    problems += [f"{name} has shape {arrays[name].shape}, expected {t.shape}"
                 for name, t in shared.items() if arrays[name].shape != t.shape]
    problems += [f"{name} is in read-only memory" for name, t in shared.items()
                 if t.quantized is None and not t.array.flags.writeable]
    first: dict[int, str] = {}
    for name, t in shared.items():
        other = first.setdefault(id(t), name)
        if other != name and not _same(arrays[name], arrays[other]):
            problems.append(f"{other} and {name} are one Parameter here, but differ in what is to be loaded")
    if problems:
        raise ShapeError(f"{who}: {len(problems)} problems: " + "; ".join(problems))
    for name, t in shared.items():
        if arrays[name].dtype.kind != t.dtype.kind or t.quantized is not None:
            raise DtypeError(f"load_state_dict: {name} is {arrays[name].dtype}, expected {t.dtype}; int8 models are "
                             "read with tinyml.load")
    for name, t in shared.items():
        checks.writable(who, name, t.array)
    for name, t in shared.items():
        t.array[...] = arrays[name]
        note_change(t.array, f"load_state_dict of {name}")
    return keys


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays of one shape have the same elements, NaNs in the same places among them."""
    return bool(((a == b) | ((a != a) & (b != b))).all())
