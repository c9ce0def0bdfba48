"""What optimizers, schedules and clipping check of their arguments."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..errors import DtypeError, ShapeError
from ..tensor import Tensor


def checked_number(what: str, value: Any, least: float = 0.0, below: float = math.inf) -> float:
    """`value` as a float in [least, below); DtypeError where it is no number, ShapeError where it is out of range."""
    if not isinstance(value, Real):
        raise DtypeError(f"{what}: expected a number, got {type(value).__name__}")
    if not least <= value < below:
        raise ShapeError(f"{what}: expected a number of at least {least:g} and below {below:g}, got {value}")
    return float(value)


def checked_steps(what: str, value: Any, least: int) -> int:
    """`value` as an int of at least `least`; DtypeError where it is no whole number, ShapeError where it is less."""
    if not isinstance(value, Integral):
        raise DtypeError(f"{what}: expected a whole number, got {type(value).__name__}")
    if value < least:
        raise ShapeError(f"{what}: expected a whole number of at least {least}, got {value}")
    return int(value)


def checked_parameters(what: str, parameters: Iterable[Tensor]) -> list[Tensor]:
    """The parameters as a list of distinct leaves of float32 or float64; DtypeError or ShapeError where they are not.

    float16 is refused because an update below 2^-11 of a weight is lost in it (design (12)).
    """
    if isinstance(parameters, Tensor) or not isinstance(parameters, Iterable):
        raise DtypeError(f"{what}: expected a list of Parameters, got {type(parameters).__name__}; "
                         "pass model.parameters()")
    found = list(parameters)
    if not found:
        raise ShapeError(f"{what}: expected at least one Parameter, got an empty list")
    first: dict[int, int] = {}
    for i, p in enumerate(found):
        if not isinstance(p, Tensor):
            raise DtypeError(f"{what}: expected Parameters, got {type(p).__name__} at position {i}; "
                             "pass model.parameters()")
        if p.dtype not in (np.float32, np.float64):
            raise DtypeError(f"{what}: expected float32 Parameters, got {p.dtype} at position {i} (shape {p.shape}); "
                             "train in float32 and convert the trained model")
        if p.node is not None:
            raise ShapeError(f"{what}: expected Parameters, got the result of {p.node.op.name} at position {i}")
        if id(p) in first:
            raise ShapeError(f"{what}: expected distinct Parameters, got the same one at positions {first[id(p)]} "
                             f"and {i} (shape {p.shape})")
        first[id(p)] = i
    return found
