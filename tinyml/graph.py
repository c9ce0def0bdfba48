"""trace(model, example) -> Graph: the ops of one forward as a program to rewrite, run and lower.

A model is traced, not parsed: it runs at batch 2 and at batch 3 with different values, and what both runs did alike is
the program. Sizes that follow the batch become symbolic; anything else that differs is an error that names op and layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from . import checks
from .batches import argument_names, arguments
from .errors import ShapeError, TraceError
from .nn.mode import mode
from .nn.module import Module
from .ops import Op
from .tape import Record, no_grad, record
from .tensor import FLOATS, Tensor, apply, as_tensor


@dataclass(frozen=True)
class Batch:
    """`factor` times the batch size: a symbolic number in shapes and attributes."""

    factor: int = 1


@dataclass(frozen=True)
class BatchNorm:
    """A batch norm made part of the layer before it: the values gamma, beta, mean, variance, and eps."""

    inputs: tuple[int, int, int, int]
    eps: float


@dataclass
class Node:
    """One op of the program: values are numbers, `inputs` has None for an absent operand."""

    op: type[Op]
    inputs: list[int | None]
    attrs: dict[str, Any]
    output: int
    module: str
    norm: BatchNorm | None = None

    def __str__(self) -> str:
        return f"{self.op.name}" + (f" in {self.module}" if self.module else "")


@dataclass
class Constant:
    """A value that does not depend on the input; `batch_axes` are stretched to the batch size."""

    tensor: Tensor
    name: str = ""
    batch_axes: tuple[int, ...] = ()


@dataclass
class Graph:
    """A program: inputs, constants, nodes in order, outputs. Shapes may hold Batch.

    input_names, output_names: of forward's arguments, and of a dict that it returns; empty where there are none.
    """

    inputs: list[int]
    outputs: list[int]
    nodes: list[Node]
    constants: dict[int, Constant]
    shapes: dict[int, tuple]
    dtypes: dict[int, np.dtype]
    single_output: bool = True
    input_names: list[str] = field(default_factory=list)
    output_names: list[str] = field(default_factory=list)

    def __call__(self, *inputs: Any, observe: Callable[[int, np.ndarray], None] | None = None) -> Any:
        """Run the program; `observe(value, array)` sees every input and result.

        Raises:
            ShapeError: another number of inputs, or a fixed dimension that differs.
        """
        given = [as_tensor(x) for x in inputs]
        batch = self.batch_size(given)
        values: dict[int, Tensor] = dict(zip(self.inputs, given))
        for number, constant in self.constants.items():
            values[number] = resolve_constant(constant, batch)
        for number in self.inputs if observe else ():
            observe(number, values[number].data)
        for node in self.nodes:
            operands = [None if i is None else values[i] for i in node.inputs]
            values[node.output] = apply(node.op, *operands, **resolve(node.attrs, batch))
            if observe:
                observe(node.output, values[node.output].data)
        return returned([values[o] for o in self.outputs], self.single_output, self.output_names)

    def batch_size(self, inputs: list[Tensor]) -> int:
        """Batch size of `inputs`, after checking every other dimension."""
        if len(inputs) != len(self.inputs):
            raise ShapeError(f"graph: expected {len(self.inputs)} inputs, got {len(inputs)}")
        return check_inputs([self.shapes[n] for n in self.inputs], [x.shape for x in inputs])

    def users(self) -> dict[int, list[Node]]:
        """The nodes that read each value; a graph output counts as no node."""
        found: dict[int, list[Node]] = {}
        for node in self.nodes:
            for i in node.inputs:
                if i is not None:
                    found.setdefault(i, []).append(node)
        return found

    def copy(self) -> Graph:
        """A graph whose nodes may be rewritten; constants are shared."""
        nodes = [replace(n, inputs=list(n.inputs), attrs=dict(n.attrs)) for n in self.nodes]
        return replace(self, nodes=nodes, constants=dict(self.constants), shapes=dict(self.shapes),
                       dtypes=dict(self.dtypes), outputs=list(self.outputs))

    def prune(self) -> None:
        """Drop nodes and constants that no output needs."""
        needed, kept = set(self.outputs), []
        for node in reversed(self.nodes):
            if node.output in needed:
                kept.append(node)
                needed.update(i for i in node.inputs if i is not None)
                needed.update(node.norm.inputs if node.norm else ())
        self.nodes = kept[::-1]
        self.constants = {n: c for n, c in self.constants.items() if n in needed}

    def __str__(self) -> str:
        def name(i: int | None) -> str:
            return "-" if i is None else self.constants[i].name or f"%{i}" if i in self.constants else f"%{i}"

        lines = [f"input %{i} {show_shape(self.shapes[i])}" for i in self.inputs]
        lines += [f"%{n.output} {show_shape(self.shapes[n.output])} = {n}({', '.join(name(i) for i in n.inputs)})"
                  for n in self.nodes]
        return "\n".join([*lines, f"output {', '.join(name(i) for i in self.outputs)}"])


def returned(results: Sequence, single: bool, names: Sequence[str]) -> Any:
    """What forward returned of its results: the only one, a dict of them by `names`, or a tuple."""
    return results[0] if single else dict(zip(names, results, strict=True)) if names else tuple(results)


def show_shape(shape: tuple) -> str:
    """(B, 3, 32, 32)."""
    parts = ["B" if n == Batch() else f"{n.factor}B" if isinstance(n, Batch) else str(n) for n in shape]
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def check_inputs(expected: list[tuple], got: list[tuple]) -> int:
    """The batch size of inputs of shapes `got`, which must match `expected` in every fixed dimension."""
    batch = None
    for want, shape in zip(expected, got):
        fits = len(want) == len(shape)
        for w, n in zip(want, shape) if fits else ():
            if isinstance(w, Batch):
                batch = n if batch is None else batch
                fits &= n == batch
            else:
                fits &= w == n
        if not fits:
            raise ShapeError(f"graph: expected input {show_shape(want)}, got {shape}")
    return 1 if batch is None else batch


def resolve(value: Any, batch: int) -> Any:
    """`value` (attributes, shapes, nested) with every Batch replaced by its number."""
    if isinstance(value, Batch):
        return value.factor * batch
    if isinstance(value, dict):
        return {k: resolve(v, batch) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(resolve(v, batch) for v in value)
    if isinstance(value, slice):
        return slice(*(resolve(v, batch) for v in (value.start, value.stop, value.step)))
    return value


def resolve_constant(constant: Constant, batch: int) -> Tensor:
    """The constant's Tensor, stretched to the batch where it follows it."""
    if not constant.batch_axes:
        return constant.tensor
    shape = [batch if i in constant.batch_axes else n for i, n in enumerate(constant.tensor.shape)]
    return Tensor(np.broadcast_to(constant.tensor.data, shape))


