"""Constant operands of the nodes of a graph: read, replaced, compared."""

from __future__ import annotations

import numpy as np

from ..tensors import Tensor
from .graph import Constant, Graph, Node


def array_of(graph: Graph, node: Node, operand: int) -> np.ndarray | None:
    """The constant that a node has as an operand; None where the operand is absent."""
    value = node.inputs[operand]
    return None if value is None else graph.constants[value].tensor.array


def constant_of(graph: Graph, node: Node, operand: int) -> np.ndarray:
    """The constant that a node has as an operand that is never absent."""
    return graph.constants[node.operand(operand)].tensor.array


def weight_of(graph: Graph, node: Node) -> np.ndarray | None:
    """The constant float32 weight of a linear layer or convolution; None for other nodes."""
    value = node.inputs[1] if node.op.has_weights else None
    if value is None or value not in graph.constants:
        return None
    weight = graph.constants[value].tensor
    return weight.array if weight.dtype == np.float32 and weight.numel() else None


def replace_operand(graph: Graph, node: Node, operand: int, array: np.ndarray) -> None:
    """Give a node, and no other that reads the same constant, another array, which is rounded to float32."""
    before = node.inputs[operand]
    name = graph.constants[before].name if before is not None else f"{node.module}.bias"
    number = max(graph.shapes) + 1
    graph.constants[number] = Constant(Tensor(array.astype(np.float32, copy=False)), name)
    graph.shapes[number], graph.dtypes[number] = array.shape, np.dtype(np.float32)
    node.inputs[operand] = number


def have_same_constants(a: Graph, b: Graph) -> bool:
    """Whether two graphs of the same nodes compute with the same constants, as after a repair with nothing to do."""
    def constants(graph: Graph) -> list[np.ndarray | None]:
        return [graph.constants[i].tensor.array if i in graph.constants else None for n in graph.nodes for i in n.inputs]

    first, second = constants(a), constants(b)
    return len(first) == len(second) and all(
        x is y or (x is not None and y is not None and np.array_equal(x, y)) for x, y in zip(first, second))
