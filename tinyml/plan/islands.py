"""Islands: the nodes of a graph that stay float, as steps of a plan."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Graph, Node

Content = tuple[dict[str, Any], dict[str, np.ndarray]]       # attributes and arrays of a step


def describe_product(graph: Graph, node: Node, lo: float, hi: float) -> Content | None:
    """A linear layer, a convolution or a batch norm by itself as a `float_product`, which clamps its result to [lo, hi].

    The result is None for other ops, and if the weights are computed, empty or not float32.
    """
    source = node.inputs[0]
    if source is None or source in graph.constants or not (source in graph.inputs or graph.dtypes[source] == np.float32):
        return None
    parameters: list[np.ndarray | None] = []
    for i in node.inputs[1:]:
        constant = None if i is None else graph.constants.get(i)
        if i is not None and (constant is None or constant.batch_axes or constant.tensor.dtype != np.float32
                              or not constant.tensor.numel()):
            return None
        parameters.append(None if constant is None else constant.tensor.array)
    product = node.op.as_product(len(graph.shapes[source]), parameters, node.attrs)
    if product is None:
        return None
    weight, bias, window = product
    return ({"op": node.op.name, "spatial": weight.ndim == 4, "lo": lo, "hi": hi, "stride": list(window.stride),
             "padding": list(window.padding), "dilation": list(window.dilation), "groups": window.groups},
            {"weight": weight, **({} if bias is None else {"bias": bias.copy()})})


def describe_op(graph: Graph, node: Node) -> Content:
    """Any op as an `island`, which owns the constants that it reads."""
    where: list[str | None] = []
    batch_axes: list[list[int]] = []
    arrays: dict[str, np.ndarray] = {}
    for i in node.inputs:
        constant, name = None if i is None else graph.constants.get(i), f"operand{len(where)}"
        where.append(None if i is None else "value" if constant is None else name)
        batch_axes.append([] if constant is None else list(constant.batch_axes))
        if constant is not None:
            arrays[name] = constant.tensor.array.copy()     # the model may train on
    return {"op": node.op.name, "operands": where, "batch_axes": batch_axes, "attrs": node.attrs}, arrays
