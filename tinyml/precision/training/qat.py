"""prepare_qat(model, example): quantization-aware training. What trains in floats is what lowering turns into integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import checks
from ...batches import in_order
from ...errors import DtypeError, ShapeError, TinymlError
from ...graph import BatchNorm, Graph, Node, resolve, resolve_constant, returned, trace
from ...graph.passes import fold_batch_norm, folded
from ...nn import functional as F
from ...nn import norms as norm_layers
from ...nn.containers import ModuleList
from ...nn.module import Module
from ...ops import norm
from ...ops.conv import Conv2d
from ...ops.embedding import Embedding
from ...ops.linear import Linear
from ...ops.pointwise import ReLU
from ...ops.shape import Concat
from ...plan.lowering import Lowering, fused, lower
from ...plan.plan import Plan
from ...tape import no_grad
from ...tensor import FLOATS, INT8, Tensor, apply, as_tensor
from ..ranges.calibration import Arrays, Calibration, again, calibrate, inputs_of
from ..static import checked_layers
from .quantizers import ActivationQuantizer, WeightQuantizer

NEVER = 2**62
PRODUCTS = (Conv2d, Linear, norm.BatchNormEval)
# whose constants take no codes of their own range: weights, and what takes the codes of the result
OWN_CODES = (*PRODUCTS, Embedding, Concat)
TINY = 1e-12        # stands for a gain of 0, by which a convolution's result is divided


@dataclass
class _Norms:
    """The batch norms of a model by the graph's number of their running mean; members of the model, and of nothing else."""

    layers: dict[int, norm_layers.BatchNorm]


