"""Lowering: the one place where a graph becomes the steps of a plan, in integers or in floats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .. import checks
from .._kernels.products import fixed_point
from .._kernels.rows.codes import dequantize
from ..errors import QuantizationError, TinymlError
from ..graph import Graph, Node, Ranges
from ..graph.operands import weight_of
from ..graph.passes import fold_batch_norm, fold_constants, fuse_activations, fuse_batch_norm
from ..nn.module import is_inside
from ..ops import Codec, Operand, Target
from ..ops.codes import tabulate
from ..ops.pointwise import Clip
from ..options import Options, Skip
from ..tensors import FLOATS, apply
from . import code_steps, product_steps  # noqa: F401 (they define steps)
from .info import CalibrationInfo, PlanInfo
from .islands import describe_op, describe_product
from .plan import Plan, Slot
from .program import observe
from .steps import STEPS, Step

# The reasons why an op stays float
SKIPPED = "left in float on request"
CONSTANT = "what it reads is a constant"
UNPAID = "the ops around it are float, so its input would be quantized for this op alone"


def lower(graph: Graph, ranges: Ranges, per_channel: bool = True, rounding: str = "single", weights: str = "max",
          skip: Skip = (), weight_scales: Mapping[int, np.ndarray] | None = None) -> Plan:
    """The plan of a graph: batch norm folded, activations fused, and each op on int8 codes by the rule in its class.

    Args:
        graph: the program of a forward, from `trace`. It stays as it is.
        ranges: the smallest and the largest value, (lo, hi), of every float activation, by its number in `graph`; see
            `calibrate`. With none at all, and skip=("",), the plan is float32.
        per_channel: one weight scale per output channel, otherwise one per layer.
        rounding: "single" or "double", equation (5).
        weights: how weight scales are chosen: "max", equation (2), or "mse", clipped for the least squared error.
        skip: the layers that stay float, with all layers inside them; or a function from a layer's name to whether it
            stays float.
        weight_scales: learned scales (N) of layers with N outputs, by the number of the layer's result in `graph`. Those of
            the other layers are computed.

    Returns:
        A Plan, which takes and returns float32.

    Raises:
        QuantizationError: a range is missing, or int8 cannot represent one; names the op.
        DtypeError: an unknown option.

    Source: Jacob et al. 2018, sections 2 and 3.

    Example:
        >>> import numpy as np
        >>> from tinyml import nn, precision
        >>> from tinyml.graph import trace
        >>> x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
        >>> graph = trace(nn.Sequential(nn.Linear(4, 2), nn.ReLU()), x)
        >>> plan = precision.lower(graph, precision.calibrate(graph, [x]).ranges)
        >>> [step.kind for step in plan.steps]
        ['quantize', 'product', 'dequantize']
    """
    checks.instance("lower", "graph", graph, Graph)
    checks.mapping("lower", "ranges", ranges)
    if weight_scales is not None:
        checks.mapping("lower", "weight_scales", weight_scales)
    options = Options(per_channel=per_channel, rounding=rounding, weights=weights, skip=skip).check("lower")
    return Lowering(graph, ranges, options, weight_scales or {}).plan


class StaysFloat(Exception):
    """Raised where an op has no integer step; its text says why."""


@dataclass(eq=False)
class Lowering:
    """A graph with ranges and options, and the plan that it is lowered to. Repairs make another one; diagnosis reads it.

    A value of the graph exists in the plan as codes, as floats or ids, or as both. Each form is made when a step first
    reads it.

    Attributes:
        graph, ranges, options, weight_scales: as `lower` takes them, with the options checked.
        unrepaired: the graph before repairs changed what it computes, in which values have the same numbers; None if no
            repair did.
        calibration, repairs: their entries in `plan.info`.
        early: the nodes that read constants only; their results are constants now.
        fused: `graph` with one node per step. A batch norm that is part of a node is its `norm`.
        clamps: the (lo, hi) to which nodes of `fused` clamp their results, by the number of the result.
        folded: `fused` with batch norm multiplied into the weights; this is the graph that is lowered.
        rules: how each value is made: "codes" (passed on as they are), "integers" (by an integer step) or "island" (in
            floats).
        as_codes, plain: the number in the plan of the codes of a value, and of its floats or ids.
        codecs: scale and zero point of the values that have codes.
        steps, plan: the result.
    """

    graph: Graph
    ranges: Ranges
    options: Options
    weight_scales: Mapping[int, np.ndarray] = field(default_factory=dict)
    unrepaired: Graph | None = None
    calibration: CalibrationInfo | None = None
    repairs: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.fused = self.graph.copy()
        self.early = fold_constants(self.fused)
        fuse_batch_norm(self.fused)
        self.clamps = fuse_activations(self.fused)
        self.folded = self.fused.copy()
        fold_batch_norm(self.folded)
        self.steps: list[Step] = []
        self.next = max(self.folded.shapes) + 1
        self.as_codes: dict[int, int] = {}
        self.plain: dict[int, int] = {i: i for i in self.graph.inputs}
        self.rules: dict[int, str] = {}
        self.codecs: dict[int, Codec] = {}
        self.floats_why: dict[str, list[str]] = {}      # the reasons, by the op as `Plan.islands` names it
        self.users, self.may_be_infinite = self.folded.users(), self.folded.may_be_infinite()
        for node in self.folded.nodes:
            try:
                self.lower_node(node)
            except TinymlError as error:
                error.passing(str(node))
                raise
        self.plan = self._finish()

    # -- what repairs and diagnosis read --------------------------------------------------------------------------------
    @property
    def exact(self) -> Graph:
        """The graph that the integers should compute: before repairs."""
        return self.graph if self.unrepaired is None else self.unrepaired

    def keep_float(self, skip: Skip) -> Lowering:
        """The same graph with the layers `skip` in float, and no others."""
        return replace(self, options=replace(self.options, skip=skip))

    def layers(self) -> Iterator[tuple[Node, Node]]:
        """Each linear layer and convolution that computes in integers: its node in `graph`, and that in `folded`."""
        nodes = [[n for n in graph.nodes if n.op.has_weights] for graph in (self.graph, self.folded)]
        for node, folded in zip(*nodes, strict=True):
            if self.rules[folded.output] == "integers" and weight_of(self.graph, node) is not None:
                yield node, folded

    def layer_names(self) -> list[str]:
        """The names of those layers, in order."""
        return list(dict.fromkeys(node.module for node, _ in self.layers() if node.module))

    def step_of(self, node: Node) -> Step:
        """The integer step that computes a node of `folded`."""
        return next(s for s in self.steps if s.output == self.as_codes[node.output])

    def compute_values(self, inputs: Sequence[np.ndarray], wanted: Sequence[int]) -> list[np.ndarray]:
        """The results of the plan for values of the graph, as floats. Values that have codes are dequantized.

        Args:
            inputs: the model's inputs, of one batch.
            wanted: the numbers of the values.
        """
        at = tuple(self.as_codes[v] if v in self.as_codes else self.plain[v] for v in wanted)
        given = {s.value: x for s, x in zip(self.plan.inputs, inputs)}
        found, _ = observe(self.steps, given, at, len(inputs[0]))
        for i, v in enumerate(wanted):
            if v in self.as_codes:
                codec, y = self.codecs[v], np.empty(found[i].shape, np.float32)
                found[i] = dequantize(found[i], float(codec.scale), codec.zero_point, y)
        return found

    # -- the walk -----------------------------------------------------------------------------------------------------
    def _finish(self) -> Plan:
        graph = self.folded
        inputs = [Slot(i, graph.shapes[i], self.codecs.get(i), graph.dtypes[i] in FLOATS) for i in graph.inputs]
        outputs = []
        for o in graph.outputs:
            codec = self.codecs.get(o) if o in self.as_codes else None
            outputs.append(Slot(self.floats_of(o, ""), graph.shapes[o], codec))
        floats = {where: "; ".join(why) for where, why in self.floats_why.items()}
        return Plan(inputs, outputs, self.steps, PlanInfo(
            list(graph.input_names), list(graph.output_names), graph.single_output, self.options.rounding, self.calibration,
            {} if self.skips("") else floats, list(self.repairs)))        # of a float plan there is nothing to explain

    def emit(self, kind: str, inputs: list[int], name: str, attrs: dict[str, Any],
             arrays: dict[str, np.ndarray] | None = None) -> int:
        """Append a step, and return the number of the value that it makes."""
        output, self.next = self.next, self.next + 1
        self.steps.append(STEPS[kind](inputs, output, name, attrs, arrays or {}))
        return output

    def codec_of(self, value: int) -> Codec:
        """The scale and the zero point of a value, from its range; equation (6)."""
        if value not in self.codecs:
            lo, hi = self.ranges[value]
            self.codecs[value] = Codec(*fixed_point.affine_parameters(lo, hi, "activation range"))
        return self.codecs[value]

    def codes_of(self, value: int, name: str) -> int:
        """The number in the plan of the codes of a value. Its floats are quantized if it has no codes yet."""
        if value not in self.as_codes:
            codec = self.codec_of(value)
            attrs = {"scale": float(codec.scale), "zero_point": codec.zero_point}
            self.as_codes[value] = self.emit("quantize", [self.plain[value]], name, attrs)
        return self.as_codes[value]

    def floats_of(self, value: int, name: str) -> int:
        """The number in the plan of the floats of a value. Its codes are dequantized if it has no floats yet."""
        if value not in self.plain:
            codec = self.codecs[value]
            attrs = {"scale": float(codec.scale), "zero_point": codec.zero_point}
            self.plain[value] = self.emit("dequantize", [self.as_codes[value]], name, attrs)
        return self.plain[value]

    def skips(self, layer: str) -> bool:
        """Whether a layer stays float on request."""
        skip = self.options.skip
        return skip(layer) if callable(skip) else any(is_inside(layer, name) for name in skip)

    def rule_of(self, node: Node) -> str | None:
        """The integer rule of the node's op; None in a layer that is skipped."""
        return None if self.skips(node.module) else node.op.int8

    def is_read_as_codes(self, value: int) -> bool:
        """Whether an integer step reads the value, directly or after ops that pass codes on."""
        return any(self.rule_of(n) in ("table", "lower") or (self.rule_of(n) == "codes" and self.is_read_as_codes(n.output))
                   for n in self.users.get(value, ()))

    def lower_node(self, node: Node) -> None:
        """Emit the steps of a node: an integer step by the rule of its op, or a float island."""
        try:
            self.as_codes[node.output] = self.make_step(node)
            self.rules[node.output] = "codes" if self.rule_of(node) == "codes" else "integers"
        except StaysFloat as why:
            reasons = self.floats_why.setdefault(str(node), [])
            if str(why) not in reasons:
                reasons.append(str(why))
            self.plain[node.output] = self.make_island(node)
            self.rules[node.output] = "island"

    def make_step(self, node: Node) -> int:
        """Emit the integer step of a node, and return the number of its codes.

        Raises:
            StaysFloat: the node has no integer step.
        """
        rule = self.rule_of(node)
        if rule is None:
            raise StaysFloat(SKIPPED if self.skips(node.module) else f"{node.op.name} has no integer rule")
        if rule == "codes":
            return self.pass_codes(node)
        reads = node.operand(0) if rule == "table" else node.output
        if not {self.folded.dtypes[reads], self.folded.dtypes[node.output]} <= set(FLOATS):
            raise StaysFloat("it computes integers or bools, which have no codes")
        if not self.has_ranges(node):
            raise StaysFloat("its values may be infinite, as a mask makes them, so they have no range")
        return self.make_table(node) if rule == "table" else self.lower_op(node)

    def pass_codes(self, node: Node) -> int:
        """Emit an op that works on codes as they are; the result keeps their scale and zero point."""
        source = node.operand(0)
        if source in self.folded.constants:
            raise StaysFloat(CONSTANT)
        if source not in self.as_codes and not (source in self.ranges and self.is_read_as_codes(node.output)):
            raise StaysFloat("neither what it reads nor what reads its result is in codes")
        codes = self.codes_of(source, node.module)
        self.codecs[node.output] = self.codec_of(source)
        return self.emit("codes", [codes], node.module, {"op": node.op.name, "attrs": node.attrs})

    def has_ranges(self, node: Node) -> bool:
        """Whether the float activations that the node reads and makes have ranges. Infinite ones, from masks, have none.

        Raises:
            QuantizationError: a range is missing for another reason.
        """
        for value in (*node.inputs, node.output):
            floats = value is not None and value not in self.folded.constants and self.folded.dtypes[value] in FLOATS
            if floats and value not in self.ranges and value not in self.codecs:
                if value in self.may_be_infinite:
                    return False
                what = next((f"the result of {n}" for n in self.folded.nodes if n.output == value), "the input")
                raise QuantizationError(f"lower: expected a range for {what}, got none")
        return True

    def check_pays(self, node: Node) -> None:
        """Raise StaysFloat where all ops around a table are float: quantizing for it would cost more than it saves."""
        if not (self.is_read_as_codes(node.output)
                or any(i in self.as_codes or i in self.graph.inputs for i in node.inputs)):
            raise StaysFloat(UNPAID)

    def make_table(self, node: Node) -> int:
        """Emit the table of a pointwise op: its float forward at all 256 codes, quantized."""
        read = node.operand(0)
        if read in self.folded.constants:
            raise StaysFloat(CONSTANT)
        self.check_pays(node)
        source, target = self.codec_of(read), self.codec_of(node.output)
        table = tabulate(source, target, lambda x: apply(node.op, x, **node.attrs).array,
                         *self.clamp_codes(node.output, target))
        return self.emit("table", [self.codes_of(read, node.module)], node.module,
                         {"op": node.op.name, "attrs": node.attrs}, {"table": table})

    def lower_op(self, node: Node) -> int:
        """Emit the step that the op's own `lower` describes."""
        graph, activations = self.folded, []
        operands: list[Operand | None] = []
        for i in node.inputs:
            if i is None:
                operands.append(None)
                continue
            constant = graph.constants.get(i)
            if constant is None:
                operands.append(Operand(graph.shapes[i], codec=self.codec_of(i) if graph.dtypes[i] in FLOATS else None))
                activations.append(i)
            elif constant.batch_axes:
                raise StaysFloat("an operand is as large as the batch; steps hold arrays of one size")
            else:
                operands.append(Operand(constant.tensor.shape, value=constant.tensor.array))
        codec = self.codec_of(node.output)
        target = Target(graph.shapes[node.output], codec, self.options, *self.clamp_codes(node.output, codec),
                        self.weight_scales.get(node.output))
        step = node.op.lower(operands, target, node.attrs)
        if step is None:
            raise StaysFloat(f"{node.op.name} has no integer step for these operands")
        if step.kind == "table":
            self.check_pays(node)
        inputs = [self.codes_of(i, node.module) if graph.dtypes[i] in FLOATS else self.plain[i] for i in activations]
        return self.emit(step.kind, inputs, node.module, step.attrs, step.arrays)

    def clamp_codes(self, value: int, codec: Codec) -> tuple[int, int]:
        """The lowest and the highest code of a value, to which a fused activation clamps it."""
        lo, hi = self.clamps.get(value, (-np.inf, np.inf))
        return -128 if lo == -np.inf else codec.code(lo), 127 if hi == np.inf else codec.code(hi)

    def make_island(self, node: Node) -> int:
        """Emit the op in float32; its result stays float until a step reads it as codes."""
        lo, hi = map(float, self.clamps.get(node.output, (-np.inf, np.inf)))
        sources = [i for i in node.inputs if i is not None and i not in self.folded.constants]
        product = describe_product(self.folded, node, lo, hi)
        kind, made = ("float_product", product) if product else ("island", describe_op(self.folded, node))
        value = self.emit(kind, [self.floats_of(i, node.module) for i in sources], node.module, *made)
        if node.output in self.clamps and not product:
            value = self.emit("island", [value], node.module, {"op": Clip.name, "operands": ["value"], "batch_axes": [[]],
                                                               "attrs": {"lo": lo, "hi": hi}})
        return value
