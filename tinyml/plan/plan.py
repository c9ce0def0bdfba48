"""Plan: a lowered graph, a program on int8 codes or floats that runs, saves and reports itself."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._kernels import integers
from .._kernels.dispatch import get_num_threads
from ..batches import in_order
from ..errors import DtypeError, ShapeError, TinymlError, TraceError
from ..graph import Batch, check_inputs, resolve, returned
from ..nn.module import Module
from ..ops import Codec
from ..tape import state
from ..tensor import FLOATS, INTEGERS, Tensor, as_tensor
from .arena import empty
from .product_steps import FloatProduct, Product
from .program import Layout, Memory, Programs, observe
from .steps import ROUNDINGS, Dequantize, Island, Step

FLOAT_STEPS = (Island, FloatProduct)
# Bytes of values that a thread's share of a piece stays below: what a second-level cache holds. ResNet8 and DepthwiseCNN
# in float32, 64 images, took 20.6 and 27.1 ms on one thread; 22.2 and 30.0 by a quarter of this, 25.8 and 32.3 at once.
PIECE = 2**21


@dataclass
class Headroom:
    """The overflow certificate of a layer, equation (4): bound[c] is the largest |accumulator| of output channel c that any
    input can reach, at most 2^31 - 1; `doubled` channels needed a larger weight scale for it."""

    layer: str
    bound: np.ndarray
    doubled: int

    @property
    def margin(self) -> np.ndarray:
        """Share of int32 that each channel leaves free."""
        return 1 - self.bound / integers.INT32_MAX

    def __str__(self) -> str:
        used = self.bound.max(initial=0) / integers.INT32_MAX
        return f"sums reach {used:.2%} of int32" + (f", {self.doubled} scales doubled for it" if self.doubled else "")


@dataclass
class Slot:
    """A value that enters or leaves a plan: number, shape (with Batch), codec where codes are known, floats or ids."""

    value: int
    shape: tuple
    codec: Codec | None
    floats: bool = True


def _kind(values: dict[int, np.ndarray], wanted: tuple[int, ...]) -> Hashable:
    """What calls have in common that differ in the batch size only."""
    return tuple((v, x.dtype.char) for v, x in values.items()), wanted


def _samples(layout: Layout) -> int:
    """How many samples go at a time where one is laid out so."""
    return max(PIECE * get_num_threads() // max(layout.memory.nbytes, 1), 1)


def _like(x: Any) -> tuple | None:
    """What makes two inputs alike to a program: shape and dtype of floats or ids; None for all else."""
    if isinstance(x, Tensor):
        return None if x.quantized is not None else (x.data.shape, x.data.dtype)
    return (x.shape, x.dtype) if type(x) is np.ndarray else None


def _by_sample(inputs: list[Slot], outputs: list[Slot], steps: list[Step]) -> bool:
    """Whether each sample of the outputs comes of the same sample of the inputs alone, so that a batch may go in pieces."""
    def samples(shape: tuple) -> bool:
        return shape[:1] == (Batch(),) and not any(isinstance(n, Batch) for n in shape[1:])

    ndims: dict[int, int | None] = {s.value: len(s.shape) if samples(s.shape) else None for s in inputs}
    for step in steps:
        operands = [ndims[i] for i in step.inputs]
        ndims[step.output] = None if None in operands or not operands else step.by_sample(operands)
    return all(n is not None for n in ndims.values()) and all(samples(s.shape) for s in outputs)


def plan_info(**known: Any) -> dict[str, Any]:
    """A plan's `info`: all its keys, with what is `known`.

    inputs: what the model's forward calls its inputs; single_output: whether it returned a Tensor; outputs: the names of a
    dict that it returned; rounding: "single" or "double"; calibration: observer, samples and digest of the data; floats:
    why layers stayed float, by layer; repairs: those that were done; frontier: mixtures of precisions that
    `to_int8(max_drop=...)` saw. What was not done is empty.
    """
    return {"inputs": [], "outputs": [], "single_output": True, "rounding": ROUNDINGS[0], "calibration": {}, "floats": {},
            "repairs": [], "frontier": [], **known}


def _headroom(step: Product) -> Headroom:
    return Headroom(step.name, step.bound, step.attrs["doubled"])


class Plan(Module):
    """A model lowered to steps: float32 in and out; in between codes, float islands among them, or floats throughout.

    `plan(x)` quantizes its input and dequantizes its output; `plan.codes(x)` takes float32 or int8 and returns int8.
    `info` says how it was made, see `plan_info`.
    """

    def __init__(self, inputs: list[Slot], outputs: list[Slot], steps: list[Step], info: dict[str, Any]):
        self.inputs, self.outputs, self.steps, self.info = inputs, outputs, steps, plan_info(**info)
        self.eval()
        self._as_float = {i for s in steps if s.kind != "quantize" for i in s.inputs} | {o.value for o in outputs}
        self._by_sample = _by_sample(inputs, outputs, steps)
        self._wanted = tuple(o.value for o in outputs)
        self._programs = Programs()

    @property
    def input_names(self) -> list[str]:
        """What forward of the model called its inputs, in order."""
        return self.info["inputs"]

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Float32 results of float32 inputs."""
        if named:
            inputs = in_order("plan", self.info["inputs"], inputs, named)
        results = [Tensor._of(v) for v in self._run(inputs, self._wanted)]
        return returned(results, self.info["single_output"], self.info["outputs"])

    def codes(self, x: Any) -> Tensor:
        """int8 result of a plan with one integer output; x is float32, or int8 in the input's own scale and zero point.

        Raises:
            DtypeError: the output is a float island, or the codes of x stand for other numbers.
        """
        out = self.outputs[0]
        source = next((s.inputs[0] for s in self.steps if isinstance(s, Dequantize) and s.output == out.value), None)
        if source is None or len(self.outputs) != 1:
            raise DtypeError("codes: expected a plan with one output in codes; this one ends in float32")
        u, = self._run((x,), (source,))
        return Tensor(integers.to_signed(u), scale=out.codec.scale, zero_point=out.codec.zero_point)

    def _run(self, inputs: tuple, wanted: tuple[int, ...]) -> list[np.ndarray]:
        # a call like one before goes straight to its program: checks would cost a batch of one a tenth of its time
        call = (wanted, get_num_threads(), *[_like(x) for x in inputs])
        ready = self._programs.ready.get(call)
        if ready is None or hasattr(state.recorder, "escaped"):
            return self._checked(inputs, wanted, call)
        key, layout = ready
        results = [empty(layout.shapes[w], layout.dtypes[w]) for w in wanted]
        self._programs.run(key, layout, [x.data if isinstance(x, Tensor) else x for x in inputs], results)
        return results

    def _checked(self, inputs: tuple, wanted: tuple[int, ...], call: tuple) -> list[np.ndarray]:
        if hasattr(state.recorder, "escaped"):
            raise TraceError("trace: a Plan is already lowered; trace the float model")
        given = [as_tensor(x) for x in inputs]
        if len(given) != len(self.inputs):
            raise ShapeError(f"plan: expected {len(self.inputs)} input(s), got {len(given)}")
        batch = check_inputs([s.shape for s in self.inputs], [x.shape for x in given])
        values: dict[int, np.ndarray] = {}
        for slot, x in zip(self.inputs, given):
            if x.quantized is not None:
                meant = None if x.axis is not None else Codec(x.scale[()], int(x.zero_point))
                if slot.codec is None or meant != slot.codec:
                    raise DtypeError(f"plan: expected int8 input with {slot.codec}, got {x.quantized}")
                codes = integers.to_unsigned(x.data)
                values.update((s.output, codes) for s in self.steps if s.kind == "quantize" and s.inputs == [slot.value])
                if slot.value in self._as_float:
                    values[slot.value] = x.dequantize().data
            elif x.dtype in (FLOATS if slot.floats else INTEGERS):
                values[slot.value] = x.data.astype(np.float32, copy=False) if slot.floats else x.data
            else:
                expected = "float32 (or int8) input" if slot.floats else "integer ids"
                raise DtypeError(f"plan: expected {expected}, got {x.dtype}")
        if not batch:
            return observe(self.steps, values, wanted, batch)[0]
        as_given = None not in call and all(values[s.value] is x.data for s, x in zip(self.inputs, given))
        if not self._by_sample:
            return self._whole(values, wanted, batch, call if as_given else None)
        try:
            return self._by_piece(values, wanted, batch, call if as_given else None)
        except TinymlError:
            if batch == 1:
                raise
        return observe(self.steps, values, wanted, batch)[0]        # raises what it says of the whole batch

    def _whole(self, values: dict[int, np.ndarray], wanted: tuple[int, ...], batch: int,
               call: tuple | None) -> list[np.ndarray]:
        """All samples at once; the first call of its kind steps through them."""
        key = (_kind(values, wanted), batch)
        layout = self._programs.layouts.get(key)
        if layout is None:
            results, layout = observe(self.steps, values, wanted, batch)
            self._programs.keep(key, layout)
            return results
        results = [empty(layout.shapes[w], layout.dtypes[w]) for w in wanted]
        self._programs.run(key, layout, list(values.values()), results)
        if call is not None:
            self._programs.expect(call, key, layout)
        return results

    def _by_piece(self, values: dict[int, np.ndarray], wanted: tuple[int, ...], batch: int,
                  call: tuple | None) -> list[np.ndarray]:
        """As many samples at a time as stay in the cache; the first call of its kind steps through one."""
        kind, done = _kind(values, wanted), 0
        layout = self._programs.layouts.get(kind)
        if layout is None:
            first, layout = observe(self.steps, {v: x[:1] for v, x in values.items()}, wanted, 1)
            self._programs.keep(kind, layout)
            if batch == 1:
                return first
            done = 1
        results = [empty((batch, *layout.shapes[w][1:]), layout.dtypes[w]) for w in wanted]
        for y, part in zip(results, first if done else ()):
            y[:1] = part
        while done < batch:
            n = min(_samples(layout), batch - done)
            piece, key = slice(done, done + n), (kind, n)
            self._programs.run(key, layout.at(n), [x[piece] for x in values.values()], [y[piece] for y in results])
            if n == batch and call is not None:
                self._programs.expect(call, key, layout.at(n))
            done += n
        return results

    @property
    def nbytes(self) -> int:
        """Bytes of all packed weights, biases, scales and tables."""
        return sum(s.nbytes for s in self.steps)

    @property
    def islands(self) -> list[str]:
        """Layers (or ops) that compute in float32."""
        return [f"{s.attrs['op']}{' in ' + s.name if s.name else ''}" for s in self.steps if isinstance(s, FLOAT_STEPS)]

    def memory(self, batch: int = 1) -> Memory:
        """The memory that a batch's values share, or those of as many of its samples as go at a time.

        Raises:
            ShapeError: the batch has no samples.
        """
        if batch < 1:
            raise ShapeError(f"memory: expected a batch of at least 1, got {batch}")
        return self.layout([np.zeros(resolve(s.shape, batch), np.float32 if s.floats else np.int64) for s in self.inputs],
                           batch).memory

    def layout(self, inputs: list[np.ndarray], batch: int) -> Layout:
        """What running these inputs shows of the values of a batch, or of as many of its samples as go at a time."""
        seen = 1 if self._by_sample else batch
        values = {s.value: x[:1] if self._by_sample else x for s, x in zip(self.inputs, inputs)}
        with np.errstate(all="ignore"):
            _, layout = observe(self.steps, values, self._wanted, seen)
        return layout.at(min(_samples(layout), batch)) if self._by_sample else layout

    def certificate(self) -> list[Headroom]:
        """How far from overflow the accumulators of each layer stay, whatever the input."""
        return [_headroom(s) for s in self.steps if isinstance(s, Product)]

    def __repr__(self) -> str:
        lines = []
        for s in self.steps:
            what = s.attrs.get("op", s.kind)
            line = f"  {s.kind if what == s.kind else f'{s.kind} {what}'}{' in ' + s.name if s.name else ''}"
            if isinstance(s, Product):
                line += f": int8, {_headroom(s)}"
            elif isinstance(s, FLOAT_STEPS):
                line += ": " + "/".join(sorted({"float32", *(str(a.dtype) for a in s.arrays.values() if a.dtype in FLOATS)},
                                               reverse=True))
            lines.append(line)
        shapes = ", ".join("(" + ", ".join("B" if n == Batch() else str(n) for n in s.shape) + ")" for s in self.inputs)
        return f"Plan(input {shapes}, {self.nbytes:,} bytes,\n" + "\n".join(lines) + "\n)"
