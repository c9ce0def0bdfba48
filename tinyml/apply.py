"""`apply`, through which every op runs: what it does with operands that are not all float32 Tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import checks
from .dtypes import FLOAT32, FLOATS, converted
from .engine import ApplyBase, TensorBase
from .errors import GradError
from .state import GradMode, state


class Apply(ApplyBase):
    """`apply(op, *inputs, **attrs)`: run an op on Tensors, and note it on the tape.

    Operands that are no Tensors become some; None stands for an absent operand. float16 operands are computed in float32,
    and the result is float16 only if all float operands are and one is no weight (equation (12): weights may be stored as
    float16, activations are float32). float32 meeting float64 becomes float64, except in layers (`one_precision`), where
    it is an error: there it is always a mistake. int8 operands run the op's integer rule.

    Args:
        tensor: the class of results.
        as_tensor: makes one of another value; Python numbers take the dtype that is its second argument.

    Raises:
        DtypeError, ShapeError: from the op, naming it; GradError: a gradient through int8 is asked for.
    """

    def __init__(self, tensor: type[TensorBase], as_tensor: Callable[[Any, np.dtype[Any]], TensorBase]):
        super().__init__(tensor)
        self.as_tensor = as_tensor

    def as_tensors(self, op: Any, inputs: tuple[Any, ...]) -> list[TensorBase | None]:
        """`inputs` as Tensors; Python numbers take the dtype of the first that has floats. What the op reads as integers
        may be an array of any of them, int8 too, which are no codes then."""
        like = FLOAT32
        for t in inputs:
            if isinstance(t, TensorBase) and t.dtype in FLOATS:
                like = t.dtype
                break
        found: list[TensorBase | None] = []
        for t in inputs:        # x * 2 is frequent: a comprehension would take a few percent of its time
            if t is not None and not isinstance(t, TensorBase):
                ids = isinstance(t, np.ndarray) and len(found) in op.integer_operands
                t = self.as_tensor(checks.ids(t) if ids else t, like)
            found.append(t)
        return found

    convert = staticmethod(converted)

    def run_integers(self, op: Any, inputs: tuple[Any, ...], attrs: dict[str, Any], grad: GradMode) -> Any:
        """The op's integer rule; a layer's int8 weight that the op does not read as one is what its codes stand for."""
        read = [t.dequantize() if t is not None and t.stored and t.quantized is not None and i not in op.stored else t
                for i, t in enumerate(inputs)]
        if any(a is not b for a, b in zip(read, inputs)):
            return self(op, *read, **attrs)
        if grad:
            raise GradError(f"{op.name}: gradients do not flow through int8; use no_grad() to run the model, or train "
                            "the float model with fake-quantization and convert it afterwards")
        profiler = state.profiler
        output = op.quantized(*inputs, **attrs) if profiler is None else profiler.quantized(op, inputs, attrs)
        if state.recorder is not None:
            state.recorder.note(op, inputs, attrs, output)
        return output