class QATModel(Module):
    """A model that trains as it will be deployed; made by `prepare_qat`.

    train(): the traced graph on the tape, every value that the integer plan will hold as codes fake-quantized, weights and
    biases too, batch norm folded: conv(x, fq(w g)) with g = gamma / sqrt(running variance + eps). Until the freeze the
    result is divided by g again and normalised by the batch's moments; from then on the running moments are folded, and
    they and all ranges stay as they are. Dropout does not drop.
    eval(): the integer plan itself, made again when a parameter has changed; equation (11).
    """

    def __init__(self, model: Module, graph: Graph, found: Calibration, learn_scales: bool, freeze_after: int | None,
                 per_channel: bool, skip: Sequence[str]):
        self.model, self.graph, self.found, self.per_channel, self.skip = model, graph, found, per_channel, skip
        self.default_loss = model.default_loss
        self.steps = Tensor(np.array(0, np.int64))
        self.samples = Tensor(np.array(found.samples, np.int64))
        self.freeze_at = Tensor(np.array(NEVER if freeze_after is None else freeze_after, np.int64))
        norms = {id(m.running_mean): m for m in model.modules() if isinstance(m, norm_layers.BatchNorm)}
        self._norms = _Norms({v: norms[id(c.tensor)] for v, c in graph.constants.items() if id(c.tensor) in norms})
        self._fused, self._clamps, self._early = fused(graph)
        whole = self._fused.copy()
        fold_batch_norm(whole)
        lowering = Lowering(whole, found.ranges, self._clamps, {"per_channel": per_channel, "rounding": "single"},
                            skip, {})
        lowering.plan()
        self._rules = lowering.rules
        own = [v for v in lowering.as_codes if self._rules.get(v) != "codes"]
        self._activation = {v: i for i, v in enumerate(own)}
        self.activations = ModuleList(ActivationQuantizer(*found.ranges[v], learn_scales) for v in own)
        products = [n for n in whole.nodes if n.op in PRODUCTS and self._rules[n.output] == "integers"]
        self._weight = {n.output: i for i, n in enumerate(products)}
        self.weights = ModuleList(WeightQuantizer(per_channel) for _ in products)
        for node, quantizer in zip(products, self.weights):
            if learn_scales:
                weight, *_, variance = (None if i is None else whole.constants[i].tensor.data for i in node.inputs[1:])
                alone = node.op is norm.BatchNormEval
                quantizer.start(weight / np.sqrt(variance + node.attrs["eps"]) if alone else weight)
        self._source = {v: v for v in own}      # whose scale the codes of a value have
        for node in whole.nodes:
            if self._rules[node.output] == "codes":
                self._source[node.output] = self._source[node.inputs[0]]
        self._made: tuple[list[np.ndarray], Plan] | None = None

    # -- modes --------------------------------------------------------------------------------------------------------
    @property
    def frozen(self) -> bool:
        """Whether running moments, ranges and learned scales stay as they are."""
        return int(self.steps.data) >= int(self.freeze_at.data)

    def freeze(self) -> QATModel:
        """Freeze running moments, ranges and learned scales from now on."""
        self.freeze_at.data[...] = self.steps.data
        return self

    @property
    def input_names(self) -> list[str]:
        """What forward of the model called its inputs, in order."""
        return self.graph.input_names

    def forward(self, *inputs: Any, **named: Any) -> Any:
        if named:
            inputs = in_order("QATModel", self.graph.input_names, inputs, named)
        if not self.training:
            return self.plan()(*inputs)
        given = [as_tensor(x) for x in inputs]
        batch = self.graph.batch_size(given)
        result = _Training(self, given, batch).run()
        if not self.frozen:
            self.samples.data += batch
        self.steps.data += 1
        return result

    # -- the integers -------------------------------------------------------------------------------------------------
    def plan(self) -> Plan:
        """The integer plan of the parameters as they are; the same object while they stay."""
        now = [t.data for _, t in self.named_tensors()]
        if self._made is None or not all(np.array_equal(a, b) for a, b in zip(self._made[0], now)):
            self._made = [a.copy() for a in now], self.to_int8()
        return self._made[1]

    def to_int8(self, calibration: Any = None, **options: Any) -> Plan:
        """The int8 model: training has found the ranges, so it takes no calibration.

        Raises:
            DtypeError: calibration or an option is given; those of prepare_qat hold.
        """
        if calibration is not None or options:
            raise DtypeError("to_int8: a model prepared for quantization-aware training has its ranges and options from "
                             f"there, got {', '.join(['calibration'] * (calibration is not None) + list(options))}")
        scales = {v: self.weights[i].chosen() for v, i in self._weight.items()}
        own = {v: self.activations[i].range() for v, i in self._activation.items()}
        plan = lower(self.graph, {**self.found.ranges, **own}, self.per_channel, skip=self.skip,
                     weight_scales={v: s for v, s in scales.items() if s is not None})
        plan.info["calibration"] = {"observer": "qat", "samples": int(self.samples.data), "digest": self.found.digest}
        return plan

    def to_fp16(self, **options: Any) -> Module:
        """Raises DtypeError: the model computes in int8."""
        raise DtypeError("to_fp16: a model prepared for quantization-aware training becomes int8, by to_int8(); the floats "
                         "that it trains are its attribute `model`")

    def quantize(self, value: int, x: Tensor) -> Tensor:
        """Graph value `value`, fake-quantized."""
        return self.activations[self._activation[value]](x, self.frozen)

    def describe(self) -> str:
        at = int(self.freeze_at.data)
        return f"step {int(self.steps.data)}, " + ("frozen" if self.frozen else "not frozen" if at == NEVER else
                                                   f"freezes at {at}")


