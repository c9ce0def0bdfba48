"""The times of a plan's steps, each timed alone, bound to the operands that it has for the batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._kernels.products import integer_layer
from .._kernels.products.windows import Window
from ..errors import DtypeError, ShapeError
from ..graph import Batch, check_inputs, resolve
from ..ops import Codec
from ..plan.arena import empty, standard
from ..plan.plan import Plan
from ..plan.product_steps import Product, bind_layer
from ..plan.program import observe
from ..plan.steps import Step
from ..tensors import FLOATS, INTEGERS
from .timing import CROWD, FEW_ROWS, Calls, Functions, StepTimes, split, time_parts
from .twins import codecs, twin

FLOAT_KINDS = ("quantize", "dequantize", "island", "float_product")     # steps that are the same in float32, or not needed
LEAST_CHANNELS = 16     # from so many channels on, half are left out; of fewer, there are twice as many


def make_batch(plan: Plan, inputs: tuple[np.ndarray, ...] | None, batch: int) -> list[np.ndarray]:
    """Inputs of a batch of `batch` samples.

    They are samples of `inputs`, which begin again with the first one if there are too few. Without inputs they are random
    numbers in the range of the plan's codes, and ids of 0.
    """
    rng, made = np.random.default_rng(0), []
    for at, slot in enumerate(plan.inputs):
        if inputs is not None:
            x = inputs[at]
            for axis, n in enumerate(slot.shape):
                if isinstance(n, Batch):
                    x = np.take(x, np.arange(n.factor * batch) % x.shape[axis], axis)
        elif slot.floats:
            x = rng.standard_normal(resolve(slot.shape, batch)).astype(np.float32)
            if slot.codec is not None:
                x *= 64 * slot.codec.scale
        else:
            x = np.zeros(resolve(slot.shape, batch), np.int64)
        made.append(np.ascontiguousarray(x))
    return made


def check_batch(plan: Plan, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """The inputs of a batch as the plan takes them.

    Raises:
        ShapeError: the number of inputs is wrong, or a shape is.
        DtypeError: an input has floats for ids, or integers for floats.
    """
    if len(inputs) != len(plan.inputs):
        raise ShapeError(f"report: expected batches of {len(plan.inputs)} input(s), got {len(inputs)}")
    check_inputs([s.shape for s in plan.inputs], [x.shape for x in inputs])
    for slot, x in zip(plan.inputs, inputs):
        if x.dtype not in (FLOATS if slot.floats else INTEGERS):
            raise DtypeError(f"report: expected {'floats' if slot.floats else 'integer ids'} as input, got {x.dtype}")
    return tuple(x.astype(np.float32, copy=False) if slot.floats else x for slot, x in zip(plan.inputs, inputs))


def time_plan(plan: Plan, inputs: list[np.ndarray], batch: int, seconds: float) -> tuple[list[StepTimes], Calls]:
    """The times of each step of a plan, and of a whole call.

    A plan runs a large batch in pieces that stay in the cache. Steps are timed on one piece, and their times are multiplied
    by the number of pieces. Steps that a program does not run (views, and those that depend on no input) take no time.
    """
    layout = plan.layout(inputs, batch)
    piece = layout.batch
    times = batch / piece
    values = {s.value: x[:piece] if piece < batch else x for s, x in zip(plan.inputs, inputs)}
    made, _ = observe(plan.steps, values, tuple(s.output for s in layout.steps), piece)
    values = {**{v: standard(x) for v, x in values.items()}, **dict(zip((s.output for s in layout.steps), made))}
    known = codecs(plan.steps)
    parts = [_parts(step, [values[i] for i in step.inputs], values[step.output], piece, known)
             if step.output in layout.memory.begins else {} for step in plan.steps]
    took, calls = time_parts(parts, lambda: plan(*inputs), least_call(), seconds)
    return [_collect_times(step, {part: ms * times for part, ms in mine.items()}, values)
            for step, mine in zip(plan.steps, took)], calls


def least_call() -> Callable[[], object]:
    """The smallest product there is: one row of four codes by one channel."""
    requant = integer_layer.Requant(np.array([0.5]), 0)
    layer = integer_layer.IntegerLayer(np.ones((1, 4, 1, 1), np.int8), None, 0, Window(), requant)
    return layer.bind(np.zeros((1, 1, 1, 4), np.uint8), np.zeros((1, 1, 1, 1), np.uint8))


def _parts(step: Step, values: list[np.ndarray], out: np.ndarray, batch: int, known: dict[int, Codec]) -> Functions:
    """The functions that are timed for a step: the step, its float32 twin, and larger or smaller ones for comparison."""
    y = empty(out.shape, out.dtype)
    found: Functions = {"full": step.bind(values, batch, y)}
    if step.kind in FLOAT_KINDS:
        return found
    float32 = twin(step, values, out, batch, known)
    if float32 is not None:
        found["float32"] = float32
    if not isinstance(step, Product):
        buffer = np.zeros((sum(v.nbytes for v in values) + out.nbytes) // 2, np.uint8)     # copying reads and writes
        target = np.empty_like(buffer)
        found["copy"] = lambda: np.copyto(target, buffer)
        return found
    x, spatial, layer = values[0], step.attrs["spatial"], step.layer
    if not why_together(layer):
        other = resize_channels(layer)
        resized = np.take(x, np.arange(other.k) % layer.k, 1 if spatial else -1)
        found["otherwise"] = bind_layer(other, spatial, standard(resized), y)
    if _rows(step, out) <= FEW_ROWS and len(x):
        crowd = standard(np.concatenate([x] * CROWD))
        found["crowd"] = bind_layer(layer, spatial, crowd, empty((CROWD * len(out), *out.shape[1:]), np.uint8))
    return found


def _rows(step: Product, out: np.ndarray) -> int:
    """The number of outputs per channel."""
    return out.size // step.filters


def why_together(layer: integer_layer.IntegerLayer) -> str:
    """Why the times to multiply and to requantize cannot be separated; "" if they can."""
    return ("every output has one input channel" if layer.depthwise else
            "its channels are in groups" if layer.groups > 1 else "")


def resize_channels(layer: integer_layer.IntegerLayer) -> integer_layer.IntegerLayer:
    """The layer with half of its input channels, or with twice as many if they are few."""
    # codes are multiplied four at a time: up to four channels take as long as one
    k = layer.k // 2 // 4 * 4 if layer.k >= LEAST_CHANNELS else max(2 * layer.k, 5)
    codes = np.take(layer.unpacked(), np.arange(k) % layer.k, 1)
    return integer_layer.IntegerLayer(codes, None, layer.zero_point, layer.window, layer.requant)


def slices(layer: integer_layer.IntegerLayer) -> int:
    """The number of groups of four codes in a sum."""
    steps: int = layer.weight.shape[2] * layer.weight.shape[3]
    return steps


def _collect_times(step: Step, ms: dict[str, float], values: dict[int, np.ndarray]) -> StepTimes:
    """The figures of one step, from the times of its functions."""
    if not ms:
        return StepTimes(narrow=step.kind not in FLOAT_KINDS)
    full = ms["full"]
    if step.kind in ("quantize", "dequantize"):
        return StepTimes(quantize=full)
    if step.kind == "float_product":
        return StepTimes(multiply=full, float32=full)
    if step.kind == "island":
        return StepTimes(other=full, float32=full)
    float32 = ms.get("float32")
    if not isinstance(step, Product):
        return StepTimes(other=full, float32=float32, copy=ms.get("copy"), narrow=True)
    layer = step.layer
    found = StepTimes(multiply=full, float32=float32, rows=_rows(step, values[step.output]), crowd=ms.get("crowd"),
                      terms=layer.k * layer.window.taps, narrow=True)
    return split_product(found, layer, ms.get("otherwise"))


def split_product(found: StepTimes, layer: integer_layer.IntegerLayer, otherwise: float | None) -> StepTimes:
    """Split the time of a product into multiplying and requantizing, or note why it cannot be split.

    Args:
        found: the figures of the product, which are changed.
        layer: the layer of the product.
        otherwise: the milliseconds that the product takes with the channels of `resize_channels`; None if they cannot be
            told apart, for the reason of `why_together`.
    """
    found.together = why_together(layer)
    if found.together or otherwise is None:
        return found
    other = resize_channels(layer)
    parts = split(found.multiply, otherwise, slices(layer), slices(other))
    if parts is None:
        found.together = f"with {other.k} input channels it took as long, or shorter by more than their share"
    else:
        found.multiply, found.requantize = parts
    return found
