"""Bias correction: what quantization adds to a layer's mean output is taken off its bias (Nagel et al. 2019, 4.2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ...graph import Graph, Node
from ...tape import no_grad
from ...tensor import Tensor, apply
from ..draft import Draft, array_of, replace_operand, weight_of
from ..ranges.calibration import Arrays


def _mean_output(node: Node, mean_input: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mean of the layer's result without bias, by output channel: products are linear, so that of the mean input."""
    with no_grad():
        y = apply(node.op, Tensor(mean_input[None].astype(np.float32)), Tensor(weight), None, **node.attrs).data
    channel = 1 if weight.ndim == 4 else y.ndim - 1
    return y.mean(axis=tuple(i for i in range(y.ndim) if i != channel), dtype=np.float64)


def mean_inputs(graph: Graph, batches: Iterable[Arrays], wanted: set[int]) -> dict[int, np.ndarray]:
    """The mean over all samples of each wanted value of the float graph."""
    sums, count = dict.fromkeys(wanted, 0.0), 0

    def observe(value: int, x: np.ndarray) -> None:
        if value in sums:
            sums[value] = sums[value] + x.sum(axis=0, dtype=np.float64)

    with no_grad():
        for inputs in batches:
            graph(*inputs, observe=observe)
            count += len(inputs[0])
    return {v: total / count for v, total in sums.items()}


def correct_bias(draft: Draft, batches: list[Arrays]) -> Draft:
    """A draft whose integer layers have the mean outputs of the float ones, by channel.

        bias[c] += E[(W x)[c]] - E[(Wq xq)[c]]

    x is what the layer reads in the float graph, xq what it reads in the integer plan, whose earlier layers are corrected
    already; Wq are the weights as the plan has them. Means are over the data and all positions.
    """
    floats, graph, count = draft.floats, draft.graph.copy(), sum(len(b[0]) for b in batches)
    draft = replace(draft, graph=graph, exact=floats)
    layers = [node for node, _ in draft.lowered().layers(graph)]
    wanted = {n.output: n for n in floats.nodes}
    means = mean_inputs(floats, batches, {n.inputs[0] for n in layers})
    targets = [_mean_output(n, means[n.inputs[0]], weight_of(floats, wanted[n.output])) for n in layers]
    for i, (node, target) in enumerate(zip(layers, targets)):
        lowered = draft.lowered()
        fused = [f for _, f in lowered.layers(graph)][i]
        total = sum(lowered.values(b, [node.inputs[0]])[0].sum(axis=0, dtype=np.float64) for b in batches)
        arrays = lowered.step(fused).arrays
        column = (-1,) + (1,) * (arrays["weight"].ndim - 1)
        weight = arrays["weight"].astype(np.float32) * arrays["scale"].reshape(column)
        exact = array_of(floats, wanted[node.output], 2)
        shift = target - _mean_output(node, total / count, weight)
        replace_operand(graph, node, 2, (0 if exact is None else exact) + shift)
    graph.prune()
    return draft
