"""Scale migration: outlier channels of activations move into the weights that read them (SmoothQuant, Xiao et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ... import checks
from ...batches import Arrays
from ...graph import Graph, Node
from ...graph.operands import array_of, constant_of, replace_operand, weight_of


def places(graph: Graph) -> Iterator[tuple[Node, list[Node]]]:
    """The norms with a constant gain whose result only linear layers read, each with these layers."""
    users = graph.users()
    for node in graph.nodes:
        if not node.op.has_gain or any(i is not None and i not in graph.constants for i in node.inputs[1:]):
            continue
        readers = users.get(node.output, [])
        weights = [weight_of(graph, n) for n in readers]
        linear = all(w is not None and w.ndim == 2 and n.inputs[0] == node.output for n, w in zip(readers, weights))
        if readers and linear and node.output not in graph.outputs and node.inputs[1] is not None:
            yield node, readers


def migrate_scales(graph: Graph, batches: Iterable[Arrays], strength: float = 0.5) -> Graph:
    """A graph of the same function, in which the linear layers after norms read channels of similar range.

        s[k] = max|X[:, k]|^a / max|W[:, k]|^(1 - a);    gain[k] / s[k],  shift[k] / s[k],  W[:, k] * s[k]

    X is the result of the norm on the data, W are all weights that read it, and a is the `strength`. Channels that are 0 in
    all of the data, or that no weight reads, stay as they are. Ranges must be taken anew afterwards.

    Args:
        graph: as it was traced, or with batch norm folded. It stays as it is.
        batches: the model's inputs, a tuple of arrays per batch.
        strength: from 0, which leaves activations as they are, to 1, which brings their channels to one range.

    Returns:
        A graph of the same nodes, with other gains, shifts and weights.

    Raises:
        DtypeError: `graph` is not a Graph, or an argument is of the wrong type.
        ShapeError: `strength` is out of range.

    Source: Xiao et al. 2023 (SmoothQuant), equation (4).

    Example:
        >>> import numpy as np
        >>> from tinyml import nn, precision
        >>> from tinyml.graph import trace
        >>> model, x = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2)), np.eye(4, dtype=np.float32)
        >>> model[0].weight.data[2] = 50
        >>> graph = trace(model, x)
        >>> np.allclose(precision.migrate_scales(graph, [(x,)])(x).numpy(), graph(x).numpy(), atol=1e-3)
        True
    """
    graph = checks.instance("migrate_scales", "graph", graph, Graph).copy()
    strength = checks.probability("migrate_scales", "strength", strength)
    found = list(places(graph))
    largest = {norm.output: np.zeros(graph.shapes[norm.output][-1]) for norm, _ in found}

    for inputs in checks.rows("migrate_scales", "batches", batches, "batches") if found else ():
        for value, x in zip(largest, graph.compute_values(inputs, largest)):
            largest[value] = np.maximum(largest[value], np.abs(x).reshape(-1, x.shape[-1]).max(axis=0, initial=0))
    for norm, readers in found:
        weights = [constant_of(graph, n, 1) for n in readers]
        read = np.max([np.abs(w.astype(np.float64)).max(axis=0, initial=0) for w in weights], axis=0)
        made = largest[norm.output]
        alive = (made > 0) & (read > 0)
        s = np.where(alive, np.where(alive, made, 1) ** strength / np.where(alive, read, 1) ** (1 - strength), 1)
        for operand in range(1, len(norm.inputs)):
            array = array_of(graph, norm, operand)
            if array is not None:
                replace_operand(graph, norm, operand, array / s)
        for node, w in zip(readers, weights):
            replace_operand(graph, node, 1, w * s)
    graph.prune()
    return graph
