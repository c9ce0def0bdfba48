"""QATModel: a model that trains, in floats, what lowering will turn into integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from ...batches import in_order
from ...errors import DtypeError, TinymlError
from ...graph import BatchNorm, Graph, Node, pack_outputs, resolve, resolve_constant
from ...graph.operands import constant_of
from ...nn import functional as F
from ...nn import norms as norm_layers
from ...nn.containers import ModuleList
from ...nn.module import Module
from ...ops import conv, norm, pointwise
from ...options import Options
from ...plan.info import CalibrationInfo
from ...plan.lowering import Lowering
from ...plan.plan import Plan
from ...tensors import FLOATS, Tensor, apply, as_tensor
from ..ranges.calibration import Calibration
from .quantizers import ActivationQuantizer, WeightQuantizer

NEVER = 2**62
TINY = 1e-12        # in place of a gain of 0, by which the result of a convolution is divided


@dataclass
class _Norms:
    """The batch norms of a model, by the number of their running mean in the graph.

    QATModel holds them in a dataclass so that they are not its members a second time, beside those of the model.
    """

    layers: dict[int, norm_layers.BatchNorm]


class QATModel(Module):
    """A model that trains as its int8 form will compute; `prepare_qat` makes it.

    In training mode it runs the traced graph on the tape, and fake-quantizes every value that the plan will hold as codes,
    weights and biases too. Batch norm is folded:

        y = conv(x, fq(w g)),    g = gamma / sqrt(running variance + eps)

    Until the freeze the result is divided by g again and normalised by the moments of the batch. From then on the running
    moments are folded, and they and all ranges stay as they are. Dropout is left out. In evaluation mode the model runs the
    integer plan itself, which is made anew after a parameter has changed; equation (11).

    Args:
        model: the float model that is trained; it is changed.
        graph: its program, from `trace`.
        found: the ranges to start from.
        options: how it is lowered.
        learn_scales: whether scales are learned by gradient, as in `prepare_qat`.
        freeze_after: the number of training forwards before the freeze, as in `prepare_qat`.

    Source: Jacob et al. 2018, section 3; Krishnamoorthi 2018, section 3.2, for batch norm.

    Example:
        >>> import numpy as np
        >>> from tinyml import nn, precision
        >>> x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
        >>> prepared = precision.prepare_qat(nn.Sequential(nn.Linear(4, 2)), x)
        >>> prepared.train()(x).sum().backward()
        >>> prepared.eval()(x).numpy().tobytes() == prepared.to_int8()(x).numpy().tobytes()
        True
    """

    def __init__(self, model: Module, graph: Graph, found: Calibration, options: Options, learn_scales: bool,
                 freeze_after: int | None):
        self.model, self.graph, self.found, self.options = model, graph, found, options
        self.default_loss = model.default_loss
        self.steps = Tensor(np.array(0, np.int64))
        self.samples = Tensor(np.array(found.samples, np.int64))
        self.freeze_at = Tensor(np.array(NEVER if freeze_after is None else freeze_after, np.int64))
        norms = {id(m.running_mean): m for m in model.modules() if isinstance(m, norm_layers.BatchNorm)}
        self._norms = _Norms({v: norms[id(c.tensor)] for v, c in graph.constants.items() if id(c.tensor) in norms})
        lowering = Lowering(graph, found.ranges, options)
        self._fused, self._clamps, self._early = lowering.fused, lowering.clamps, lowering.early
        self._rules, whole = lowering.rules, lowering.folded
        own = [v for v in lowering.as_codes if self._rules.get(v) != "codes"]
        self._activation = {v: i for i, v in enumerate(own)}
        self.activations = ModuleList(ActivationQuantizer(*found.ranges[v], learn_scales) for v in own)
        products = [n for n in whole.nodes
                    if (n.op.has_weights or n.op.batch_norm) and self._rules[n.output] == "integers"]
        self._weight = {n.output: i for i, n in enumerate(products)}
        self.weights = ModuleList(WeightQuantizer(options.per_channel) for _ in products)
        for node, quantizer in zip(products, self.weights):
            if learn_scales:
                weight = constant_of(whole, node, 1)
                if node.op.batch_norm:
                    weight = weight / np.sqrt(constant_of(whole, node, 4) + node.attrs["eps"])
                quantizer.start(weight)
        self._source = {v: v for v in own}      # the value whose scale the codes of a value have
        for node in whole.nodes:
            if self._rules[node.output] == "codes":
                self._source[node.output] = self._source[node.operand(0)]
        self._made: tuple[list[np.ndarray], Plan] | None = None

    # -- modes --------------------------------------------------------------------------------------------------------
    @property
    def frozen(self) -> bool:
        """Whether running moments, ranges and learned scales stay as they are now."""
        return int(self.steps.array) >= int(self.freeze_at.array)

    def freeze(self) -> QATModel:
        """Freeze running moments, ranges and learned scales from now on."""
        self.freeze_at.array[...] = self.steps.array
        return self

    @property
    def input_names(self) -> list[str]:
        """The names of the arguments of the model's forward, in order."""
        return self.graph.input_names

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The result of the model's forward, computed as the class describes, for inputs in order or by name."""
        if named:
            inputs = in_order("QATModel", self.graph.input_names, inputs, named)
        if not self.training:
            return self.plan()(*inputs)
        given = [as_tensor(x) for x in inputs]
        batch = self.graph.batch_size(given)
        result = _Training(self, given, batch).run()
        if not self.frozen:
            self.samples.array += batch
        self.steps.array += 1
        return result

    # -- the integers -------------------------------------------------------------------------------------------------
    def plan(self) -> Plan:
        """The integer plan of the present parameters; it is the same object until a parameter changes."""
        now = [t.array for _, t in self.named_tensors()]
        if self._made is None or not all(np.array_equal(a, b) for a, b in zip(self._made[0], now)):
            self._made = [a.copy() for a in now], self.to_int8()
        return self._made[1]

    def to_int8(    # type: ignore[override]  # a plan even without data: training has found the ranges
            self, calibration: Any = None, observer: Any = None, per_channel: bool | None = None,
            rounding: str | None = None, weights: str | None = None, skip: Sequence[str] | None = None,
            repairs: Sequence[str] | None = None, max_drop: float | None = None, validation: Any = None,
            progress: bool | None = None, group: int | None = None) -> Plan:
        """Convert to int8, with the ranges that training has found and the options of `prepare_qat`.

        Nothing is left to choose. The arguments are those of `Module.to_int8`, and each but None is refused.

        Args:
            calibration: None; there are no ranges left to find.
            observer: None.
            per_channel: None; `prepare_qat` takes it.
            rounding: None.
            weights: None.
            skip: None; `prepare_qat` takes it.
            repairs: None.
            max_drop: None.
            validation: None.
            progress: None.
            group: None.

        Returns:
            A Plan, which takes and returns float32.

        Raises:
            DtypeError: calibration data or an option is given.
        """
        options = {"calibration": calibration, "observer": observer, "per_channel": per_channel, "rounding": rounding,
                   "weights": weights, "skip": skip, "repairs": repairs, "max_drop": max_drop, "validation": validation,
                   "progress": progress, "group": group}
        given = [name for name, value in options.items() if value is not None]
        if given:
            raise DtypeError("to_int8: a model prepared for quantization-aware training has its ranges and options from "
                             f"there, got {', '.join(given)}")
        scales = {v: self.weights[i].chosen() for v, i in self._weight.items()}
        own = {v: self.activations[i].range() for v, i in self._activation.items()}
        source = CalibrationInfo("qat", int(self.samples.array), self.found.digest)
        return Lowering(self.graph, {**self.found.ranges, **own}, self.options,
                        {v: s for v, s in scales.items() if s is not None}, calibration=source).plan

    def to_fp16(self, skip: Sequence[str] = ()) -> NoReturn:
        """Always raises an error, because the model computes in int8.

        Args:
            skip: not used; it is an argument of `Module.to_fp16`.

        Returns:
            Nothing.

        Raises:
            DtypeError: always.
        """
        raise DtypeError("to_fp16: a model prepared for quantization-aware training becomes int8, by to_int8(); the floats "
                         "that it trains are its attribute `model`")

    def quantize(self, value: int, x: Tensor) -> Tensor:
        """Fake-quantize a value of the graph, after its range has followed it unless that is frozen.

        Args:
            value: the number of the value in the graph.
            x: the value, of any shape.

        Returns:
            A Tensor of the shape of x, through which gradients pass.
        """
        return self.activations[self._activation[value]](x, self.frozen)

    def describe(self) -> str:
        at = int(self.freeze_at.array)
        return f"step {int(self.steps.array)}, " + ("frozen" if self.frozen else "not frozen" if at == NEVER else
                                                   f"freezes at {at}")


