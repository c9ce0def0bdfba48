"""Cross-layer equalization: two layers get equal weight ranges for each channel between them (Nagel et al. 2019, 4.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ... import checks
from ...graph import Graph, Node
from ...graph.operands import array_of, constant_of, replace_operand, weight_of
from ...ops.shape import Reshape

SWEEPS = 50         # chains of DepthwiseCNN's 12 layers settle in some 20
SETTLED = 1e-3      # relative change of a scale that no longer matters


@dataclass
class Pair:
    """Layer `first` makes `channels` that only layer `second` reads, each with `spread` neighbouring columns of weights."""

    first: Node
    second: Node
    channels: int
    spread: int = 1


def pairs(graph: Graph) -> Iterator[Pair]:
    """The pairs of layers that can be equalized.

    Between them are only flattening and ops that keep the scaling of channels, and nothing else reads the values there.
    """
    users = graph.users()
    for first in graph.nodes:
        made = weight_of(graph, first)
        if made is None:
            continue
        channels, spread, value, images = len(made), 1, first.output, made.ndim == 4
        while True:
            readers = users.get(value, [])
            if len(readers) != 1 or value in graph.outputs or readers[0].inputs[0] != value:
                break
            node = readers[0]
            if node.op.has_weights:
                read = weight_of(graph, node)
                if read is not None and images == (read.ndim == 4):
                    yield Pair(first, node, channels, spread)
                break
            if node.op is Reshape:
                before, after = graph.shapes[value], graph.shapes[node.output]
                # an image flattened: the pixels of a channel lie side by side
                if not images or len(before) != 4 or len(after) != 2 or before[0] != after[0]:
                    break
                spread, images = after[1] // channels, False
            elif not node.op.keeps_scaling:
                break
            value = node.output


def split_by_input(w: np.ndarray, node: Node, channels: int) -> np.ndarray:
    """The weights of a layer that reads `channels`, by input channel.

    Args:
        w: (N, K) or (N, C/groups, kh, kw).
        node: the layer.
        channels: the number of its input channels.

    Returns:
        (groups, outputs per group, channels per group, weights that read the same channel).
    """
    groups: int = node.attrs.get("groups", 1)
    return w.reshape(groups, len(w) // groups, channels // groups, -1)


def columns(w: np.ndarray, node: Node, channels: int, reduce: Callable[..., np.ndarray]) -> np.ndarray:
    """`reduce` (np.max, np.sum) of the weights that read each channel."""
    return reduce(split_by_input(w, node, channels), axis=(1, 3)).reshape(-1)


def _rescale(weight: np.ndarray, pair: Pair, s: np.ndarray) -> np.ndarray:
    """The weight of the second layer, in which the weights that read channel c are multiplied by s[c]."""
    w = split_by_input(weight, pair.second, pair.channels)
    scaled: np.ndarray = w * s.reshape(len(w), 1, -1, 1)
    return scaled.reshape(weight.shape)


def equalize(graph: Graph) -> Graph:
    """A graph of the same function, in which the two layers that make and read a channel have equal weight ranges for it.

        s[c] = sqrt(max|W1[c]| / max|W2[:, c]|);    W1[c] / s[c],  b1[c] / s[c],  W2[:, c] * s[c]

    for every pair of layers with only ReLU, pooling or flattening between them, until nothing changes. Channels without
    weights on one side stay as they are. No data is needed. Ranges must be taken anew afterwards.

    Args:
        graph: one with batch norm folded (`graph.passes.simplify`). It stays as it is.

    Returns:
        A graph of the same nodes, with other weights and biases.

    Raises:
        DtypeError: `graph` is not a Graph.

    Source: Nagel et al. 2019, section 4.1.

    Example:
        >>> import numpy as np
        >>> from tinyml import nn, precision
        >>> from tinyml.graph import trace
        >>> from tinyml.graph.passes import simplify
        >>> model, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), np.ones((3, 4), np.float32)
        >>> model[0].weight.data[2] *= 100
        >>> graph = simplify(trace(model, x))
        >>> np.allclose(precision.equalize(graph)(x).numpy(), graph(x).numpy(), atol=1e-3)
        True
    """
    graph = checks.instance("equalize", "graph", graph, Graph).copy()
    found = list(pairs(graph))
    nodes = {id(n): n for p in found for n in (p.first, p.second)}
    weights = {key: constant_of(graph, n, 1).astype(np.float64) for key, n in nodes.items()}
    total = {id(p.first): np.ones(p.channels) for p in found}
    for _ in range(SWEEPS):
        change = 0.0
        for p in found:
            first, second = weights[id(p.first)], weights[id(p.second)]
            made = np.abs(first).reshape(p.channels, -1).max(axis=1)
            read = columns(np.abs(second), p.second, p.channels, np.max)
            alive = (made > 0) & (read > 0)
            s = np.sqrt(np.where(alive, made, 1) / np.where(alive, read, 1))
            weights[id(p.first)] = first / s.reshape(-1, *(1,) * (first.ndim - 1))
            weights[id(p.second)] = _rescale(second, p, s)
            total[id(p.first)] *= s
            change = max(change, float(np.abs(np.log(s)).max(initial=0)))
        if change < SETTLED:
            break
    for key, node in nodes.items():
        bias = array_of(graph, node, 2)
        replace_operand(graph, node, 1, weights[key])
        if bias is not None and key in total:
            replace_operand(graph, node, 2, bias / total[key])
    graph.prune()
    return graph
