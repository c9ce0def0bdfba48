"""Graph: the ops of one forward as a program, which is rewritten, run and lowered."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..ops import Op
from ..tape import no_grad
from ..tensor import FLOATS, Tensor, apply, as_tensor

Ranges = dict[int, tuple[float, float]]     # (lo, hi) of values, by their numbers in a graph


@dataclass(frozen=True)
class Batch:
    """`factor` times the batch size, a symbolic number in shapes and attributes."""

    factor: int = 1


@dataclass(frozen=True)
class BatchNorm:
    """A batch norm that is part of the layer before it: the numbers of gamma, beta, mean and variance, and eps."""

    inputs: tuple[int, int, int, int]
    eps: float


@dataclass
class Node:
    """One op of the program.

    Attributes:
        op: its class; attrs: the keyword arguments of its forward.
        inputs: the numbers of its operands, None for one that is absent.
        output: the number of its result.
        module: the name of the layer that it ran in, "" outside layers.
        norm: the batch norm behind it that became part of it, see `passes.fuse_batch_norm`.
    """

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
    """A value that does not depend on the input; its `batch_axes` are stretched to the batch size."""

    tensor: Tensor
    name: str = ""
    batch_axes: tuple[int, ...] = ()


@dataclass
class Graph:
    """A program: the ops of one forward in order. Values are numbers.

    Attributes:
        inputs, outputs: the numbers of the values that enter and leave.
        nodes: the ops in the order they run.
        constants: the values that do not depend on the input: parameters, buffers and arrays.
        shapes, dtypes: of all values, by number. Shapes have Batch where they follow the batch size.
        single_output: whether forward returned a Tensor, rather than a tuple or a dict of them.
        input_names, output_names: of the arguments of forward, and of a dict that it returned; empty where not known.

    Example:
        >>> import numpy as np
        >>> from tinyml import nn, trace
        >>> graph = trace(nn.ReLU(), np.ones((1, 3), np.float32))
        >>> graph.nodes[0].op.name, graph(np.array([[-1, 0, 2]], np.float32)).numpy().tolist()
        ('relu', [[0.0, 0.0, 2.0]])
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
        """Run the program.

        Args:
            inputs: an array or Tensor per input, of any batch size.
            observe: called as observe(number, array) with every input and every result.

        Returns:
            What forward returned: a Tensor, a tuple or a dict of them.

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
        return pack_outputs([values[o] for o in self.outputs], self.single_output, self.output_names)

    def compute_values(self, inputs: Sequence[Any], wanted: Collection[int]) -> list[np.ndarray]:
        """The values of these numbers, inputs or results, for a batch of inputs."""
        found: dict[int, np.ndarray] = {}
        with no_grad():
            self(*inputs, observe=lambda value, x: found.update({value: x}) if value in wanted else None)
        return [found[v] for v in wanted]

    def batch_size(self, inputs: list[Tensor]) -> int:
        """The batch size of `inputs`, whose other dimensions are checked."""
        if len(inputs) != len(self.inputs):
            raise ShapeError(f"graph: expected {len(self.inputs)} inputs, got {len(inputs)}")
        return check_inputs([self.shapes[n] for n in self.inputs], [x.shape for x in inputs])

    def users(self) -> dict[int, list[Node]]:
        """The nodes that read each value. Leaving the graph does not count as being read."""
        found: dict[int, list[Node]] = {}
        for node in self.nodes:
            for i in node.inputs:
                if i is not None:
                    found.setdefault(i, []).append(node)
        return found

    def may_be_infinite(self) -> set[int]:
        """The values that are computed from infinities, as an attention mask adds them, or padding before a max-pool."""
        found = {i for i, c in self.constants.items() if c.tensor.dtype in FLOATS and np.isinf(c.tensor.data).any()}
        for node in self.nodes:
            if found.intersection(node.inputs) or np.isinf(node.attrs.get("value", 0)):
                found.add(node.output)
        return found

    def copy(self) -> Graph:
        """A graph whose nodes may be rewritten. Constants are shared."""
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


def pack_outputs(results: Sequence, single: bool, names: Sequence[str]) -> Any:
    """The results as forward returns them: the only one, a dict of them by `names`, or a tuple."""
    return results[0] if single else dict(zip(names, results, strict=True)) if names else tuple(results)


def show_shape(shape: tuple) -> str:
    """A shape as text, such as "(B, 3, 32, 32)"."""
    parts = ["B" if n == Batch() else f"{n.factor}B" if isinstance(n, Batch) else str(n) for n in shape]
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def check_inputs(expected: list[tuple], got: list[tuple]) -> int:
    """The batch size of inputs of shapes `got`.

    Raises:
        ShapeError: they differ from `expected` in a fixed dimension, or in their batch sizes.
    """
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
    """`value`, attributes or a shape, nested, with every Batch replaced by its number."""
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