class _Tracer(list):
    """Records ops, and refuses values of the input that leave the tape as Python numbers."""

    def __init__(self, model: Module, inputs: list[Tensor]):
        super().__init__()
        self.names: dict[int, str] = {}
        for name, module in model.named_modules():
            self.names.setdefault(id(module), name)
        self.source: dict[int, str] = {id(x): "the input" for x in inputs}
        self.inputs, self.kept = inputs, []     # kept alive, so that ids stay theirs
        self.made: set[int] = set(map(id, inputs))      # what the trace has a value for

    def path(self, module: Module | None) -> str:
        return "" if module is None else self.names.get(id(module), type(module).__name__)

    def append(self, item: Record) -> None:
        super().append(item)
        self.made.add(id(item.output))
        if any(t is not None and id(t) in self.source for t in item.inputs):
            where = self.path(item.module)
            self.source[id(item.output)] = item.op.name + (f" in {where}" if where else "")

    def renamed(self, changed: Tensor, result: Tensor) -> None:
        """`changed` holds what the last op made, `result`, from now on: it was changed in place.

        Raises:
            TraceError: it was no result of the trace, but a parameter, a buffer or a constant.
        """
        if id(changed) not in self.made:
            raise TraceError(f"trace: a Tensor of shape {changed.shape} that does not come from the input is changed in "
                             f"place by {self[-1].op.name}; write x = x + y instead of x += y")
        self[-1].output = changed
        if id(result) in self.source:
            self.source[id(changed)] = self.source[id(result)]

    def derived(self, result: Tensor, sources: tuple) -> None:
        found = [self.source[id(t)] for t in sources if id(t) in self.source]
        if found:
            self.source[id(result)] = found[0]
            self.kept.append(result)

    def escaped(self, tensor: Tensor) -> None:
        if id(tensor) in self.source:
            raise TraceError(f"trace: a value computed from the input (by {self.source[id(tensor)]}) became a Python "
                             "number or condition through item(), bool(), int() or float(); the program would depend on "
                             "the data. Express it with ops, such as nn.functional.where")


def trace(model: Module, *example: Any) -> Graph:
    """Record the forward of `model` in evaluation mode as a Graph.

    Args:
        example: one array or Tensor for each input of forward, or one dict from their names, first dimension the batch;
            values should be typical.

    Raises:
        ShapeError: a dict of other names; TraceError: the forward depends on the data, leaves the tape (NumPy), or does not
            follow the batch size.
    """
    checks.instance("trace", "model", model, Module)
    if len(example) == 1 and isinstance(example[0], Mapping):
        example = arguments("trace", model, example[0])
    examples = [as_tensor(x) for x in example]
    if any(not x.ndim or not x.size for x in examples) or not examples:
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
    data = rng.choice(x.data.reshape(-1), (size, *x.shape[1:]))
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
        self.shapes: dict[int, tuple] = {}
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
        left = None if a is None else self.numbers[0].get(id(a))
        right = None if b is None else self.numbers[1].get(id(b))
        if left != right:
            raise TraceError(f"trace: {where} reads other values in two runs of the model: its forward depends on the data")
        return self._constant(a, b, where) if left is None else left

    def _constant(self, a: Tensor, b: Tensor, where: str) -> int:
        axes: tuple[int, ...] = ()
        if a is not b:
            kept = a.data
            if a.ndim == b.ndim and a.shape != b.shape:
                axes = tuple(i for i, (n, m) in enumerate(zip(a.shape, b.shape)) if (n, m) == (2, 3))
                first = tuple(slice(0, 1) if i in axes else slice(None) for i in range(a.ndim))
                kept = a.data[first]
            fits = a.ndim == b.ndim and all(n == m or i in axes for i, (n, m) in enumerate(zip(a.shape, b.shape)))
            same = fits and kept.dtype == b.dtype and all(
                np.array_equal(np.broadcast_to(kept, t.shape), t.data, equal_nan=t.dtype.kind == "f") for t in (a, b))
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
        outputs = []
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
