"""One run of a plan when it is saved and when it is loaded: do its steps fit, do kernels compute what they did?

The input is made from a seed, and of a plan in integers the output's bytes are the same on every machine (equation 10).
NumPy guarantees the raw streams of its bit generators for all versions, not what is drawn from them.
"""

from __future__ import annotations

import hashlib
from math import prod

import numpy as np

from .._kernels.rows.codes import dequantize
from ..errors import FileError
from ..graph import resolve
from ..plan.plan import Plan, Slot

SEED, BATCH = 0, 2
# Elements of one value: twice an image of 64 channels and 362 x 362 pixels. Larger plans are not run. It may grow, but a
# smaller one would refuse plans that were run when they were saved.
LARGEST = 2**24


def digest(plan: Plan, outputs: list[np.ndarray]) -> str | None:
    """SHA-256 of the plan's outputs, None behind float islands, whose last bits differ between instruction sets."""
    if plan.islands:
        return None
    found = hashlib.sha256()
    for y in outputs:
        found.update(y.tobytes())
    return found.hexdigest()


def run(plan: Plan, seed: int) -> list[np.ndarray] | None:
    """The outputs for an input made from `seed`; None where a value could have more than LARGEST elements.

    With float islands only shapes are of use: all values are zeros then, for which no step fails that fits.

    Raises:
        FileError: an output of another shape than the plan says. What steps raise that do not fit comes as it is.
    """
    integer = not plan.islands
    if any(prod(resolve(s.shape, BATCH)) > LARGEST for s in plan.inputs):
        return None
    generator = np.random.Philox(seed)
    values = {s.value: _input(s, generator if integer else None) for s in plan.inputs}
    last = {i: at for at, step in enumerate(plan.steps) for i in step.inputs}
    kept = {s.value for s in plan.outputs}
    for at, step in enumerate(plan.steps):
        operands = [values[i] for i in step.inputs]
        if step.elements([v.shape for v in operands], BATCH) > LARGEST:
            return None
        with np.errstate(all="ignore"):
            y = step.run(operands, BATCH)
        values[step.output] = y if integer else np.broadcast_to(y.dtype.type(0), y.shape)
        for i in {i for i in step.inputs if last[i] == at} - kept:
            del values[i]
    for slot in plan.outputs:
        expected = resolve(slot.shape, BATCH)
        if values[slot.value].shape != expected:
            raise FileError(f"expected an output of shape {expected}, got {values[slot.value].shape}")
    return [values[s.value] for s in plan.outputs]


def _input(slot: Slot, generator: np.random.Philox | None) -> np.ndarray:
    """Any codes, as floats; zeros without a generator, without codes, and for ids, of which only 0 is sure to be one."""
    shape = resolve(slot.shape, BATCH)
    if slot.codec is None or generator is None:
        return np.broadcast_to(np.float32(0) if slot.floats else np.int64(0), shape)
    raw = generator.random_raw(-(-prod(shape) // 8)).astype("<u8").view(np.uint8)
    return dequantize(raw[: prod(shape)].reshape(shape), float(slot.codec.scale), slot.codec.zero_point)
