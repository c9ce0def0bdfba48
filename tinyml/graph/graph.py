"""Graph: the ops of one forward as a program to rewrite, run and lower."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..ops import Batch, Op
from ..tensor import FLOATS, Tensor, apply, as_tensor

Ranges = dict[int, tuple[float, float]]     # (lo, hi) of values, by their numbers in a graph


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

    def may_be_infinite(self) -> set[int]:
        """Values computed from infinities: an attention mask adds them on purpose, padding before a max-pool may."""
        found = {i for i, c in self.constants.items() if c.tensor.dtype in FLOATS and np.isinf(c.tensor.data).any()}
        for node in self.nodes:
            if found.intersection(node.inputs) or np.isinf(node.attrs.get("value", 0)):
                found.add(node.output)
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
