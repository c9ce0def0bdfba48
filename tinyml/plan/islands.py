"""Islands: the nodes of a graph that stay float, as steps of a plan."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Graph, Node
from ..ops import conv, linear, norm

Content = tuple[dict[str, Any], dict[str, np.ndarray]]       # attributes and arrays of a step


def describe_product(graph: Graph, node: Node, lo: float, hi: float) -> Content | None:
    """A linear layer, a convolution or a batch norm by itself as a `float_product`, which clamps its result to [lo, hi].

    The result is None for other ops, and if the weights are computed, empty or not float32.
    """
    source, *parameters = node.inputs
    known = source in graph.inputs or graph.dtypes[source] == np.float32
    if node.op not in (conv.Conv2d, linear.Linear, norm.BatchNormEval) or source in graph.constants or not known:
        return None
    constants = [graph.constants.get(i) for i in parameters if i is not None]
    if any(c is None or c.batch_axes or c.tensor.dtype != np.float32 or not c.tensor.size for c in constants):
        return None
    weight, *bias = (c.tensor.data for c in constants)
    attrs = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1, **node.attrs}
    if node.op is norm.BatchNormEval:
        if len(graph.shapes[source]) != 4:
            return None
        weight, *bias = norm.BatchNormEval.as_convolution(weight, *bias, attrs.pop("eps"))
        attrs["groups"] = len(weight)
    attrs = {k: list(v) if isinstance(v, tuple) else v for k, v in attrs.items()}
    return ({"op": node.op.name, "spatial": node.op is not linear.Linear, "lo": lo, "hi": hi, **attrs},
            {"weight": weight, **({"bias": bias[0].copy()} if bias else {})})


def describe_op(graph: Graph, node: Node) -> Content:
    """Any op as an `island`, which owns the constants that it reads."""
    where, batch_axes, arrays = [], [], {}
    for i in node.inputs:
        constant = graph.constants.get(i)
        where.append(None if i is None else "value" if constant is None else f"operand{len(where)}")
        batch_axes.append([] if constant is None else list(constant.batch_axes))
        if constant is not None:
            arrays[where[-1]] = constant.tensor.data.copy()     # the model may train on
    return {"op": node.op.name, "operands": where, "batch_axes": batch_axes, "attrs": node.attrs}, arrays
