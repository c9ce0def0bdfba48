"""One run of a plan when it is saved and when it is loaded: do its steps fit, do kernels compute what they did?

The input is made from a seed, and of a plan in integers the output's bytes are the same on every machine (equation 10).
NumPy guarantees the raw streams of its bit generators for all versions, not what is drawn from them.
"""

from __future__ import annotations

import hashlib
from math import prod

import numpy as np

from .._kernels.products.windows import Window, scratch, sweep
from .._kernels.rows.codes import dequantize
from ..errors import FileError
from ..graph import resolve, resolve_constant
from ..plan.float_steps import FloatProduct
from ..plan.plan import Plan, Slot
from ..plan.steps import Product, Step

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
        if elements(step, [v.shape for v in operands]) > LARGEST:
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
    return dequantize(raw[: prod(shape)].reshape(shape), slot.codec.scale, slot.codec.zero_point)


def elements(step: Step, shapes: list[tuple[int, ...]]) -> int:
    """At least as many elements as the step makes of operands of such shapes: a few numbers may ask for very many."""
    runs_op = step.kind in ("codes", "island")
    name, attrs = (step.attrs["op"], resolve(step.attrs["attrs"], BATCH)) if runs_op else (step.kind, step.attrs)
    x, *others = _with_constants(step, shapes)
    if isinstance(step, (Product, FloatProduct)):
        return _product(x, step.layer.window, step.filters) if attrs["spatial"] else prod(x[:-1]) * step.filters
    match name:
        case "conv2d":
            filters, _, *size = others[0]
            window = Window(size, *(attrs[k] for k in ("stride", "padding", "dilation", "groups")), op="conv2d")
            return _product(x, window, filters)
        case "linear":
            return prod(x[:-1]) * others[0][0]
        case "matmul":
            a, b = x, others[0]
            largest = max(*a[-2:]) * max(*b[-2:])       # of both operands too, which are copied where they are stretched
            return prod(np.broadcast_shapes(a[:-2], b[:-2])) * largest
        case "embedding":
            return prod(x) * prod(others[0][1:])
        case "avg_pool":
            return prod(x[:2]) * len(step.rows) * len(step.columns)
        case "adaptive_avg_pool2d":
            return prod(x[:2]) * prod(attrs["outputs"])
        case "pad":
            return prod(n + sum(around) for n, around in zip(x, attrs["widths"]))
        case "broadcast_to":
            return prod(attrs["shape"])
        case "getitem":
            arrays = [i for i in attrs["index"] if isinstance(i, (np.ndarray, list))]
            rest = tuple(slice(0, 1) if isinstance(i, (np.ndarray, list)) else i for i in attrs["index"])
            return np.broadcast_to(np.uint8(0), x)[rest].size * prod(np.broadcast_shapes(*map(np.shape, arrays)))
    try:
        stretched = prod(np.broadcast_shapes(x, *others))
    except ValueError:
        stretched = 0
    return max(stretched, prod(x) + sum(map(prod, others)))


def _product(x: tuple[int, ...], window: Window, filters: int) -> int:
    """Elements of a convolution's result, or of the padded input that a thread keeps for it, whichever are more."""
    b, channels, *image = x
    out = window.output(*image)
    made = b * prod(out) * filters
    if min(out) < 1 or made > LARGEST:
        return made
    return max(made, scratch(sweep((b, *image, channels), window, None, True)[0]))      # True: never read in place


def _with_constants(step: Step, shapes: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Shapes of all operands, of which the step may own some."""
    if isinstance(step, (Product, FloatProduct)):
        return shapes
    if step.kind != "island":
        return [*shapes, *(a.shape for a in step.arrays.values())]
    given, found = iter(shapes), []
    for where in step.attrs["operands"]:
        if where == "value":
            found.append(next(given))
        elif where is not None:
            found.append(resolve_constant(step.constants[where], BATCH).shape)
    return found
