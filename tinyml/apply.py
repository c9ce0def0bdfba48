"""`apply`, through which every op runs: what it does with operands that are not all float32 Tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import checks
from .dtypes import FLOAT32, FLOATS, converted, dtype_of_number, result_dtype
from .engine import RECOMPUTED, ApplyBase, TensorBase, View
from .errors import DtypeError, GradError
from .state import GradMode, state

OPS: dict[str, type[Any]] = {}      # name -> op class, filled by ops/


class Apply(ApplyBase):
    """`apply(op, *inputs, **attrs)`: run an op on Tensors, and note it on the tape.

    Operands that are no Tensors become some; None stands for an absent operand. Which dtypes an op takes, and what it
    makes of others, its class says (`Op.promotes`). float16 operands are computed in float32, and the result is float16
    only if all float operands are and one is no weight (equation (12): weights may be stored as float16, activations are
    float32). float32 meeting float64 becomes float64, except in layers (`one_precision`), where it is an error: there it
    is always a mistake. int8 operands run the op's integer rule.

    Attributes:
        tensor: the class of results, which sets itself.
        as_tensor: makes one of another value; Python numbers take the dtype that is its second argument.

    Raises:
        DtypeError, ShapeError: from the op, naming it; GradError: a gradient through int8 is asked for.
    """

    as_tensor: Callable[[Any, np.dtype[Any]], TensorBase]

    def as_tensors(self, op: Any, inputs: tuple[Any, ...]) -> list[TensorBase | None]:
        """`inputs` as Tensors; Python numbers take the dtype of those that are some, as `dtype_of_number` says. What the
        op reads as integers may be an array of any of them, int8 too, which are no codes then."""
        if len(inputs) == 2 and op.promotes is not None:        # x * 2, by far the most frequent
            a, b = inputs
            if isinstance(a, TensorBase) and type(b) in (float, int) and a.dtype in FLOATS:
                return [a, self.as_tensor(b, a.dtype)]
            if isinstance(b, TensorBase) and type(a) in (float, int) and b.dtype in FLOATS:
                return [self.as_tensor(a, b.dtype), b]
        for t in inputs:
            if isinstance(t, (str, bytes, dict, set)) or (isinstance(t, np.ndarray) and t.dtype.kind not in "biuf"):
                raise DtypeError(f"{op.name}: expected a Tensor, an array or a number, got {checks.described(t)}")
        arrays = [t.array if isinstance(t, TensorBase) else t for t in inputs if isinstance(t, (TensorBase, np.ndarray))]
        if op.promotes is None and op.any_dtype is False:
            like = next((a.dtype for a in arrays if a.dtype in FLOATS), FLOAT32)
        else:
            like = result_dtype(arrays) if arrays else None
        found: list[TensorBase | None] = []
        for t in inputs:        # x * 2 is frequent: a comprehension would take a few percent of its time
            if t is not None and not isinstance(t, TensorBase):
                if isinstance(t, (int, float)):
                    t = self.as_tensor(t, like if op.promotes is None and like else dtype_of_number(t, like))
                else:
                    ids = isinstance(t, np.ndarray) and len(found) in op.integer_operands
                    t = self.as_tensor(checks.ids(t) if ids else t, FLOAT32)
            found.append(t)
        return found

    convert = staticmethod(converted)

    def refresh(self, t: TensorBase) -> None:
        """Make `t`, a view, one of its root as it is now: the root was changed in place since, by an op on the tape."""
        view: Any = t.of_view
        if view.root.of_view is not None:       # it changed its shape in place, so it is a view itself: of what it was
            view = t.of_view = View(view.root.of_view.root, view.ops, view.noted)
        view.revision = view.root.revision
        if view.noted:
            fresh, mode = view.root, state.grad
            # the view was noted, whether or not it is looked at within no_grad()
            state.grad = GradMode.RECOMPUTE if fresh.node is RECOMPUTED else GradMode.ON
            try:
                for name, attrs in view.path:
                    fresh = self(OPS[name], fresh, **dict(attrs))
            finally:
                state.grad = mode
            if state.recorder is not None:
                state.recorder.note_change(t, fresh)
            t.array = fresh.array
            t.place(fresh.node, fresh.requires_grad)

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
        output = op.run_int8(*inputs, **attrs) if profiler is None else profiler.run_int8(op, inputs, attrs)
        if state.recorder is not None:
            state.recorder.note(op, inputs, attrs, output)
        return output


apply = Apply()
