"""Where a value that is not finite came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..tape import Record, record
from ..tensors import FLOATS, Tensor
from .module import Module


def first_non_finite(model: Module, forward: Callable[[], Any], batch: list[tuple[str, Tensor]]) -> str:
    """Names the first of: the batch's arrays, a parameter, an op's output in a run of `forward`, a buffer, not finite.

    Of ops, the first that makes a NaN or an infinity from operands without: a causal mask adds infinities on purpose.
    """
    parameters = [(f"parameter {name}", p) for name, p in model.named_parameters()]
    for what, t in [*batch, *parameters]:
        if bad := bad_element(np.isfinite, t.array):
            return f"{what}: {bad}"
    with record() as records, np.errstate(all="ignore"):
        forward()
    paths = {id(m): f"layer {name} ({type(m).__name__})" if name else type(m).__name__
             for name, m in reversed(list(model.named_modules()))}      # reversed: a shared layer's first name stays
    for r in records:
        if bad := _made(r):
            return f"the output of {r.op.name} in {paths.get(id(r.module), 'the loss')}: {bad}"
    for name, t in model.named_tensors():
        if bad := bad_element(np.isfinite, t.array):
            return f"buffer {name}: {bad}"
    return "none in a second run of the same forward"


def _made(r: Record) -> str | None:
    """The first NaN, else infinity, of an op's output, if its operands held none."""
    for good in (lambda a: ~np.isnan(a), lambda a: ~np.isinf(a)):
        bad = bad_element(good, r.output.array)
        if bad and not any(bad_element(good, t.array) for t in r.inputs if t is not None):
            return bad
    return None


def bad_element(good: Callable[[np.ndarray], np.ndarray], a: np.ndarray) -> str | None:
    """The first element that is not `good` and where it is, or None."""
    if a.dtype not in FLOATS or good(a).all():
        return None
    at = tuple(int(i) for i in np.unravel_index(int(np.argmin(good(a))), a.shape))
    return f"{a[at]} at index {at} of shape {a.shape}"
