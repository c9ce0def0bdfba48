"""One run of a plan when it is saved and one when it is loaded: do its steps fit, and do kernels compute the same?

The input is made from a seed. The output of a plan in integers has the same bytes on every machine (equation 10). NumPy
guarantees that the raw streams of its bit generators stay the same in all versions, but not the numbers drawn from them.
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
# The most elements of one value: two images of 64 channels and 362 x 362 pixels. Larger plans are not run. The limit may
# grow; a smaller one would refuse plans that were run when they were saved.
LARGEST = 2**24


def digest(plan: Plan, outputs: list[np.ndarray]) -> str | None:
    """SHA-256 of the plan's outputs; None with float islands, whose last bits differ between instruction sets."""
    if plan.islands:
        return None
    found = hashlib.sha256()
    for y in outputs:
        found.update(y.tobytes())
    return found.hexdigest()


def run(plan: Plan, seed: int) -> list[np.ndarray] | None:
    """The outputs for an input made from `seed`; None if a value could have more than LARGEST elements.

    With float islands only shapes can be checked: all values are zeros then, for which every step that fits runs.

    Raises:
        FileError: an output has another shape than the plan says. Errors of steps that do not fit are not caught.
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
    """Random codes, dequantized. Zeros without a generator, without codes, and for ids, of which only 0 surely exists."""
    shape = resolve(slot.shape, BATCH)
    if slot.codec is None or generator is None:
        return np.broadcast_to(np.float32(0) if slot.floats else np.int64(0), shape)
    raw = generator.random_raw(-(-prod(shape) // 8)).astype("<u8").view(np.uint8)
    return dequantize(raw[: prod(shape)].reshape(shape), float(slot.codec.scale), slot.codec.zero_point)