class _Training:
    """One training forward: every value is plain (floats, ids), fake-quantized, or both, as in Lowering."""

    def __init__(self, owner: QATModel, inputs: list[Tensor], batch: int):
        self.owner, self.batch, self.graph = owner, batch, owner._fused
        self.plain: dict[int, Tensor] = dict(zip(self.graph.inputs, inputs))
        self.quantized: dict[int, Tensor] = {}
        self.constants = {i: resolve_constant(c, batch) for i, c in owner.graph.constants.items()}

    def run(self) -> Any:
        for node in self.owner._early:      # on the tape: their operands may be parameters
            operands = [None if i is None else self.constants[i] for i in node.inputs]
            self.constants[node.output] = apply(node.op, *operands, **node.attrs)
        for node in self.graph.nodes:
            try:
                self.step(node)
            except TinymlError as error:
                error.passing(str(node))
                raise
        results = [self.floats(o) for o in self.graph.outputs]
        return returned(results, self.graph.single_output, self.graph.output_names)

    def floats(self, value: int) -> Tensor:
        return self.plain[value] if value in self.plain else self.quantized[value]

    def codes(self, value: int) -> Tensor:
        if value not in self.quantized:
            x = self.plain[value]
            self.quantized[value] = self.owner.quantize(value, x) if x.dtype in FLOATS else x
        return self.quantized[value]

    def operand(self, node: Node, value: int) -> Tensor:
        """A value as the node's step reads it."""
        island = self.owner._rules[node.output] == "island"
        if value not in self.constants:
            return self.floats(value) if island else self.codes(value)
        c = self.constants[value]
        if island or node.op in OWN_CODES or c.size == 1:
            return c
        # an array that integers add or multiply has codes of its own range
        return ActivationQuantizer(float(c.data.min()), float(c.data.max()), learned=False)(c, True)

    def step(self, node: Node) -> None:
        rule, out = self.owner._rules[node.output], node.output
        operands = [None if i is None else self.operand(node, i) for i in node.inputs]
        if rule == "codes":
            self.quantized[out] = apply(node.op, *operands, **resolve(node.attrs, self.batch))
            return
        if out in self.owner._weight:
            y = self.product(node, operands)
        elif node.norm is not None:
            y = self.normalise(apply(node.op, *operands, **node.attrs), node.norm)
        elif node.op is norm.BatchNormEval:
            y = self.normalise(operands[0], BatchNorm(tuple(node.inputs[1:]), node.attrs["eps"]))
        else:
            y = apply(node.op, *operands, **resolve(node.attrs, self.batch))
        if out in self.owner._clamps:
            lo, hi = self.owner._clamps[out]
            y = apply(ReLU, y) if (lo, hi) == (0, np.inf) else y.clip(lo, hi)
        if rule == "island":
            self.plain[out] = y
        else:
            self.quantized[out] = self.owner.quantize(out, y)

    def product(self, node: Node, operands: list[Tensor | None]) -> Tensor:
        """A convolution or linear layer with fake-quantized weights, its batch norm folded."""
        owner, op, attrs, by = self.owner, node.op, node.attrs, node.norm
        x, weight, bias = operands[:3]
        if op is norm.BatchNormEval:        # alone it is a depthwise convolution by 1
            by = BatchNorm(tuple(node.inputs[1:]), attrs["eps"])
            op, weight, bias = Conv2d, Tensor(np.ones((weight.shape[0], 1, 1, 1), np.float32)), None
            attrs = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": len(weight)}
        quantizer = owner.weights[owner._weight[node.output]]
        s_x = owner.activations[owner._activation[owner._source[node.inputs[0]]]].codec().scale
        if by is None:
            w, b = quantizer(weight, bias, s_x, owner.frozen)
            return apply(op, x, w, b, **attrs)
        gamma, beta, mean, variance = (self.constants[i] for i in by.inputs)
        g = gamma * (1 / np.sqrt(variance.data + np.float32(by.eps)))
        column = (-1,) + (1,) * (weight.ndim - 1)
        row = (1, *column[:-1])     # channels in the result of a convolution, (1, -1, 1, 1), or linear layer, (1, -1)
        if owner.frozen:
            shift = (beta - g * mean) if bias is None else (bias - mean) * g + beta
            # to the last bit what lowering will fold: a weight at a tie must not round to another code
            exact = folded(*(None if t is None else t.data for t in (weight, bias, gamma, beta, mean, variance)), by.eps)
            w, b = (t + (value - t.data) for t, value in zip((weight * g.reshape(*column), shift), exact))
            return apply(op, x, *quantizer(w, b, s_x, True), **attrs)
        g = F.where(np.abs(g.data) < TINY, np.float32(TINY), g)
        w, _ = quantizer(weight * g.reshape(*column), None, s_x, False)
        y = apply(op, x, w, None, **attrs) / g.reshape(*row)
        return self.normalise(y if bias is None else y + bias.reshape(*row), by, w.data.any(axis=tuple(range(1, w.ndim))))

    def normalise(self, y: Tensor, by: BatchNorm, alive: np.ndarray | None = None) -> Tensor:
        """Batch norm by the batch's moments, which the running ones follow; by the running ones once frozen.

        The running variance of channels that are not `alive`, whose weights all round to 0, stays: following one of 0 would
        raise g without end, and with it the one scale of a layer that is quantized per tensor.
        """
        gamma, beta, mean, variance = (self.constants[i] for i in by.inputs)
        if self.owner.frozen or by.inputs[2] not in self.owner._norms.layers:
            return apply(norm.BatchNormEval, y, gamma, beta, mean, variance, eps=by.eps)
        moments: list[np.ndarray] = []
        out = apply(norm.BatchNorm, y, gamma, beta, None, None, eps=by.eps, moments=moments)
        layer, n = self.owner._norms.layers[by.inputs[2]], out.size // out.shape[1]
        if alive is not None:
            moments[1] = np.where(alive, moments[1], layer.running_var.data * np.float32((n - 1) / n))
        layer.track(*moments, n)
        return out


