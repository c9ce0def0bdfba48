"""Scale migration: outlier channels of activations move into the weights that read them (SmoothQuant, Xiao et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ... import checks
from ...graph import Graph, Node
from ...tape import no_grad
from ..draft import array_of, replace_operand, weight_of
from ..ranges.calibration import Arrays


def places(graph: Graph) -> Iterator[tuple[Node, list[Node]]]:
    """Norms with a constant gain whose result only linear layers read, with those layers."""
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
    """A graph of the same function whose linear layers behind norms read channels of like range.

        s[k] = max|X[:, k]|^a / max|W[:, k]|^(1 - a);    gain[k] / s[k],  shift[k] / s[k],  W[:, k] * s[k]

    X is what the norm makes of the data, W all weights that read it, a the `strength`; equation (4) of the paper. Scales of
    channels that the data leave at 0, or that no weight reads, stay. Ranges must be taken anew afterwards.

    Args:
        graph: as it was traced, or with batch norm folded.
        strength: 0 leaves activations as they are, 1 brings their channels to one range.
    """
    graph = checks.instance("migrate_scales", "graph", graph, Graph).copy()
    strength = checks.probability("migrate_scales", "strength", strength)
    found = list(places(graph))
    largest = {norm.output: np.zeros(graph.shapes[norm.output][-1]) for norm, _ in found}

    def observe(value: int, x: np.ndarray) -> None:
        if value in largest:
            top = np.abs(x).reshape(-1, x.shape[-1]).max(axis=0, initial=0)
            largest[value] = np.maximum(largest[value], top)

    with no_grad():
        for inputs in checks.rows("migrate_scales", "batches", batches, "batches") if found else ():
            graph(*inputs, observe=observe)
    for norm, readers in found:
        weights = [weight_of(graph, n) for n in readers]
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
