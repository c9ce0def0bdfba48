"""Plan: a model as a list of steps on int8 codes or floats, which runs, is saved and reports like any other model."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._kernels.dispatch import get_num_threads
from .._kernels.products import fixed_point
from .._kernels.rows.codes import to_signed, to_unsigned
from ..batches import in_order
from ..errors import DtypeError, ShapeError, TinymlError, TraceError
from ..graph import Batch, Shape, check_inputs, pack_outputs, resolve
from ..nn.module import Module
from ..ops import Codec
from ..tape import state
from ..tensors import FLOATS, INTEGERS, Tensor, as_tensor
from .arena import empty
from .info import PlanInfo
from .product_steps import FloatProduct, Product
from .program import Layout, Memory, Programs, observe
from .steps import Dequantize, Island, Step

FLOAT_STEPS = (Island, FloatProduct)
Call = tuple[Any, ...]      # equal for calls that run alike: what is wanted, the threads, each input's shape and dtype
# The most bytes of values that one thread computes at a time, so that they stay in the second-level cache.
# ResNet8 and DepthwiseCNN in float32, 64 images, took 20.6 and 27.1 ms on one thread; with a quarter of it they took 22.2
# and 30.0 ms, and with all samples at once 25.8 and 32.3 ms.
PIECE = 2**21


@dataclass
class Headroom:
    """The overflow certificate of a layer, equation (4).

    Attributes:
        layer: its name.
        bound: (N), the largest |accumulator| that any input can reach in each of N output channels, at most 2^31 - 1.
        doubled: how many channels needed a larger weight scale for that.
    """

    layer: str
    bound: np.ndarray
    doubled: int

    @property
    def margin(self) -> np.ndarray:
        """The share of int32 that each channel leaves free, (N)."""
        return 1 - self.bound / fixed_point.INT32_MAX

    def __str__(self) -> str:
        used = self.bound.max(initial=0) / fixed_point.INT32_MAX
        return f"sums reach {used:.2%} of int32" + (f", {self.doubled} scales doubled for it" if self.doubled else "")


@dataclass
class Slot:
    """A value that enters or leaves a plan.

    Attributes:
        value: its number.
        shape: its shape, in which Batch stands for the batch size.
        codec: scale and zero point of its codes; None where it has none.
        floats: whether it is float32 rather than integer ids.
    """

    value: int
    shape: Shape
    codec: Codec | None
    floats: bool = True


def _kind(values: dict[int, np.ndarray], wanted: tuple[int, ...]) -> Hashable:
    """A key that is equal for calls that differ in the batch size only."""
    return tuple((v, x.dtype.char) for v, x in values.items()), wanted


def _samples(layout: Layout) -> int:
    """How many samples run at a time, if each has the memory that `layout` has for one."""
    return max(PIECE * get_num_threads() // max(layout.memory.nbytes, 1), 1)


def _like(x: Any) -> tuple[tuple[int, ...], np.dtype] | None:
    """The shape and dtype of floats or ids, which are all that a program asks of an input; None for other inputs."""
    if isinstance(x, Tensor):
        return None if x.quantized is not None else (x.array.shape, x.array.dtype)
    return (x.shape, x.dtype) if type(x) is np.ndarray else None


def _by_sample(inputs: list[Slot], outputs: list[Slot], steps: list[Step]) -> bool:
    """Whether each sample of the outputs is computed from the same sample of the inputs alone, so that a batch may run in
    pieces."""
    def samples(shape: Shape) -> bool:
        return shape[:1] == (Batch(),) and not any(isinstance(n, Batch) for n in shape[1:])

    ndims: dict[int, int | None] = {s.value: len(s.shape) if samples(s.shape) else None for s in inputs}
    for step in steps:
        operands = [n for i in step.inputs if (n := ndims[i]) is not None]
        ndims[step.output] = step.by_sample(operands) if operands and len(operands) == len(step.inputs) else None
    return all(n is not None for n in ndims.values()) and all(samples(s.shape) for s in outputs)


def _headroom(step: Product) -> Headroom:
    return Headroom(step.name, step.bound, step.attrs["doubled"])


class Plan(Module):
    """A model as a list of steps, which takes and returns float32.

    Between the steps, values are int8 codes, except in float islands; a plan that `compile` made has floats throughout.
    `to_int8(calibration=...)`, `compile` and `precision.lower` make plans. `plan(x)` quantizes its input and dequantizes
    its output. The first call with inputs of a kind runs step by step and notes the shapes of all values; later calls run
    a program whose memory is laid out once. Both give the same bytes, on any number of threads.

    Args:
        inputs: the values that enter, as Slots.
        outputs: the values that leave, as Slots.
        steps: what it computes, in order.
        info: how it was made, a PlanInfo.

    Example:
        >>> import numpy as np
        >>> from tinyml import nn
        >>> x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
        >>> plan = nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Softmax()).to_int8(calibration=x)
        >>> plan(x).shape, plan.islands, plan.info.rounding
        ((3, 2), ['softmax in 2'], 'single')
    """

    def __init__(self, inputs: list[Slot], outputs: list[Slot], steps: list[Step], info: PlanInfo):
        self.inputs, self.outputs, self.steps, self.info = inputs, outputs, steps, info
        self.eval()
        self._as_float = {i for s in steps if s.kind != "quantize" for i in s.inputs} | {o.value for o in outputs}
        self._by_sample = _by_sample(inputs, outputs, steps)
        self._wanted = tuple(o.value for o in outputs)
        self._programs = Programs()

    @property
    def input_names(self) -> list[str]:
        """The names of the arguments of the model's forward, in order."""
        return self.info.inputs

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The results, float32, of inputs in the order of the model's arguments, or by name.

        Args:
            inputs: float32 arrays or Tensors of the shapes of the example, whose first dimension is a batch of any size;
                integer ids; or int8 Tensors with the scale and zero point that the plan gives this input.

        Raises:
            ShapeError: another number or shape of inputs, or a NaN, which has no code.
            DtypeError: an input of another dtype, or in other codes.
        """
        if named:
            inputs = in_order("plan", self.info.inputs, inputs, named)
        results = [Tensor._of(v) for v in self._run(inputs, self._wanted)]
        return pack_outputs(results, self.info.single_output, self.info.outputs)

    def codes(self, x: Any) -> Tensor:
        """The int8 result of a plan with one input and one output, without dequantizing it.

        Args:
            x: float32, or int8 with the scale and zero point that the plan gives its input.

        Returns:
            An int8 Tensor with scale and zero point.

        Raises:
            DtypeError: the output is computed in float, or the codes of x stand for other numbers.
        """
        out = self.outputs[0]
        codec = out.codec
        source = next((s.inputs[0] for s in self.steps if isinstance(s, Dequantize) and s.output == out.value), None)
        if source is None or codec is None or len(self.outputs) != 1:
            raise DtypeError("codes: expected a plan with one output in codes; this one ends in float32")
        u, = self._run((x,), (source,))
        return Tensor(to_signed(u), scale=codec.scale, zero_point=codec.zero_point)

    def _run(self, inputs: tuple[Any, ...], wanted: tuple[int, ...]) -> list[np.ndarray]:
        # a call like an earlier one goes straight to its program: checks would make a batch of one a tenth slower
        call = (wanted, get_num_threads(), *[_like(x) for x in inputs])
        ready = self._programs.ready.get(call)
        if ready is None or state.recorder is not None:
            return self._check_and_run(inputs, wanted, call)
        key, layout = ready
        results = [empty(layout.shapes[w], layout.dtypes[w]) for w in wanted]
        self._programs.run(key, layout, [x.array if isinstance(x, Tensor) else x for x in inputs], results)
        return results

    def _check_and_run(self, inputs: tuple[Any, ...], wanted: tuple[int, ...], call: Call) -> list[np.ndarray]:
        if state.recorder is not None and state.recorder.traces:
            raise TraceError("trace: a Plan is already lowered; trace the float model")
        given = [as_tensor(x) for x in inputs]
        if len(given) != len(self.inputs):
            raise ShapeError(f"plan: expected {len(self.inputs)} input(s), got {len(given)}")
        batch = check_inputs([s.shape for s in self.inputs], [x.shape for x in given])
        values: dict[int, np.ndarray] = {}
        for slot, x in zip(self.inputs, given):
            q = x.quantized
            if q is not None:
                meant = None if q.axis is not None else Codec(np.float32(q.scale), int(q.zero_point))
                if slot.codec is None or meant != slot.codec:
                    raise DtypeError(f"plan: expected int8 input with {slot.codec}, got {q}")
                codes = to_unsigned(x.array)
                values.update((s.output, codes) for s in self.steps if s.kind == "quantize" and s.inputs == [slot.value])
                if slot.value in self._as_float:
                    values[slot.value] = x.dequantize().array
            elif x.dtype in (FLOATS if slot.floats else INTEGERS):
                values[slot.value] = x.array.astype(np.float32, copy=False) if slot.floats else x.array
            else:
                expected = "float32 (or int8) input" if slot.floats else "integer ids"
                raise DtypeError(f"plan: expected {expected}, got {x.dtype}")
        if not batch:
            return observe(self.steps, values, wanted, batch)[0]
        as_given = None not in call and all(values[s.value] is x.array for s, x in zip(self.inputs, given))
        if not self._by_sample:
            return self._whole(values, wanted, batch, call if as_given else None)
        try:
            return self._by_piece(values, wanted, batch, call if as_given else None)
        except TinymlError:
            if batch == 1:
                raise
        return observe(self.steps, values, wanted, batch)[0]        # raises again, for the whole batch

    def _whole(self, values: dict[int, np.ndarray], wanted: tuple[int, ...], batch: int,
               call: Call | None) -> list[np.ndarray]:
        """All samples at once; the first call of its kind runs step by step."""
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
                  call: Call | None) -> list[np.ndarray]:
        """As many samples at a time as stay in the cache; the first call of its kind runs one sample step by step."""
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
        """The bytes of all packed weights, biases, scales and tables."""
        return sum(s.nbytes for s in self.steps)

    @property
    def islands(self) -> list[str]:
        """The ops that compute in float32, each with its layer ("softmax in 2")."""
        return [f"{s.attrs['op']}{' in ' + s.name if s.name else ''}" for s in self.steps if isinstance(s, FLOAT_STEPS)]

    def memory(self, batch: int = 1) -> Memory:
        """The memory that the values of a batch share, or those of as many of its samples as run at a time.

        Args:
            batch: the number of samples.

        Returns:
            A Memory: the bytes of the arena, and where each value begins in it.

        Raises:
            ShapeError: the batch has no samples.
        """
        if batch < 1:
            raise ShapeError(f"memory: expected a batch of at least 1, got {batch}")
        return self.layout([np.zeros(resolve(s.shape, batch), np.float32 if s.floats else np.int64) for s in self.inputs],
                           batch).memory

    def layout(self, inputs: list[np.ndarray], batch: int) -> Layout:
        """The shapes, dtypes and views of all values of a batch, or of as many of its samples as run at a time.

        Args:
            inputs: arrays of one batch, which is run once.
            batch: the number of samples in it.

        Returns:
            A Layout of the batch, or of so many of its samples.
        """
        seen = 1 if self._by_sample else batch
        values = {s.value: x[:1] if self._by_sample else x for s, x in zip(self.inputs, inputs)}
        with np.errstate(all="ignore"):
            _, layout = observe(self.steps, values, self._wanted, seen)
        return layout.at(min(_samples(layout), batch)) if self._by_sample else layout

    def certificate(self) -> list[Headroom]:
        """For each integer layer, how far its accumulators stay from overflow, whatever the input; equation (4)."""
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
