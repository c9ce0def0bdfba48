"""Graph: the ops of one forward as a program, which is rewritten, run and lowered."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import ShapeError, TraceError
from ..ops import Op
from ..tape import no_grad
from ..tensors import FLOATS, Tensor, apply, as_tensor
from .shapes import Shape, check_inputs, resolve, show_shape

Ranges = dict[int, tuple[float, float]]     # (lo, hi) of values, by their numbers in a graph


@dataclass(frozen=True)
class BatchNorm:
    """A batch norm made part of the layer before it.

    Args:
        inputs: numbers of the values gamma, beta, mean and variance.
        eps: what is added to the variance.

    Example:
        >>> tinyml.graph.BatchNorm((3, 4, 5, 6), eps=1e-5).eps
        1e-05
    """

    inputs: tuple[int, int, int, int]
    eps: float

    @classmethod
    def of(cls, node: Node) -> BatchNorm:
        """A node that is a batch norm, as what the layer before it takes in.

        Args:
            node: one whose operands are x, gamma, beta, mean and variance.

        Returns:
            A BatchNorm of the last four.
        """
        _, gamma, beta, mean, variance = map(node.operand, range(5))
        return cls((gamma, beta, mean, variance), node.attrs["eps"])


@dataclass
class Node:
    """One op of a program, whose values are numbered.

    Args:
        op: its class.
        inputs: numbers of its operands, None for an absent one.
        attrs: its attributes.
        output: the number of its result.
        module: the name of the layer that ran it.
        norm: a batch norm that was made part of it.

    Example:
        >>> program = tinyml.graph.trace(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), np.ones((1, 2), np.float32))
        >>> [str(node) for node in program.nodes]
        ['linear in 0', 'relu in 1']
    """

    op: type[Op]
    inputs: list[int | None]
    attrs: dict[str, Any]
    output: int
    module: str
    norm: BatchNorm | None = None

    def operand(self, at: int) -> int:
        """The number of an operand that the op always has.

        Args:
            at: its place among the operands.

        Returns:
            The number.

        Raises:
            TraceError: it is absent.
        """
        found = self.inputs[at]
        if found is None:
            raise TraceError(f"{self}: operand {at} is absent")
        return found

    def __str__(self) -> str:
        return f"{self.op.name}" + (f" in {self.module}" if self.module else "")


@dataclass
class Constant:
    """A value that does not depend on the input.

    Args:
        tensor: the value.
        name: of the parameter or buffer that it is; "" for none.
        batch_axes: dimensions of size 1 that are stretched to the batch size.

    Example:
        >>> program = tinyml.graph.trace(nn.Linear(2, 3), np.ones((1, 2), np.float32))
        >>> [constant.name for constant in program.constants.values()]
        ['weight', 'bias']
    """

    tensor: Tensor
    name: str = ""
    batch_axes: tuple[int, ...] = ()


@dataclass
class Graph:
    """A program: what one forward of a model computes, for any batch size.

    Args:
        inputs: numbers of the inputs.
        outputs: numbers of the outputs.
        nodes: the ops in order.
        constants: values that do not depend on the input, by number.
        shapes: of every value, by number; they may hold Batch.
        dtypes: of every value, by number.
        single_output: whether forward returns one Tensor, or else a tuple or dict.
        input_names: of forward's arguments; empty where they have none.
        output_names: of a dict that forward returns; empty where it returns none.

    Example:
        >>> print(tinyml.graph.trace(nn.Linear(2, 3), np.ones((1, 2), np.float32)))
        input %0 (B, 2)
        %3 (B, 3) = linear(%0, weight, bias)
        output %3
    """

    inputs: list[int]
    outputs: list[int]
    nodes: list[Node]
    constants: dict[int, Constant]
    shapes: dict[int, Shape]
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
        if observe:
            for number in self.inputs:
                observe(number, values[number].array)
        for node in self.nodes:
            operands = [None if i is None else values[i] for i in node.inputs]
            values[node.output] = apply(node.op, *operands, **resolve(node.attrs, batch))
            if observe:
                observe(node.output, values[node.output].array)
        return pack_outputs([values[o] for o in self.outputs], self.single_output, self.output_names)

    def compute_values(self, inputs: Sequence[Any], wanted: Collection[int]) -> list[np.ndarray]:
        """Some values of a program for a batch of inputs, without gradients.

        Args:
            inputs: one array or Tensor for each of the program's.
            wanted: numbers of inputs or results.

        Returns:
            One array for each of `wanted`.

        Raises:
            ShapeError: another number of inputs, or a fixed dimension that differs.
        """
        found: dict[int, np.ndarray] = {}
        with no_grad():
            self(*inputs, observe=lambda value, x: found.update({value: x}) if value in wanted else None)
        return [found[v] for v in wanted]

    def batch_size(self, inputs: list[Tensor]) -> int:
        """The batch size of inputs, after checking every other dimension.

        Args:
            inputs: one Tensor for each of the program's.

        Returns:
            The batch size.

        Raises:
            ShapeError: another number of inputs, or a fixed dimension that differs.
        """
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
        """Numbers of values computed from infinities: an attention mask adds them on purpose, padding before a max-pool
        may."""
        found = {i for i, c in self.constants.items() if c.tensor.dtype in FLOATS and np.isinf(c.tensor.array).any()}
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


def pack_outputs(results: Sequence[Any], single: bool, names: Sequence[str]) -> Any:
    """What a forward returns of its results.

    Args:
        results: in order.
        single: whether it returns the only one by itself.
        names: the keys, where it returns a dict; else none.

    Returns:
        The only result, a dict of them, or a tuple.

    Example:
        >>> tinyml.graph.pack_outputs([1, 2], False, ["a", "b"])
        {'a': 1, 'b': 2}
    """
    return results[0] if single else dict(zip(names, results, strict=True)) if names else tuple(results)


def resolve_constant(constant: Constant, batch: int) -> Tensor:
    """A constant's Tensor, stretched to the batch size where it follows it.

    Args:
        constant: the constant.
        batch: the batch size.

    Returns:
        A Tensor that shares the constant's memory.

    Example:
        >>> constant = tinyml.graph.Constant(Tensor([[1.0, 2.0]]), batch_axes=(0,))
        >>> tinyml.graph.resolve_constant(constant, batch=3).shape
        (3, 2)
    """
    if not constant.batch_axes:
        return constant.tensor
    shape = [batch if i in constant.batch_axes else n for i, n in enumerate(constant.tensor.shape)]
    return Tensor(np.broadcast_to(constant.tensor.array, shape))
