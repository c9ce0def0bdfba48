"""Passes: what is rewritten in a graph before it is lowered. Constants are computed once, batch norm is folded into the
weights before it, and activations are fused into the op before them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops import Batch
from ..ops.norm import fold_arrays
from ..tape import no_grad
from ..tensors import apply
from .graph import BatchNorm, Constant, Graph, Node
from .operands import array_of, constant_of, replace_operand


def fold_constants(graph: Graph) -> list[Node]:
    """Compute now every node whose operands are all constants; the nodes that are gone."""
    kept, computed = [], []
    for node in graph.nodes:
        fixed = all(i is None or (i in graph.constants and not graph.constants[i].batch_axes) for i in node.inputs)
        if not fixed or _has_batch(node.attrs):
            kept.append(node)
            continue
        operands = [None if i is None else graph.constants[i].tensor for i in node.inputs]
        with no_grad():
            graph.constants[node.output] = Constant(apply(node.op, *operands, **node.attrs))
        computed.append(node)
    graph.nodes = kept
    graph.prune()
    return computed


def _has_batch(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, Batch) or (isinstance(value, (tuple, list)) and any(_has_batch(v) for v in value))


def fuse_batch_norm(graph: Graph) -> None:
    """Make each batch norm behind a convolution or linear layer part of the layer's node, as `node.norm`.

    Only where nothing else reads the layer's result, and where its op takes in a norm of a result of that shape.
    """
    users = graph.users()
    made = {n.output: n for n in graph.nodes}
    gone = set()
    for norm in graph.nodes:
        source = made.get(norm.operand(0)) if norm.op.batch_norm else None
        if source is None or not source.op.takes_norm(len(graph.shapes[source.output])):
            continue
        if len(users[source.output]) > 1 or source.output in graph.outputs:
            continue
        if any(i not in graph.constants for i in [*norm.inputs[1:], *source.inputs[1:]] if i is not None):
            continue
        source.norm = BatchNorm.of(norm)
        source.output = norm.output
        made[norm.output] = source
        gone.add(id(norm))
    graph.nodes = [n for n in graph.nodes if id(n) not in gone]


def fold_batch_norm(graph: Graph) -> None:
    """Multiply each batch norm that is part of a layer's node into the weight and the bias of that layer."""
    for node in graph.nodes:
        if node.norm is None:
            continue
        gamma, beta, mean, variance = (graph.constants[i].tensor.array for i in node.norm.inputs)
        folded = fold_arrays(constant_of(graph, node, 1), array_of(graph, node, 2), gamma, beta, mean, variance,
                             node.norm.eps)
        for operand, array in enumerate(folded, 1):
            replace_operand(graph, node, operand, array)
        node.norm = None
    graph.prune()


def simplify(graph: Graph) -> Graph:
    """A copy in which constants are computed and batch norm is part of the weights before it; values keep their numbers.

    Args:
        graph: as it was traced; it stays as it is.
    """
    graph = graph.copy()
    fold_constants(graph)
    fuse_batch_norm(graph)
    fold_batch_norm(graph)
    return graph


def fuse_activations(graph: Graph) -> dict[int, tuple[float, float]]:
    """Drop the ReLU and clip nodes behind an op whose integer step can clamp; (lo, hi) of each clamp by the value it makes.

    Only where nothing else reads what is clamped. The clamp then costs nothing, at the end of the op's own kernel.
    """
    from_op = {n.output: n for n in graph.nodes}
    users = graph.users()
    clamps: dict[int, tuple[float, float]] = {}
    gone = set()
    for node in graph.nodes:
        clamp = node.op.clamp(**node.attrs)
        source = None if clamp is None else from_op.get(node.operand(0))
        if clamp is None or source is None or not source.op.takes_clamp:
            continue
        if len(users[source.output]) > 1 or source.output in graph.outputs:
            continue
        lo, hi = clamps.pop(source.output, (-np.inf, np.inf))
        low, high = clamp
        clamps[node.output] = (min(max(lo, low), high), max(min(hi, high), low))
        source.output = node.output
        from_op[node.output] = source
        gone.add(id(node))
    graph.nodes = [n for n in graph.nodes if id(n) not in gone]
    return clamps
