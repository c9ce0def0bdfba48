"""trace(model, example) -> Graph.

A model is traced, not parsed: it runs at batch 2 and at batch 3 with different values, and what both runs did alike is
the program. Sizes that follow the batch become symbolic; anything else that differs is an error that names op and layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import checks
from ..batches import argument_names, arguments
from ..errors import TraceError
from ..nn.mode import mode
from ..nn.module import Module
from ..ops import Batch
from ..state import Recorder
from ..tape import no_grad, record
from ..tensors import FLOATS, Tensor, as_tensor
from .graph import Constant, Graph, Node
from .shapes import Shape


class _Tracer(Recorder):
    """Records ops, and refuses values of the input that leave the tape as Python numbers."""

    traces = True

    def __init__(self, model: Module, inputs: list[Tensor]):
        super().__init__()
        self.names: dict[int, str] = {}
        for name, module in model.named_modules():
            self.names.setdefault(id(module), name)
        self.source: dict[int, str] = {id(x): "the input" for x in inputs}
        self.inputs = inputs
        self.made: set[int] = set(map(id, inputs))      # what the trace has a value for

    def path(self, module: Module | None) -> str:
        return "" if module is None else self.names.get(id(module), type(module).__name__)

    def note(self, op: type[Any], inputs: tuple[Any, ...], attrs: dict[str, Any], output: Tensor) -> None:
        super().note(op, inputs, attrs, output)
        self.made.add(id(output))
        if any(t is not None and id(t) in self.source for t in inputs):
            where = self.path(self[-1].module)
            self.source[id(output)] = op.name + (f" in {where}" if where else "")

    def note_change(self, tensor: Tensor, result: Tensor) -> None:
        """The last op's result is `tensor` from now on.

        Raises:
            TraceError: it was no result of the trace, but a parameter, a buffer or a constant.
        """
        if id(tensor) not in self.made:
            raise TraceError(f"trace: a Tensor of shape {tensor.shape} that does not come from the input is changed in "
                             f"place by {self[-1].op.name}; write x = x + y instead of x += y")
        self[-1].output = tensor
        if id(result) in self.source:
            self.source[id(tensor)] = self.source[id(result)]

    def note_escape(self, tensor: Tensor) -> None:
        if id(tensor) in self.source:
            raise TraceError(f"trace: a value computed from the input (by {self.source[id(tensor)]}) became a Python "
                             "number or condition through item(), bool(), int() or float(); the program would depend on "
                             "the data. Express it with ops, such as nn.functional.where")


def trace(model: Module, *example: Any) -> Graph:
    """Record the forward of a model in evaluation mode as a program.

    Args:
        model: the Module.
        example: one array or Tensor for each input of forward, or one dict from their names. Their first dimension is the
            batch; values should be typical.

    Returns:
        A Graph.

    Raises:
        TraceError: the forward depends on the data, leaves the tape (NumPy), or does not follow the batch size.
        ShapeError: a dict of other names; DtypeError: no Module.

    Example:
        >>> print(tinyml.graph.trace(nn.Linear(2, 3), np.ones((1, 2), np.float32)))
        input %0 (B, 2)
        %3 (B, 3) = linear(%0, weight, bias)
        output %3
    """
    checks.instance("trace", "model", model, Module)
    if len(example) == 1 and isinstance(example[0], Mapping):
        example = arguments("trace", model, example[0])
    examples = [as_tensor(x) for x in example]
    if any(not x.ndim or not x.numel() for x in examples) or not examples:
        raise TraceError(f"trace: expected non-empty examples with a batch dimension, got "
                         f"{', '.join(str(x.shape) for x in examples) or 'none'}")
    rng = np.random.default_rng(0)
    with mode(model, training=False), no_grad():
        runs = [_run(model, [_vary(x, size, rng) for x in examples]) for size in (2, 3)]
    graph = _Merger(model, *runs).graph()
    names = argument_names(model)[: len(examples)]
    graph.input_names = names if len(names) == len(examples) else []
    return graph


def _vary(x: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """`size` images of the example's elements in random order: other values of the same kind."""
    data = rng.choice(x.array.reshape(-1), (size, *x.shape[1:]))
    if x.dtype in FLOATS:
        limits = np.finfo(x.dtype)      # a mask may hold the least float there is
        noise = rng.standard_normal(data.shape) * (0.01 * np.abs(data).max(initial=0) + 0.01)
        data = np.clip(data + noise, limits.min, limits.max)
    return Tensor(data.astype(x.dtype))


