"""Bias correction: subtract from a layer's bias the shift of its mean output by quantization (Nagel et al. 2019, 4.2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ... import checks
from ...batches import Arrays
from ...graph import Graph, Node
from ...graph.operands import array_of, constant_of, replace_operand
from ...plan.lowering import Lowering
from ...tape import no_grad
from ...tensors import Tensor, apply


def _mean_output(node: Node, mean_input: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The mean of the layer's result without bias, per output channel.

    The layer is linear, so the mean of its results is its result for the mean input.
    """
    with no_grad():
        y = apply(node.op, Tensor(mean_input[None].astype(np.float32)), Tensor(weight), None, **node.attrs).array
    channel = 1 if weight.ndim == 4 else y.ndim - 1
    mean: np.ndarray = y.mean(axis=tuple(i for i in range(y.ndim) if i != channel), dtype=np.float64)
    return mean


def mean_values(graph: Graph, batches: Iterable[Arrays], wanted: set[int]) -> dict[int, np.ndarray]:
    """The mean over all samples of each wanted value of the graph."""
    sums, count = dict.fromkeys(wanted, np.zeros(())), 0
    for inputs in batches:
        for value, x in zip(wanted, graph.compute_values(inputs, wanted)):
            sums[value] = sums[value] + x.sum(axis=0, dtype=np.float64)
        count += len(inputs[0])
    return {value: total / count for value, total in sums.items()}


def correct_bias(lowering: Lowering, batches: list[Arrays]) -> Lowering:
    """A lowering whose integer layers have the mean outputs of the float ones, per output channel.

        bias[c] += E[(W x)[c]] - E[(Wq xq)[c]]

    x is what the layer reads in the float graph, and xq what it reads in the integer plan, whose earlier layers are
    corrected already. Wq are the weights as the plan has them. Means are over the samples of the data and all positions.

    Args:
        lowering: that of a graph with batch norm folded (`graph.passes.simplify`); it stays as it is.
        batches: the model's inputs, a tuple of arrays per batch.

    Returns:
        A lowering of another graph, with other biases; its `exact` is that of the given lowering.

    Raises:
        DtypeError: `lowering` is not a Lowering.

    Source: Nagel et al. 2019, section 4.2.

    Example:
        >>> import numpy as np
        >>> from tinyml import nn, precision
        >>> from tinyml.graph import trace
        >>> from tinyml.graph.passes import simplify
        >>> from tinyml.options import Options
        >>> from tinyml.plan.lowering import Lowering
        >>> model, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), np.eye(4, dtype=np.float32)
        >>> graph = simplify(trace(model, x))
        >>> lowering = Lowering(graph, precision.calibrate(graph, [x]).ranges, Options())
        >>> precision.correct_bias(lowering, [(x,)]).plan(x).shape
        (4, 2)
    """
    checks.instance("correct_bias", "lowering", lowering, Lowering)
    exact, graph, count = lowering.exact, lowering.graph.copy(), sum(len(b[0]) for b in batches)
    lowering = replace(lowering, graph=graph, unrepaired=exact)
    layers, floats = list(lowering.layers()), {n.output: n for n in exact.nodes}
    means = mean_values(exact, batches, {node.operand(0) for node, _ in layers})
    targets = [_mean_output(n, means[n.operand(0)], constant_of(exact, floats[n.output], 1)) for n, _ in layers]
    for i, target in enumerate(targets):
        node, folded = list(lowering.layers())[i]
        total = sum((lowering.compute_values(b, [node.operand(0)])[0].sum(axis=0, dtype=np.float64) for b in batches),
                    np.zeros(()))
        arrays = lowering.step_of(folded).arrays
        column = (-1,) + (1,) * (arrays["weight"].ndim - 1)
        weight = arrays["weight"].astype(np.float32) * arrays["scale"].reshape(column)
        bias = array_of(exact, floats[node.output], 2)
        shift = target - _mean_output(node, total / count, weight)
        replace_operand(graph, node, 2, (0 if bias is None else bias) + shift)
        lowering = replace(lowering, graph=graph)       # later layers read the result of the corrected one
    graph.prune()
    return lowering