def _with_moments_of(model: Module, batches: list[Arrays]) -> Module:
    """A copy whose batch norms have the moments of these batches, as in training: running ones may be far off them."""
    copy = model.copy().eval()
    norms = [m for m in copy.modules() if isinstance(m, norm_layers.BatchNorm)]
    with no_grad():
        for i, batch in enumerate(batches if norms else []):
            for m in norms:
                m.training, m.momentum = True, 1 / (i + 1)
            copy(*batch)
    return copy


def prepare_qat(model: Module, example: Any, learn_scales: bool = False, freeze_after: int | None = None,
                per_channel: bool = True, skip: Sequence[str] = ()) -> QATModel:
    """A copy of `model` that trains as its int8 form will compute; the Trainer trains it, `.to_int8()` converts it.

    Args:
        example: typical inputs: an array, a batch as a tuple (input, target), or a list of either; the input of a model
            with several is a tuple of them. The first ranges are those of their activations, normalised as in training.
        learn_scales: learn scales by gradient (LSQ) instead of following the data; zero points stay.
        freeze_after: training forwards after which batch norm's running moments, ranges and scales freeze; None: at
            `freeze()`.
        per_channel, skip: as in to_int8.

    Raises:
        DtypeError: the model is prepared, int8 or float16 already, has nothing that integers compute, or has no such layer
        to skip; ShapeError: freeze_after is no number of steps, or the example has no batch, or one in which batch norm
        sees a single value a channel; TraceError, QuantizationError: as to_int8.
    """
    checks.instance("prepare_qat", "model", model, Module)
    learn_scales = checks.flag("prepare_qat", "learn_scales", learn_scales)
    per_channel = checks.flag("prepare_qat", "per_channel", per_channel)
    stored = any(t.dtype in (INT8, np.float16) for _, t in model.named_tensors())     # which nothing trains
    if stored or isinstance(model, (Plan, QATModel)):
        raise DtypeError(f"prepare_qat: expected a float32 model, got {type(model).__name__}: prepared or converted")
    freeze_after = None if freeze_after is None else checks.whole("prepare_qat", "freeze_after", freeze_after)
    skip = checked_layers("prepare_qat: skip", model, skip)
    copy = model.copy()
    data = [example] if isinstance(example, tuple) else example
    batches = list(inputs_of("prepare_qat", again("prepare_qat", data), model))
    if not batches:
        raise ShapeError("prepare_qat: expected at least one batch as example, got none")
    graph = trace(copy, *batches[0])
    found = calibrate(trace(_with_moments_of(copy, batches), *batches[0]), [(b,) for b in batches])
    prepared = QATModel(copy, graph, found, learn_scales, freeze_after, per_channel, skip)
    if not prepared.weights:
        raise DtypeError(f"prepare_qat: {type(model).__name__} has no layer that runs in integers"
                         + (f" outside {', '.join(skip)}" if skip else ""))
    return prepared
