"""lower(graph, ranges) -> Plan: the one place where a graph becomes integer arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import checks
from .._kernels import fixed_point
from ..errors import DtypeError, QuantizationError, TinymlError
from ..graph import Graph, Node, Ranges
from ..graph.passes import fold_batch_norm, fold_constants, folded, fuse_activations, fuse_batch_norm
from ..nn.module import is_inside
from ..ops import Codec, Operand, Target
from ..ops.codes import tabulate
from ..ops.conv import Conv2d
from ..ops.linear import Linear
from ..ops.norm import BatchNormEval
from ..ops.pointwise import Clip
from ..tensor import FLOATS, apply
from . import code_steps, product_steps  # noqa: F401 (they define steps)
from .plan import Plan, Slot
from .steps import ROUNDINGS, STEPS, Step

WEIGHTS = ("max", "mse")
Skip = Sequence[str] | Callable[[str], bool]
# why an op stays float
SKIPPED = "left in float on request"
CONSTANT = "what it reads is a constant"
UNPAID = "its neighbours are float steps, so codes would be made for its table alone"


def lower(graph: Graph, ranges: Ranges, per_channel: bool = True, rounding: str = "single", weights: str = "max",
          skip: Skip = (), weight_scales: Mapping[int, np.ndarray] | None = None) -> Plan:
    """The graph on int8 codes: batch norm folded, activations fused, each op by the rule in its class.

    Args:
        ranges: (lo, hi) of every activation, by its number in `graph` (see calibrate). What has none stays float.
        per_channel: one weight scale an output channel, else one a layer.
        rounding: "single" or "double", equation (5).
        weights: "max" or "mse", how weight scales are chosen: equation (2), or clipped for the least squared error.
        skip: layers, with all inside them, that stay float; or a function of a layer's name that tells.
        weight_scales: learned scales (N) of layers, by the number of their result; the others are computed.

    Raises:
        QuantizationError: a range or scale that int8 cannot represent, naming the op; DtypeError: an unknown option.
    """
    checks.instance("lower", "graph", graph, Graph)
    checks.instance("lower", "ranges", ranges, Mapping)
    per_channel = checks.flag("lower", "per_channel", per_channel)
    skip = skip if callable(skip) else checks.names("lower", "skip", skip)
    if weight_scales is not None:
        checks.instance("lower", "weight_scales", weight_scales, Mapping)
    return lowering(graph, ranges, per_channel, rounding, weights, skip, weight_scales).plan()


def lowering(graph: Graph, ranges: Ranges, per_channel: bool = True, rounding: str = "single", weights: str = "max",
             skip: Skip = (), weight_scales: Mapping[int, np.ndarray] | None = None) -> Lowering:
    """What `lower` runs; afterwards it knows where in the plan the values of the graph are."""
    if not isinstance(rounding, str) or rounding not in ROUNDINGS:
        raise DtypeError(f"lower: expected rounding {' or '.join(ROUNDINGS)}, got {rounding!r}")
    if not isinstance(weights, str) or weights not in WEIGHTS:
        raise DtypeError(f"lower: expected weights {' or '.join(WEIGHTS)}, got {weights!r}")
    graph, clamps, _ = fused(graph)
    fold_batch_norm(graph)
    options = {"per_channel": per_channel, "rounding": rounding, "weights": weights}
    return Lowering(graph, ranges, clamps, options, skip, weight_scales or {})


def fused(graph: Graph) -> tuple[Graph, dict[int, tuple[float, float]], list[Node]]:
    """A copy with one node for what one integer step will do, the clamps (lo, hi) of its nodes by their results, and the
    nodes that read constants only, which it computed."""
    graph = graph.copy()
    early = fold_constants(graph)
    fuse_batch_norm(graph)
    return graph, fuse_activations(graph), early


class Lowering:
    """Walks the nodes; a value exists as codes, as it is (floats, or ids), or as both, each made when somebody asks."""

    def __init__(self, graph: Graph, ranges: Ranges, clamps: dict, options: dict, skip: Skip,
                 weight_scales: Mapping[int, np.ndarray]):
        self.graph, self.ranges, self.clamps = graph, ranges, clamps
        self.options, self.weight_scales = options, weight_scales
        self.skipped = skip if callable(skip) else lambda layer: any(is_inside(layer, name) for name in skip)
        self.steps: list[Step] = []
        self.next = max(graph.shapes) + 1
        self.as_codes: dict[int, int] = {}      # graph value -> plan value holding its codes
        self.plain: dict[int, int] = {}         # ... its floats or ids
        self.rules: dict[int, str] = {}         # graph value -> how it is made: "codes", "integers" or "island"
        self.floats_why: dict[str, list[str]] = {}      # what stays float, as `Plan.islands` calls it -> the reasons
        self.codecs: dict[int, Codec] = {}
        self.users = graph.users()
        self.may_be_infinite = graph.may_be_infinite()
        self.names = {n.output: f"the result of {n}" for n in graph.nodes}

    def plan(self) -> Plan:
        self.plain.update((i, i) for i in self.graph.inputs)
        for node in self.graph.nodes:
            try:
                self.lower_node(node)
            except TinymlError as error:
                error.passing(str(node))
                raise
        inputs = [Slot(i, self.graph.shapes[i], self.codecs.get(i), self.graph.dtypes[i] in FLOATS)
                  for i in self.graph.inputs]
        outputs = []
        for o in self.graph.outputs:
            codec = self.codecs.get(o) if o in self.as_codes else None
            outputs.append(Slot(self.floats(o, ""), self.graph.shapes[o], codec))
        info = {"inputs": list(self.graph.input_names), "outputs": list(self.graph.output_names),
                "single_output": self.graph.single_output, "rounding": self.options["rounding"]}
        if self.floats_why and not self.skipped(""):     # of a float plan there is nothing to explain
            info["floats"] = {where: "; ".join(why) for where, why in self.floats_why.items()}
        return Plan(inputs, outputs, self.steps, info)

    def emit(self, kind: str, inputs: list[int], name: str, attrs: dict[str, Any], arrays: dict | None = None) -> int:
        """Append a step; returns the value it makes."""
        output, self.next = self.next, self.next + 1
        self.steps.append(STEPS[kind](inputs, output, name, attrs, arrays or {}))
        return output

    def codec(self, value: int) -> Codec:
        """Scale and zero point of a graph value, from its range."""
        if value not in self.codecs:
            lo, hi = self.ranges[value]
            self.codecs[value] = Codec(*fixed_point.affine_parameters(lo, hi, "activation range"))
        return self.codecs[value]

    def codes(self, value: int, name: str) -> int:
        """Plan value with the codes of a graph value, quantizing its floats if need be."""
        if value not in self.as_codes:
            codec = self.codec(value)
            attrs = {"scale": float(codec.scale), "zero_point": codec.zero_point}
            self.as_codes[value] = self.emit("quantize", [self.plain[value]], name, attrs)
        return self.as_codes[value]

    def floats(self, value: int, name: str) -> int:
        """Plan value with the floats of a graph value, dequantizing its codes if need be."""
        if value not in self.plain:
            codec = self.codecs[value]
            attrs = {"scale": float(codec.scale), "zero_point": codec.zero_point}
            self.plain[value] = self.emit("dequantize", [self.as_codes[value]], name, attrs)
        return self.plain[value]

    def rule(self, node: Node) -> str | None:
        """The op's integer rule, None in a layer that is skipped."""
        return None if self.skipped(node.module) else node.op.int8

    def read_as_codes(self, value: int) -> bool:
        """Whether an integer step reads the value, at once or behind ops that pass codes through."""
        return any(self.rule(n) in ("table", "lower") or (self.rule(n) == "codes" and self.read_as_codes(n.output))
                   for n in self.users.get(value, ()))

    def lower_node(self, node: Node) -> None:
        rule, source = self.rule(node), node.inputs[0]
        why = SKIPPED if self.skipped(node.module) else f"{node.op.name} has no integer rule"
        if rule == "codes" and source not in self.graph.constants:
            if source in self.as_codes or (source in self.ranges and self.read_as_codes(node.output)):
                # the codes keep their scale and zero point
                codes = self.codes(source, node.module)
                self.codecs[node.output] = self.codec(source)
                self.as_codes[node.output] = self.emit("codes", [codes], node.module,
                                                       {"op": node.op.name, "attrs": node.attrs})
                self.rules[node.output] = "codes"
                return
            why = "neither what it reads nor what reads its result is in codes"
        elif rule == "codes":
            why = CONSTANT
        elif rule is not None and not self.has_ranges(node):
            why = "its values may be infinite, as a mask makes them, so they have no range"
        elif rule is not None:
            made = self.table(node) if rule == "table" else self.integer_step(node)
            if isinstance(made, int):
                self.as_codes[node.output] = made
                self.rules[node.output] = "integers"
                return
            why = made
        reasons = self.floats_why.setdefault(str(node), [])
        if why not in reasons:
            reasons.append(why)
        self.island(node)
        self.rules[node.output] = "island"

    def has_ranges(self, node: Node) -> bool:
        """Whether the float activations that the node reads and makes have ranges: infinite ones, as masks make, have none.

        Raises:
            QuantizationError: a range is missing for another reason.
        """
        for value in (*node.inputs, node.output):
            floats = value is not None and value not in self.graph.constants and self.graph.dtypes[value] in FLOATS
            if floats and value not in self.ranges and value not in self.codecs:
                if value in self.may_be_infinite:
                    return False
                raise QuantizationError(f"lower: expected a range for {self.names.get(value, 'the input')}, got none")
        return True

    def pays(self, node: Node) -> bool:
        """Whether a table saves anything: between float islands codes would be made for it alone."""
        return self.read_as_codes(node.output) or any(i in self.as_codes or i in self.graph.inputs for i in node.inputs)

    def table(self, node: Node) -> int | str:
        """The op's float forward at all 256 codes, quantized; why there is none where there is none."""
        if node.inputs[0] in self.graph.constants:
            return CONSTANT
        if not self.pays(node):
            return UNPAID
        source, target = self.codec(node.inputs[0]), self.codec(node.output)
        table = tabulate(source, target, lambda x: apply(node.op, x, **node.attrs).data, *self.clamp(node.output, target))
        return self.emit("table", [self.codes(node.inputs[0], node.module)], node.module,
                         {"op": node.op.name, "attrs": node.attrs}, {"table": table})

    def integer_step(self, node: Node) -> int | str:
        """The op's own lowering; why there is none where it has none for these operands."""
        operands, activations = [], []
        for i in node.inputs:
            if i is None:
                operands.append(None)
            elif i in self.graph.constants:
                constant = self.graph.constants[i]
                if constant.batch_axes:
                    return "an operand is as large as the batch; steps hold arrays of one size"
                operands.append(Operand(constant.tensor.shape, value=constant.tensor.data))
            else:
                ids = self.graph.dtypes[i] not in FLOATS
                operands.append(Operand(self.graph.shapes[i], codec=None if ids else self.codec(i)))
                activations.append(i)
        codec = self.codec(node.output)
        target = Target(self.graph.shapes[node.output], codec, weight_scale=self.weight_scales.get(node.output),
                        **self.options)
        target.lo, target.hi = self.clamp(node.output, codec)
        lowered = node.op.lower(operands, target, node.attrs)
        if lowered is None:
            return f"{node.op.name} has no integer step for these operands"
        if lowered.kind == "table" and not self.pays(node):
            return UNPAID
        inputs = [self.codes(i, node.module) if self.graph.dtypes[i] in FLOATS else self.plain[i] for i in activations]
        return self.emit(lowered.kind, inputs, node.module, lowered.attrs, lowered.arrays)

    def clamp(self, value: int, codec: Codec) -> tuple[int, int]:
        """The codes between which an activation that was fused keeps a value."""
        lo, hi = self.clamps.get(value, (-np.inf, np.inf))
        return -128 if lo == -np.inf else codec.code(lo), 127 if hi == np.inf else codec.code(hi)

    def island(self, node: Node) -> None:
        """The op in float32; its result stays float until somebody asks for codes."""
        lo, hi = self.clamps.get(node.output, (-np.inf, np.inf))
        product = self.float_product(node, float(lo), float(hi))
        if product is not None:
            self.plain[node.output] = product
            return
        inputs, where, batch_axes, arrays = [], [], [], {}
        for i in node.inputs:
            constant = self.graph.constants.get(i)
            if i is None:
                where.append(None)
            elif constant is not None:
                where.append(f"operand{len(where)}")
                arrays[where[-1]] = constant.tensor.data.copy()     # the model may train on
            else:
                inputs.append(self.floats(i, node.module))
                where.append("value")
            batch_axes.append([] if constant is None else list(constant.batch_axes))
        value = self.emit("island", inputs, node.module, {"op": node.op.name, "operands": where,
                                                          "batch_axes": batch_axes, "attrs": node.attrs}, arrays)
        if node.output in self.clamps:
            value = self.emit("island", [value], node.module, {"op": Clip.name, "operands": ["value"], "batch_axes": [[]],
                                                               "attrs": {"lo": float(lo), "hi": float(hi)}})
        self.plain[node.output] = value

    def float_product(self, node: Node, lo: float, hi: float) -> int | None:
        """A linear layer, convolution or batch norm on its own in float32, its weights packed and its clamp included; None
        for other ops, and where weights are computed, empty or of another dtype."""
        source, *parameters = node.inputs
        known = source in self.graph.inputs or self.graph.dtypes[source] == np.float32
        if node.op not in (Linear, Conv2d, BatchNormEval) or source in self.graph.constants or not known:
            return None
        constants = [self.graph.constants.get(i) for i in parameters if i is not None]
        if any(c is None or c.batch_axes or c.tensor.dtype != np.float32 or not c.tensor.size for c in constants):
            return None
        weight, *rest = (c.tensor.data for c in constants)
        attrs = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1, **node.attrs}
        if node.op is BatchNormEval:
            if len(self.graph.shapes[source]) != 4:
                return None
            ones = np.ones((len(weight), 1, 1, 1), np.float32)      # a convolution of each channel by itself
            weight, *rest = folded(ones, None, weight, *rest, attrs.pop("eps"))
            attrs["groups"] = len(weight)
        attrs = {k: list(v) if isinstance(v, tuple) else v for k, v in attrs.items()}
        return self.emit("float_product", [self.floats(source, node.module)], node.module,
                         {"op": node.op.name, "spatial": node.op is not Linear, "lo": lo, "hi": hi, **attrs},
                         {"weight": weight, **({"bias": rest[0].copy()} if rest else {})})
