"""Times of a plan's steps, each alone, bound to the operands that it has for the batch."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np

from .._kernels import integers
from .._kernels.windows import Window
from ..errors import DtypeError, ShapeError
from ..graph import Batch, check_inputs, resolve
from ..ops import Codec
from ..plan.arena import empty, standard
from ..plan.plan import Plan
from ..plan.product_steps import Product, bind_layer
from ..plan.program import observe
from ..plan.steps import Step
from ..tensor import FLOATS, INTEGERS
from .timing import CROWD, FEW_ROWS, Calls, Took, in_turn, split, team_call
from .twins import codecs, twin

Functions = dict[Hashable, Callable[[], object]]
FLOAT_KINDS = ("quantize", "dequantize", "island", "float_product")     # steps that are the same, or none, in float32
LEAST_CHANNELS = 16     # of which half are left out; of fewer there are twice as many


def sized(plan: Plan, inputs: tuple[np.ndarray, ...] | None, batch: int) -> list[np.ndarray]:
    """Inputs of a batch of that size: samples of the ones given, again from the first where they are too few; without any,
    numbers of the range that the plan has codes for, and ids 0."""
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


def checked(plan: Plan, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Inputs of a batch as the plan takes them.

    Raises:
        ShapeError: another number of inputs, or other shapes; DtypeError: floats for ids, or integers for floats.
    """
    if len(inputs) != len(plan.inputs):
        raise ShapeError(f"report: expected batches of {len(plan.inputs)} input(s), got {len(inputs)}")
    check_inputs([s.shape for s in plan.inputs], [x.shape for x in inputs])
    for slot, x in zip(plan.inputs, inputs):
        if x.dtype not in (FLOATS if slot.floats else INTEGERS):
            raise DtypeError(f"report: expected {'floats' if slot.floats else 'integer ids'} as input, got {x.dtype}")
    return tuple(x.astype(np.float32, copy=False) if slot.floats else x for slot, x in zip(plan.inputs, inputs))


def plan_times(plan: Plan, inputs: list[np.ndarray], batch: int, seconds: float) -> tuple[list[Took], Calls]:
    """What each step takes, and a whole call.

    A plan runs a large batch in pieces that stay in the cache: steps are timed on one piece, and count as often as there
    are pieces. What a program does not run (views, what depends on no input) takes no time.
    """
    layout = plan.layout(inputs, batch)
    piece = layout.batch
    times = batch / piece
    values = {s.value: x[:piece] if piece < batch else x for s, x in zip(plan.inputs, inputs)}
    made, _ = observe(plan.steps, values, tuple(s.output for s in layout.steps), piece)
    values = {**{v: standard(x) for v, x in values.items()}, **dict(zip((s.output for s in layout.steps), made))}
    known = codecs(plan.steps)
    functions: Functions = {"whole": lambda: plan(*inputs), "least": least_call(), "team": team_call()}
    for at, step in enumerate(plan.steps):
        if step.output in layout.memory.begins:
            operands = [values[i] for i in step.inputs]
            parts = _parts(step, operands, values[step.output], piece, known)
            functions.update(((at, part), f) for part, f in parts.items())
    took = in_turn(functions, seconds)
    calls = Calls(took.pop("whole"), took.pop("least"), took.pop("team"))
    return [_took(step, {part: ms * times for (i, part), ms in took.items() if i == at}, values)
            for at, step in enumerate(plan.steps)], calls


def least_call() -> Callable[[], object]:
    """A product of next to nothing: one row of four codes by one channel."""
    layer = integers.IntegerLayer(np.ones((1, 4, 1, 1), np.int8), None, 0, Window(), integers.Requant(np.array([0.5]), 0))
    return layer.bind(np.zeros((1, 1, 1, 4), np.uint8), np.zeros((1, 1, 1, 1), np.uint8))


def _parts(step: Step, values: list[np.ndarray], out: np.ndarray, batch: int, known: dict[int, Codec]) -> Functions:
    """What is timed of a step: itself, its float32 twin, and for the split and the reasons more of it or less."""
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
    other = other_channels(step.layer)
    if not isinstance(other, str):
        resized = np.take(x, np.arange(other.k) % layer.k, 1 if spatial else -1)
        found["otherwise"] = bind_layer(other, spatial, standard(resized), y)
    if _rows(step, out) <= FEW_ROWS and len(x):
        crowd = standard(np.concatenate([x] * CROWD))
        found["crowd"] = bind_layer(layer, spatial, crowd, empty((CROWD * len(out), *out.shape[1:]), np.uint8))
    return found


def _rows(step: Product, out: np.ndarray) -> int:
    """Outputs a channel."""
    return out.size // step.filters


def other_channels(layer: integers.IntegerLayer) -> integers.IntegerLayer | str:
    """The layer with half of its input channels, or twice as many where they are few, or why there is none."""
    if layer.depthwise:
        return "every output has one input channel"
    if layer.groups > 1:
        return "its channels are in groups"
    # codes are multiplied four at a time: up to four channels take as long as one
    k = layer.k // 2 // 4 * 4 if layer.k >= LEAST_CHANNELS else max(2 * layer.k, 5)
    codes = np.take(layer.unpacked(), np.arange(k) % layer.k, 1)
    return integers.IntegerLayer(codes, None, layer.zero_point, layer.window, layer.requant)


def slices(layer: integers.IntegerLayer) -> int:
    """Groups of four codes that a sum goes through."""
    return layer.weight.shape[2] * layer.weight.shape[3]


def _took(step: Step, ms: dict[str, float], values: dict[int, np.ndarray]) -> Took:
    """The figures of one step from what was timed of it."""
    if not ms:
        return Took(narrow=step.kind not in FLOAT_KINDS)
    full = ms["full"]
    if step.kind in ("quantize", "dequantize"):
        return Took(quantize=full)
    if step.kind == "float_product":
        return Took(multiply=full, float32=full)
    if step.kind == "island":
        return Took(other=full, float32=full)
    float32 = ms.get("float32")
    if not isinstance(step, Product):
        return Took(other=full, float32=float32, copy=ms.get("copy"), narrow=True)
    layer = step.layer
    found = Took(multiply=full, float32=float32, rows=_rows(step, values[step.output]), crowd=ms.get("crowd"),
                 terms=layer.k * layer.window.taps, narrow=True)
    return parted(found, layer, ms.get("otherwise"))


def parted(found: Took, layer: integers.IntegerLayer, otherwise: float | None) -> Took:
    """`found` with its product's time in its two parts, or with the reason why it is in one; `otherwise` is the time with
    `other_channels`."""
    other = other_channels(layer)
    if isinstance(other, str):
        found.together = other
        return found
    parts = split(found.multiply, otherwise, slices(layer), slices(other))
    if parts is None:
        found.together = f"with {other.k} input channels it took as long, or shorter by more than their share"
    else:
        found.multiply, found.requantize = parts
    return found
