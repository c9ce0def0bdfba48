"""lower(graph, ranges) -> Plan: the one place where a graph becomes integer arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._kernels import fixed_point, integers
from ..errors import DtypeError, QuantizationError, TinymlError
from ..graph import Graph, Node
from ..ops import Codec, Operand, Target
from ..tape import no_grad
from ..tensor import FLOATS, Tensor, apply
from .calibrate import Ranges
from .fold import fold_batch_norm, fold_constants, fuse_activations
from .plan import Plan, Slot
from .steps import ROUNDINGS, STEPS, Step


def check_float_inputs(graph: Graph) -> None:
    """Raise DtypeError unless all inputs of `graph` are floats: ids have no scale."""
    for i in graph.inputs:
        if graph.dtypes[i] not in FLOATS:
            raise DtypeError(f"lower: static int8 needs float inputs, got {graph.dtypes[i]} ids; use to_int8() "
                             "without calibration, which quantizes activations as they come")


def lower(graph: Graph, ranges: Ranges, per_channel: bool = True, rounding: str = "single") -> Plan:
    """The graph on int8 codes: batch norm folded, activations fused, each op by the rule in its class.

    Args:
        ranges: (lo, hi) of every activation, by its number in `graph` (see calibrate).
        per_channel: one weight scale an output channel, else one a layer.
        rounding: "single" or "double", equation (5).

    Raises:
        QuantizationError: a range or scale that int8 cannot represent, naming the op; DtypeError: integer inputs.
    """
    if rounding not in ROUNDINGS:
        raise DtypeError(f"lower: expected rounding {' or '.join(ROUNDINGS)}, got {rounding!r}")
    check_float_inputs(graph)
    graph = graph.copy()
    fold_constants(graph)
    fold_batch_norm(graph)
    clamps = fuse_activations(graph)
    return _Lowering(graph, ranges, clamps, per_channel, rounding).plan()


class _Lowering:
    """Walks the nodes; a value exists as codes, as floats, or as both, each made when somebody asks."""

    def __init__(self, graph: Graph, ranges: Ranges, clamps: dict, per_channel: bool, rounding: str):
        self.graph, self.ranges, self.clamps = graph, ranges, clamps
        self.per_channel, self.rounding = per_channel, rounding
        self.steps: list[Step] = []
        self.next = max(graph.shapes) + 1
        self.as_codes: dict[int, int] = {}      # graph value -> plan value holding its codes
        self.as_float: dict[int, int] = {}
        self.codecs: dict[int, Codec] = {}
        self.users = graph.users()
        self.names = {n.output: f"the result of {n}" for n in graph.nodes}

    def plan(self) -> Plan:
        self.as_float.update((i, i) for i in self.graph.inputs)
        for node in self.graph.nodes:
            try:
                self.lower_node(node)
            except TinymlError as error:
                error.passing(str(node))
                raise
        inputs = [Slot(i, self.graph.shapes[i], self.codecs.get(i)) for i in self.graph.inputs]
        outputs = []
        for o in self.graph.outputs:
            codec = self.codecs.get(o) if o in self.as_codes else None
            outputs.append(Slot(self.floats(o, ""), self.graph.shapes[o], codec))
        return Plan(inputs, outputs, self.steps, {"single_output": self.graph.single_output, "rounding": self.rounding})

    def emit(self, kind: str, inputs: list[int], name: str, attrs: dict[str, Any], arrays: dict | None = None) -> int:
        """Append a step; returns the value it makes."""
        output, self.next = self.next, self.next + 1
        self.steps.append(STEPS[kind](inputs, output, name, attrs, arrays or {}))
        return output

    def codec(self, value: int) -> Codec:
        """Scale and zero point of a graph value, from its range."""
        if value not in self.codecs:
            if value not in self.ranges:
                raise QuantizationError(f"lower: expected a range for {self.names.get(value, 'the input')}, got none")
            lo, hi = self.ranges[value]
            self.codecs[value] = Codec(*fixed_point.affine_parameters(lo, hi, "activation range"))
        return self.codecs[value]

    def codes(self, value: int, name: str) -> int:
        """Plan value with the codes of a graph value, quantizing its floats if need be."""
        if value not in self.as_codes:
            codec = self.codec(value)
            attrs = {"scale": float(codec.scale), "zero_point": codec.zero_point}
            self.as_codes[value] = self.emit("quantize", [self.as_float[value]], name, attrs)
        return self.as_codes[value]

    def floats(self, value: int, name: str) -> int:
        """Plan value with the floats of a graph value, dequantizing its codes if need be."""
        if value not in self.as_float:
            codec = self.codecs[value]
            attrs = {"scale": float(codec.scale), "zero_point": codec.zero_point}
            self.as_float[value] = self.emit("dequantize", [self.as_codes[value]], name, attrs)
        return self.as_float[value]

    def read_as_codes(self, value: int) -> bool:
        """Whether an integer step reads the value, at once or behind ops that pass codes through."""
        return any(n.op.int8 in ("table", "lower") or (n.op.int8 == "codes" and self.read_as_codes(n.output))
                   for n in self.users.get(value, ()))

    def lower_node(self, node: Node) -> None:
        rule = node.op.int8
        if node.inputs[0] in self.graph.constants:
            rule = None     # a constant has no codes (this one follows the batch, or is the first of two operands)
        if rule == "codes":
            source = node.inputs[0]
            if source in self.as_codes or (source in self.ranges and self.read_as_codes(node.output)):
                # the codes keep their scale and zero point
                codes = self.codes(source, node.module)
                self.codecs[node.output] = self.codec(source)
                self.as_codes[node.output] = self.emit("codes", [codes], node.module,
                                                       {"op": node.op.name, "attrs": node.attrs})
                return
        elif rule == "table":
            self.as_codes[node.output] = self.table(node)
            return
        elif rule == "lower":
            lowered = self.integer_step(node)
            if lowered is not None:
                self.as_codes[node.output] = lowered
                return
        self.island(node)

    def table(self, node: Node) -> int:
        """The op's float forward at all 256 codes, quantized."""
        source, target = self.codec(node.inputs[0]), self.codec(node.output)
        u = np.arange(256, dtype=np.uint8)
        x = integers.dequantize(u, source.scale, source.zero_point)
        with no_grad():
            y = apply(node.op, Tensor(x), **node.attrs).data
        # codes that calibration never saw may lie outside the function's domain: they become zero
        table, _ = integers.quantize(np.nan_to_num(y, nan=0.0), target.scale, target.zero_point)
        return self.emit("table", [self.codes(node.inputs[0], node.module)], node.module, {"op": node.op.name},
                         {"table": table})

    def integer_step(self, node: Node) -> int | None:
        """The op's own lowering, or None where it has none for these operands."""
        operands, activations = [], []
        for i in node.inputs:
            if i is None:
                operands.append(None)
            elif i in self.graph.constants:
                constant = self.graph.constants[i]
                operands.append(Operand(constant.tensor.shape, value=constant.tensor.data))
            else:
                operands.append(Operand(self.graph.shapes[i], codec=self.codec(i)))
                activations.append(i)
        codec = self.codec(node.output)
        target = Target(self.graph.shapes[node.output], codec, per_channel=self.per_channel, rounding=self.rounding)
        if node.output in self.clamps:
            lo, hi = self.clamps[node.output]
            target.lo = -128 if lo == -np.inf else codec.code(lo)
            target.hi = 127 if hi == np.inf else codec.code(hi)
        lowered = node.op.lower(operands, target, node.attrs)
        if lowered is None:
            return None
        return self.emit(lowered.kind, [self.codes(i, node.module) for i in activations], node.module,
                         lowered.attrs, lowered.arrays)

    def island(self, node: Node) -> None:
        """The op in float32; its result stays float until somebody asks for codes."""
        inputs, where, batch_axes, arrays = [], [], [], {}
        for i in node.inputs:
            constant = self.graph.constants.get(i)
            if i is None:
                where.append(None)
            elif constant is not None:
                where.append(f"operand{len(where)}")
                arrays[where[-1]] = constant.tensor.data
            else:
                inputs.append(self.floats(i, node.module))
                where.append("value")
            batch_axes.append([] if constant is None else list(constant.batch_axes))
        value = self.emit("island", inputs, node.module, {"op": node.op.name, "operands": where,
                                                          "batch_axes": batch_axes, "attrs": node.attrs}, arrays)
        if node.output in self.clamps:
            lo, hi = self.clamps[node.output]
            value = self.emit("island", [value], node.module, {"op": "clip", "operands": ["value"], "batch_axes": [[]],
                                                               "attrs": {"lo": float(lo), "hi": float(hi)}})
        self.as_float[node.output] = value