class _Training:
    """One forward in training mode. As in Lowering, every value is plain (floats or ids), fake-quantized, or both."""

    def __init__(self, owner: QATModel, inputs: list[Tensor], batch: int):
        self.owner, self.batch, self.graph = owner, batch, owner._fused
        self.plain: dict[int, Tensor] = dict(zip(self.graph.inputs, inputs))
        self.quantized: dict[int, Tensor] = {}
        self.constants = {i: resolve_constant(c, batch) for i, c in owner.graph.constants.items()}

    def run(self) -> Any:
        """The result of the model's forward."""
        for node in self.owner._early:      # on the tape, because their operands may be parameters
            operands = [None if i is None else self.constants[i] for i in node.inputs]
            self.constants[node.output] = apply(node.op, *operands, **node.attrs)
        for node in self.graph.nodes:
            try:
                self.step(node)
            except TinymlError as error:
                error.passing(str(node))
                raise
        results = [self.floats(o) for o in self.graph.outputs]
        return pack_outputs(results, self.graph.single_output, self.graph.output_names)

    def floats(self, value: int) -> Tensor:
        """A value as it is; fake-quantized if it exists in codes only."""
        return self.plain[value] if value in self.plain else self.quantized[value]

    def codes(self, value: int) -> Tensor:
        """A value fake-quantized; ids as they are."""
        if value not in self.quantized:
            x = self.plain[value]
            self.quantized[value] = self.owner.quantize(value, x) if x.dtype in FLOATS else x
        return self.quantized[value]

    def operand(self, node: Node, value: int) -> Tensor:
        """A value as the step of the node reads it."""
        island = self.owner._rules[node.output] == "island"
        if value not in self.constants:
            return self.floats(value) if island else self.codes(value)
        c = self.constants[value]
        if island or node.op.own_codes or c.numel() == 1:
            return c
        # a constant that an integer step adds or multiplies has codes of its own range
        return ActivationQuantizer(float(c.array.min()), float(c.array.max()), learned=False)(c, True)

    def step(self, node: Node) -> None:
        """Compute the result of a node, by the rule that lowering found for it."""
        rule, out = self.owner._rules[node.output], node.output
        operands = [None if i is None else self.operand(node, i) for i in node.inputs]
        if rule == "codes":
            self.quantized[out] = apply(node.op, *operands, **resolve(node.attrs, self.batch))
            return
        if out in self.owner._weight:
            y = self.product(node)
        elif node.norm is not None:
            y = self.normalise(apply(node.op, *operands, **node.attrs), node.norm)
        elif node.op.batch_norm:
            y = self.normalise(self.operand(node, node.operand(0)), BatchNorm.of(node))
        else:
            y = apply(node.op, *operands, **resolve(node.attrs, self.batch))
        if out in self.owner._clamps:
            lo, hi = self.owner._clamps[out]
            y = apply(pointwise.ReLU, y) if (lo, hi) == (0, np.inf) else y.clip(lo, hi)
        if rule == "island":
            self.plain[out] = y
        else:
            self.quantized[out] = self.owner.quantize(out, y)

    def product(self, node: Node) -> Tensor:
        """A convolution or linear layer with fake-quantized weights, and its batch norm folded."""
        owner, op, attrs, by = self.owner, node.op, node.attrs, node.norm
        x, weight = (self.operand(node, node.operand(i)) for i in (0, 1))
        bias = None if node.inputs[2] is None else self.operand(node, node.inputs[2])
        if op.batch_norm:       # by itself it is a depthwise convolution by 1
            by = BatchNorm.of(node)
            op, weight, bias = conv.Conv2d, Tensor(np.ones((weight.shape[0], 1, 1, 1), np.float32)), None
            attrs = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": len(weight)}
        quantizer = owner.weights[owner._weight[node.output]]
        s_x = owner.activations[owner._activation[owner._source[node.operand(0)]]].codec().scale
        if by is None:
            w, b = quantizer(weight, bias, s_x, owner.frozen)
            return apply(op, x, w, b, **attrs)
        gamma, beta, mean, variance = (self.constants[i] for i in by.inputs)
        g = gamma * (1 / np.sqrt(variance.array + np.float32(by.eps)))
        if owner.frozen:
            folded = norm.fold_batch_norm(weight, bias, g, beta, mean)
            # equal to the last bit to what lowering folds: otherwise a weight at a tie would round to another code
            exact = norm.fold_arrays(weight.array, None if bias is None else bias.array, gamma.array, beta.array,
                                     mean.array, variance.array, by.eps)
            w, b = (t + (value - t.array) for t, value in zip(folded, exact))
            return apply(op, x, *quantizer(w, b, s_x, True), **attrs)
        g = F.where(np.abs(g.array) < TINY, np.float32(TINY), g)
        w, _ = quantizer(weight * g.reshape(-1, *(1,) * (weight.ndim - 1)), None, s_x, False)
        row = (1, -1, *(1,) * (weight.ndim - 2))    # channels in the result, (B, N) or (B, N, H, W)
        y = apply(op, x, w, None, **attrs) / g.reshape(*row)
        return self.normalise(y if bias is None else y + bias.reshape(*row), by, w.array.any(axis=tuple(range(1, w.ndim))))

    def normalise(self, y: Tensor, by: BatchNorm, alive: np.ndarray | None = None) -> Tensor:
        """Batch norm by the moments of the batch, which the running moments follow; after the freeze, by the running ones.

        Args:
            y: the values to normalise, (B, N) or (B, N, H, W).
            by: the batch norm.
            alive: (N), whether any weight of each channel rounds to another code than 0. The running variance of the other
                channels is kept: otherwise it would fall towards 0, and g would grow without end, as would the scale of a
                layer that has one scale for all channels.
        """
        gamma, beta, mean, variance = (self.constants[i] for i in by.inputs)
        if self.owner.frozen or by.inputs[2] not in self.owner._norms.layers:
            return apply(norm.BatchNormEval, y, gamma, beta, mean, variance, eps=by.eps)
        moments: list[np.ndarray] = []      # those of the batch: the mean and the variance
        out = apply(norm.BatchNorm, y, gamma, beta, None, None, eps=by.eps, moments=moments)
        layer, n = self.owner._norms.layers[by.inputs[2]], out.numel() // out.shape[1]
        average, spread = moments
        if alive is not None:
            spread = np.where(alive, spread, layer.running_var.array * np.float32((n - 1) / n))
        layer.track(average, spread, n)
        return out
