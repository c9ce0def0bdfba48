"""Draft: a traced model on its way to integers, what diagnosis looks at and repairs change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._kernels import integers
from ..graph import Constant, Graph, Node, Ranges
from ..graph.passes import fold_batch_norm, fold_constants, fuse_batch_norm
from ..plan.lowering import Lowering, lowering
from ..plan.plan import Plan
from ..plan.program import observe
from ..tensor import Tensor
from .ranges.calibration import Arrays


def batch_norm_folded(graph: Graph) -> Graph:
    """A copy in which batch norm is part of the weights before it; values keep their numbers."""
    graph = graph.copy()
    fold_constants(graph)
    fuse_batch_norm(graph)
    fold_batch_norm(graph)
    return graph


def weight_of(graph: Graph, node: Node) -> np.ndarray | None:
    """The constant float32 weight of a linear layer or convolution; None for other nodes."""
    constant = graph.constants.get(node.inputs[1]) if node.op.has_weights else None
    known = constant is not None and constant.tensor.dtype == np.float32 and constant.tensor.size
    return constant.tensor.data if known else None


def array_of(graph: Graph, node: Node, operand: int) -> np.ndarray | None:
    """The constant that a node has as an operand, None where the operand is absent."""
    value = node.inputs[operand]
    return None if value is None else graph.constants[value].tensor.data


def replace_operand(graph: Graph, node: Node, operand: int, array: np.ndarray) -> None:
    """Give this node, and no other that reads the same constant, another array."""
    before = node.inputs[operand]
    name = graph.constants[before].name if before is not None else f"{node.module}.bias"
    number = max(graph.shapes) + 1
    graph.constants[number] = Constant(Tensor(array.astype(np.float32)), name)
    graph.shapes[number], graph.dtypes[number] = array.shape, np.dtype(np.float32)
    node.inputs[operand] = number


def same_numbers(a: Graph, b: Graph) -> bool:
    """Whether two graphs of the same nodes compute with the same constants: what a repair with nothing to do leaves."""
    def constants(graph: Graph) -> list[np.ndarray | None]:
        return [graph.constants[i].tensor.data if i in graph.constants else None for n in graph.nodes for i in n.inputs]

    first, second = constants(a), constants(b)
    return len(first) == len(second) and all(
        x is y or (x is not None and y is not None and np.array_equal(x, y)) for x, y in zip(first, second))


@dataclass
class Draft:
    """A graph, the ranges of its values, and how it is to be lowered; `options` and `skip` are those of `lower`.

    weight_scales: scales (N) that a repair chose, by the value that the layer makes once activations are fused.
    exact: the graph before repairs changed what it computes, with values of the same numbers; None while it is `graph`.
    repairs: those that changed something.
    """

    graph: Graph
    ranges: Ranges
    options: dict[str, Any]
    skip: Sequence[str] | Callable[[str], bool] = ()
    weight_scales: dict[int, np.ndarray] = field(default_factory=dict)
    exact: Graph | None = None
    repairs: list[str] = field(default_factory=list)

    @property
    def floats(self) -> Graph:
        """What the integers should compute."""
        return self.graph if self.exact is None else self.exact

    def lowered(self, skip: Sequence[str] | Callable[[str], bool] | None = None) -> Lowered:
        """The draft as a plan whose values can be looked at."""
        return Lowered(lowering(self.graph, self.ranges, **self.options, skip=self.skip if skip is None else skip,
                                weight_scales=self.weight_scales))


class Lowered:
    """A plan, and where in it the values of the graph are.

    layers: (node of the graph with batch norm folded, its node once activations are fused) of each linear layer and
    convolution that computes in integers.
    """

    def __init__(self, made: Lowering):
        self.lowering = made
        self.plan: Plan = made.plan()

    def layers(self, graph: Graph) -> Iterator[tuple[Node, Node]]:
        """Pairs of nodes as above, in order."""
        for node, fused in zip((n for n in graph.nodes if n.op.has_weights),
                               (n for n in self.lowering.graph.nodes if n.op.has_weights), strict=True):
            if self.lowering.rules[fused.output] == "integers" and weight_of(graph, node) is not None:
                yield node, fused

    def step(self, fused: Node) -> Any:
        """The step that computes a node."""
        value = self.lowering.as_codes[fused.output]
        return next(s for s in self.plan.steps if s.output == value)

    def values(self, inputs: Arrays, wanted: Sequence[int]) -> list[np.ndarray]:
        """What the integers stand for at some values of the graph: floats, from codes where the value has codes."""
        made = self.lowering
        at = tuple(made.as_codes[v] if v in made.as_codes else made.plain[v] for v in wanted)
        given = {s.value: x for s, x in zip(self.plan.inputs, inputs)}
        found, _ = observe(self.plan.steps, given, at, len(inputs[0]))
        return [self._floats(v, x) if v in made.as_codes else x for v, x in zip(wanted, found)]

    def _floats(self, value: int, codes: np.ndarray) -> np.ndarray:
        codec = self.lowering.codecs[value]
        return integers.dequantize(codes, float(codec.scale), codec.zero_point, np.empty(codes.shape, np.float32))
