"""Rewrites of a graph before it is lowered: constants computed once, batch norm folded, activations fused."""

from __future__ import annotations

import numpy as np

from ..ops.conv import Conv2d
from ..ops.linear import Linear
from ..ops.norm import BatchNormEval
from ..tape import no_grad
from ..tensor import Tensor, apply
from .graph import Batch, BatchNorm, Constant, Graph, Node


def fold_constants(graph: Graph) -> list[Node]:
    """Compute every node whose operands are all constants, now; returns those nodes."""
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


def _has_batch(value) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, Batch) or (isinstance(value, (tuple, list)) and any(_has_batch(v) for v in value))


def _constant(graph: Graph, i: int | None) -> np.ndarray | None:
    return None if i is None else graph.constants[i].tensor.data


def _add_constant(graph: Graph, value: np.ndarray, name: str) -> int:
    number = max(graph.shapes) + 1
    graph.constants[number] = Constant(Tensor(value), name)
    graph.shapes[number], graph.dtypes[number] = value.shape, value.dtype
    return number


def fuse_batch_norm(graph: Graph) -> None:
    """Make each batch norm behind a convolution or linear layer part of its node, `node.norm`, where nothing else reads its
    result, and the norm's channels are the layer's outputs: those of a linear layer are the last dimension."""
    users = graph.users()
    made = {n.output: n for n in graph.nodes}
    gone = set()
    for norm in graph.nodes:
        source = made.get(norm.inputs[0]) if norm.op is BatchNormEval else None
        takes = source is not None and (source.op is Conv2d or
                                        (source.op is Linear and len(graph.shapes[source.output]) == 2))
        if not takes or len(users[source.output]) > 1 or source.output in graph.outputs:
            continue
        if any(i not in graph.constants for i in [*norm.inputs[1:], *source.inputs[1:]] if i is not None):
            continue
        source.norm = BatchNorm(tuple(norm.inputs[1:]), norm.attrs["eps"])
        source.output = norm.output
        made[norm.output] = source
        gone.add(id(norm))
    graph.nodes = [n for n in graph.nodes if id(n) not in gone]


def folded(weight: np.ndarray, bias: np.ndarray | None, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray,
           variance: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """weight * g and (bias - mean) * g + beta, g = gamma / sqrt(variance + eps), in float64, rounded to float32 once."""
    g = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + eps)
    shift = ((0 if bias is None else bias.astype(np.float64)) - mean) * g + beta
    column = g.reshape(-1, *(1,) * (weight.ndim - 1))
    return (weight.astype(np.float64) * column).astype(np.float32), shift.astype(np.float32)


def fold_batch_norm(graph: Graph) -> None:
    """A layer and its batch norm as one layer."""
    for node in graph.nodes:
        if node.norm is None:
            continue
        weight, shift = folded(*(_constant(graph, i) for i in (*node.inputs[1:], *node.norm.inputs)), node.norm.eps)
        node.inputs = [node.inputs[0], _add_constant(graph, weight, f"{node.module}.weight"),
                       _add_constant(graph, shift, f"{node.module}.bias")]
        node.norm = None
    graph.prune()


def fuse_activations(graph: Graph) -> dict[int, tuple[float, float]]:
    """Drop ReLU and clip nodes behind an op that takes a clamp; returns (lo, hi) by the value they made.

    Only where nothing else reads what is clamped: then the clamp costs nothing in the op's own epilogue.
    """
    from_op = {n.output: n for n in graph.nodes}
    users = graph.users()
    clamps: dict[int, tuple[float, float]] = {}
    gone = set()
    for node in graph.nodes:
        clamp = node.op.clamp(**node.attrs)
        source = None if clamp is None else from_op.get(node.inputs[0])
        if source is None or not source.op.takes_clamp or len(users[source.output]) > 1 or source.output in graph.outputs:
            continue
        lo, hi = clamps.pop(source.output, (-np.inf, np.inf))
        low, high = clamp
        clamps[node.output] = (min(max(lo, low), high), max(min(hi, high), low))
        source.output = node.output
        from_op[node.output] = source
        gone.add(id(node))
    graph.nodes = [n for n in graph.nodes if id(n) not in gone]
    return clamps