def _run(model: Module, inputs: list[Tensor]) -> tuple[_Tracer, Any]:
    tracer = _Tracer(model, inputs)
    with record(tracer):
        output = model(*inputs)
    return tracer, output


def _names_of(output: Any) -> list[str]:
    """The keys of a dict of outputs."""
    if not isinstance(output, Mapping):
        return []
    if not all(isinstance(name, str) for name in output):
        raise TraceError(f"trace: the model returned a dict of {', '.join(map(repr, output))}; expected a Tensor (or a "
                         "tuple of them, or a dict of them by name)")
    return list(output)


class _Merger:
    """Makes one program of two recordings, at batch 2 and 3."""

    def __init__(self, model: Module, first: tuple[_Tracer, Any], second: tuple[_Tracer, Any]):
        self.names = {id(t): name for name, t in model.named_tensors()}
        (self.a, self.out_a), (self.b, self.out_b) = first, second
        self.numbers: tuple[dict[int, int], dict[int, int]] = ({}, {})      # id of a Tensor -> value, in each run
        self.constants: dict[int, Constant] = {}
        self.shapes: dict[int, Shape] = {}
        self.dtypes: dict[int, np.dtype] = {}

    def _new(self, a: Tensor, b: Tensor, where: str) -> int:
        number = len(self.shapes)
        self.numbers[0][id(a)] = self.numbers[1][id(b)] = number
        self.shapes[number] = self._match(a.shape, b.shape, f"the shape of {where}")
        self.dtypes[number] = a.dtype
        return number

    def _match(self, a: Any, b: Any, where: str) -> Any:
        """What a and b have in common, with Batch for 2 k against 3 k."""
        if isinstance(a, (tuple, list)) and type(a) is type(b) and len(a) == len(b):
            return type(a)(self._match(x, y, where) for x, y in zip(a, b))
        if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
            return {k: self._match(a[k], b[k], where) for k in a}
        if isinstance(a, slice) and isinstance(b, slice):
            return slice(*(self._match(x, y, where) for x, y in zip((a.start, a.stop, a.step), (b.start, b.stop, b.step))))
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
            if a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
                return a
        elif type(a) is type(b):
            if a == b or (a != a and b != b):
                return a
            if isinstance(a, int) and not isinstance(a, bool) and a * 3 == b * 2:
                return Batch(a // 2)
        raise TraceError(f"trace: {where} is not the same for two inputs: {a!r} with batch 2, {b!r} with batch 3. It "
                         "depends on the data, or on the batch size in a way that is no multiple of it")

    def _operand(self, a: Tensor | None, b: Tensor | None, where: str) -> int | None:
        if a is None and b is None:
            return None
        left, right = (None if t is None else numbers.get(id(t)) for t, numbers in zip((a, b), self.numbers))
        if left != right or a is None or b is None:
            raise TraceError(f"trace: {where} reads other values in two runs of the model: its forward depends on the data")
        return self._constant(a, b, where) if left is None else left

    def _constant(self, a: Tensor, b: Tensor, where: str) -> int:
        axes: tuple[int, ...] = ()
        if a is not b:
            kept = a.array
            if a.ndim == b.ndim and a.shape != b.shape:
                axes = tuple(i for i, (n, m) in enumerate(zip(a.shape, b.shape)) if (n, m) == (2, 3))
                first = tuple(slice(0, 1) if i in axes else slice(None) for i in range(a.ndim))
                kept = a.array[first]
            fits = a.ndim == b.ndim and all(n == m or i in axes for i, (n, m) in enumerate(zip(a.shape, b.shape)))
            same = fits and kept.dtype == b.dtype and all(
                np.array_equal(np.broadcast_to(kept, t.shape), t.array, equal_nan=t.dtype.kind == "f") for t in (a, b))
            if not same:
                raise TraceError(f"trace: {where} reads a constant whose values differ between two runs of the model: it "
                                 "is computed from the input outside the tape (numpy(), detach() or a comparison). Keep "
                                 "the computation in Tensor ops")
        number = len(self.shapes)
        self.numbers[0][id(a)] = self.numbers[1][id(b)] = number
        self.constants[number] = Constant(Tensor(kept) if axes else a, self.names.get(id(a), ""), axes)
        self.shapes[number] = self.constants[number].tensor.shape
        self.dtypes[number] = a.dtype
        return number

    def graph(self) -> Graph:
        for run in (self.a, self.b):
            for r in run:
                if any(t is not None and t.quantized is not None for t in r.inputs):
                    raise TraceError(f"trace: {r.op.name} already reads int8; trace the float model")
        inputs = [self._new(a, b, f"input {i}") for i, (a, b) in enumerate(zip(self.a.inputs, self.b.inputs))]
        nodes = []
        for i, (ra, rb) in enumerate(zip(self.a, self.b)):
            where = ra.op.name + (f" in layer {self.a.path(ra.module)}" if self.a.path(ra.module) else "")
            if ra.op is not rb.op or len(ra.inputs) != len(rb.inputs) or self.a.path(ra.module) != self.b.path(rb.module):
                raise TraceError(f"trace: op {i} is {where} in one run of the model and {rb.op.name} in layer "
                                 f"{self.b.path(rb.module)} in another: its forward branches on the data")
            operands = [self._operand(a, b, where) for a, b in zip(ra.inputs, rb.inputs)]
            attrs = {k: self._match(v, rb.attrs.get(k), f"{k} of {where}") for k, v in ra.attrs.items()}
            nodes.append(Node(ra.op, operands, attrs, self._new(ra.output, rb.output, where), self.a.path(ra.module)))
        if len(self.a) != len(self.b):
            raise TraceError(f"trace: the model ran {len(self.a)} ops on one input and {len(self.b)} on another: its "
                             "forward branches on the data or loops over the batch")
        names = _names_of(self.out_a)
        single = not names and not isinstance(self.out_a, (tuple, list))
        if names != _names_of(self.out_b) or (isinstance(self.out_b, (tuple, list)) and len(self.out_a) != len(self.out_b)):
            raise TraceError("trace: the model returns other outputs for another batch; its forward depends on the data")
        outs = [(self.out_a, self.out_b)] if single else list(zip(*(
            o.values() if names else o for o in (self.out_a, self.out_b))))
        if not outs:
            raise TraceError("trace: the model returned nothing; expected a Tensor (or a tuple or dict of them)")
        outputs: list[Any] = []     # numbers: none is absent
        for a, b in outs:
            if not isinstance(a, Tensor) or id(a) not in self.a.source or id(a) not in self.numbers[0]:
                what = "a Tensor that does not depend on the input" if isinstance(a, Tensor) else f"a {type(a).__name__}"
                raise TraceError(f"trace: the model returned {what}; expected a Tensor (or a tuple or dict of them) "
                                 "computed from the input by ops. A result that went through NumPy is lost to the tape")
            outputs.append(self._operand(a, b, "the output"))
        graph = Graph(inputs, outputs, nodes, self.constants, self.shapes, self.dtypes, single,
                      output_names=names)
        graph.prune()
        return graph
