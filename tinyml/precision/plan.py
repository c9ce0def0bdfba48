"""Plan: a lowered graph, a program on int8 codes that runs, saves and reports itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._kernels import integers
from ..errors import DtypeError, TraceError
from ..graph import Batch, check_inputs
from ..nn.module import Module
from ..ops import Codec
from ..tape import state
from ..tensor import FLOATS, INTEGERS, Tensor, as_tensor
from .steps import Dequantize, Island, Product, Quantize, Step


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


def _headroom(step: Product) -> Headroom:
    return Headroom(step.name, step.bound, step.attrs["doubled"])


class Plan(Module):
    """An int8 model: float32 in and out, codes in between.

    `plan(x)` quantizes its input and dequantizes its output; `plan.codes(x)` takes float32 or int8 and returns int8.
    """

    def __init__(self, inputs: list[Slot], outputs: list[Slot], steps: list[Step], info: dict[str, Any]):
        self.inputs, self.outputs, self.steps, self.info = inputs, outputs, steps, info
        self.eval()
        last = {i: at for at, step in enumerate(steps) for i in step.inputs}
        self._as_float = {i for s in steps if s.kind != "quantize" for i in s.inputs} | {o.value for o in outputs}
        self._release = [[i for i in set(step.inputs) if last[i] == at] for at, step in enumerate(steps)]

    def forward(self, *inputs: Any) -> Any:
        """Float32 results of float32 inputs."""
        results = [Tensor(v) for v in self._run(inputs, [o.value for o in self.outputs])]
        return results[0] if self.info["single_output"] else tuple(results)

    def codes(self, x: Any) -> Tensor:
        """int8 result of a plan with one integer output; x is float32, or int8 in the input's own scale and zero point.

        Raises:
            DtypeError: the output is a float island, or the codes of x stand for other numbers.
        """
        out = self.outputs[0]
        source = next((s.inputs[0] for s in self.steps if isinstance(s, Dequantize) and s.output == out.value), None)
        if source is None or len(self.outputs) != 1:
            raise DtypeError("codes: expected a plan with one output in codes; this one ends in float32")
        u, = self._run((x,), [source])
        return Tensor(integers.to_signed(u), scale=out.codec.scale, zero_point=out.codec.zero_point)

    def _run(self, inputs: tuple, wanted: list[int]) -> list[np.ndarray]:
        if hasattr(state.recorder, "escaped"):
            raise TraceError("trace: a Plan is already int8; trace the float model")
        given = [as_tensor(x) for x in inputs]
        batch = check_inputs([s.shape for s in self.inputs], [x.shape for x in given] if len(given) == len(self.inputs)
                             else [()] * len(self.inputs))
        values: dict[int, np.ndarray] = {}
        entered: dict[int, np.ndarray] = {}
        for slot, x in zip(self.inputs, given):
            if x.quantized is not None:
                meant = None if x.axis is not None else Codec(x.scale[()], int(x.zero_point))
                if slot.codec is None or meant != slot.codec:
                    raise DtypeError(f"plan: expected int8 input with {slot.codec}, got {x.quantized}")
                entered[slot.value] = integers.to_unsigned(x.data)
                if slot.value in self._as_float:
                    values[slot.value] = x.dequantize().data
            elif x.dtype in (FLOATS if slot.floats else INTEGERS):
                values[slot.value] = x.data.astype(np.float32, copy=False) if slot.floats else x.data
            else:
                expected = "float32 (or int8) input" if slot.floats else "integer ids"
                raise DtypeError(f"plan: expected {expected}, got {x.dtype}")
        for at, step in enumerate(self.steps):
            if isinstance(step, Quantize) and step.inputs[0] in entered:
                values[step.output] = entered[step.inputs[0]]
            elif all(i in values for i in step.inputs):
                values[step.output] = step.run([values[i] for i in step.inputs], batch)
            for i in self._release[at]:
                if i not in wanted:
                    values.pop(i, None)
        return [values[w] for w in wanted]

    @property
    def nbytes(self) -> int:
        """Bytes of all packed weights, biases, scales and tables."""
        return sum(s.nbytes for s in self.steps)

    @property
    def islands(self) -> list[str]:
        """Layers (or ops) that compute in float32."""
        return [f"{s.attrs['op']}{' in ' + s.name if s.name else ''}" for s in self.steps if s.kind == "island"]

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
            elif isinstance(s, Island):
                line += ": " + "/".join(sorted({"float32", *(str(a.dtype) for a in s.arrays.values() if a.dtype in FLOATS)},
                                               reverse=True))
            lines.append(line)
        shapes = ", ".join("(" + ", ".join("B" if n == Batch() else str(n) for n in s.shape) + ")" for s in self.inputs)
        return f"Plan(input {shapes}, {self.nbytes:,} bytes,\n" + "\n".join(lines) + "\n)"
