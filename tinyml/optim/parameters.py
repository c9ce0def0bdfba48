"""The parameters that optimizers and clipping take."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .. import checks
from ..errors import DtypeError, ShapeError
from ..tensors import Tensor


def checked_parameters(what: str, parameters: Iterable[Tensor]) -> list[Tensor]:
    """The parameters as a list of distinct leaves of float32 or float64; DtypeError or ShapeError where they are not.

    float16 is refused because an update below 2^-11 of a weight is lost in it (equation (12)).
    """
    found = list(checks.rows(what, "parameters", parameters, "Parameters", "; pass model.parameters()"))
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
        checks.writable(what, f"parameter {i} (shape {p.shape})", p.array)
        if id(p) in first:
            raise ShapeError(f"{what}: expected distinct Parameters, got the same one at positions {first[id(p)]} "
                             f"and {i} (shape {p.shape})")
        first[id(p)] = i
    return found
