"""Models converted: model.compile() to a float plan; to_int8() to weights stored as int8, or with data to a plan on codes;
to_fp16() to weights stored as float16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import checks
from .._kernels import fixed_point
from ..errors import DtypeError, QuantizationError
from ..graph import trace
from ..nn.module import Module, Parameter, as_parameter, conversions, is_inside
from ..ops.integer import check_reach
from ..options import OBSERVER, Options
from ..plan.lowering import lower
from ..plan.plan import Plan
from ..quantized import GROUPS, group_scales, is_group
from ..tensor import FLOATS, Tensor
from .analysis.budget import search_mixture
from .analysis.score import Score
from .ranges.calibration import again
from .static import check_layers, check_options, make_lowering


def to_int8(model: Module, calibration: Any = None, observer: Any = OBSERVER, per_channel: bool = True,
            rounding: str = "single", weights: str = "max", skip: Sequence[str] = (), repairs: Sequence[str] = (),
            max_drop: float | None = None, validation: Any = None, progress: bool = False,
            group: int | None = None) -> Module:
    """An int8 copy of a float model; the model itself stays as it is.

    Without `calibration`, dynamic: weights that layers declare (`stored_weights`: linear, conv2d, embedding) are stored
    as int8, activations are quantized per row as they come and multiplied as integers, equation (9). With it, static: the
    model is traced, ranges are taken from the data, and the whole graph runs on codes, equations (4) to (8).

    Args:
        calibration: batches of inputs or of (inputs, targets); some hundred typical samples are enough. For a model of
            several inputs, `inputs` is a tuple of them, or a dict from the names of forward's arguments.
        observer: how ranges come from the data: "minmax", "moving_average", "percentile", "entropy", "mse", or what makes
            an Observer, as a class or a lambda; or a dict of these by layer, "" for all others. Static only.
        per_channel: one weight scale an output channel, else one a layer.
        rounding: "single" or "double" (gemmlowp's), static only.
        weights: "max" (no weight is clipped) or "mse" (clipped where that lowers the squared error).
        skip: names of layers that stay float, with all inside them.
        repairs: of "equalize", "migrate_scales", "learn_rounding", "correct_bias" those that are done, in this order
            (see precision.repairs). One that finds nothing to do warns, and is not in `info["repairs"]`. Static only.
        max_drop: at most how much the result may be worse than the float model on the data: points of accuracy, or of
            agreement with it where there are no targets; for sequences and float targets, how much higher the loss. The
            fewest layers found stay float; `info["frontier"]` of the result has the mixtures that were seen. The data are
            gone over once and kept in memory. Static only.
        validation: the data for `max_drop`, where they are not those of `calibration`.
        group: 32 or 64: a scale for each so many weights of an output channel, and for as many activations of a row: finer,
            for 4 bytes a group more. Linear layers and embeddings; convolutions have one scale a channel all the same.
            Dynamic only.

    Raises:
        TraceError: the forward cannot be recorded; QuantizationError: NaN or infinity in weights or data, or no data;
        DtypeError: the model is already int8, has nothing to quantize, or a layer or option is unknown;
        ShapeError: a number out of range.
    """
    options = check_options("to_int8", model, Options(observer, per_channel, rounding, weights, skip, repairs, group))
    progress = checks.flag("to_int8", "progress", progress)
    if calibration is None:
        if rounding != "single" or observer != OBSERVER or options.repairs or max_drop is not None:
            raise DtypeError("to_int8: observer, rounding, repairs and max_drop are options of static int8, which needs "
                             "calibration data")
        return _store_int8(model, options)
    if group is not None:
        raise DtypeError("to_int8: group is an option of dynamic int8, without calibration data")
    if max_drop is None:
        if validation is not None:
            raise DtypeError("to_int8: validation data are for max_drop, which is not given")
        return make_lowering(model, calibration, options, progress).plan
    max_drop = checks.number("to_int8", "max_drop", max_drop, 0)
    calibration = again("calibration", calibration)
    lowering = make_lowering(model, calibration, options, progress)
    score = Score(model.copy().eval(), calibration if validation is None else validation)
    return search_mixture(lowering, score, max_drop, progress)


def change_stored(model: Module, skip: Sequence[str], change: Any) -> Module:
    """A copy of `model` in evaluation mode in which change(t) stands for each stored weight t outside the layers `skip`.

    A weight that is tied to one in a skipped layer stays as it is too.

    Raises:
        DtypeError: there is no such weight.
    """
    copy = model.copy().eval()
    stored, kept = {}, set()
    for prefix, m in copy.named_modules():
        for t in (getattr(m, name) for name in m.stored_weights):
            stored[id(t)] = t
            if any(is_inside(prefix, name) for name in skip):
                kept.add(id(t))
    if not stored.keys() - kept:
        raise DtypeError(f"{type(model).__name__} has no layer with weights to store (linear, conv2d, embedding)"
                         + (f" outside {', '.join(skip)}" if skip else ""))

    changed: dict[int, Parameter] = {}

    def one(name: str, t: Tensor) -> Tensor:
        t.requires_grad, t.grad = False, None       # stored weights are not trained, and nothing before them
        if id(t) not in stored or id(t) in kept:
            return t
        if id(t) not in changed:        # once for tied ones
            try:
                changed[id(t)] = as_parameter(change(t), False)
            except QuantizationError as error:
                error.passing(name)
                raise
        return changed[id(t)]

    copy.replace_tensors(one)
    return copy


def _store_int8(model: Module, options: Options) -> Module:
    choose = fixed_point.weight_scales if options.weights == "max" else fixed_point.clipped_weight_scales
    axis, group = 0 if options.per_channel else None, options.group
    if group is not None and not (is_group(group) and options.per_channel):
        raise DtypeError(f"to_int8: expected group to be one of {GROUPS}, not with per_channel=False; got {group!r}")

    def one(t: Tensor) -> Tensor:
        x = t.data.astype(np.float32)
        if group is not None and t.ndim == 2:
            return t.detach().to_int8(group_scales(x, group, choose), group=group)
        stored = t.detach().to_int8(choose(x, axis), 0, axis=axis)
        check_reach("to_int8", stored.data, 0)      # here, rather than at the first call
        return stored

    return change_stored(model, options.skip, one)


def to_fp16(model: Module, skip: Sequence[str] = ()) -> Module:
    """A copy whose weights (linear, conv2d, embedding) are stored as float16, half the bytes; equation (12).

    Activations, sums, biases and norms stay float32; what is int8 already stays int8, so
    `model.to_int8(skip=["head"]).to_fp16()` has float16 only in the head.

    Args:
        skip: names of layers that stay as they are, with all inside them.

    Raises:
        QuantizationError: a weight above 65504, naming it; DtypeError: a Plan, a model without float32 weights, or an
        unknown layer.
    """
    if isinstance(checks.instance("to_fp16", "model", model, Module), Plan):
        raise DtypeError("to_fp16: a Plan holds packed weights; convert the float model, then call to_int8 with skip=...")
    skip = check_layers("to_fp16: skip", model, skip)
    changed = change_stored(model, skip, lambda t: t.detach().to_fp16() if t.dtype in FLOATS else t)
    if not any(t.dtype == np.float16 for _, t in changed.named_tensors()):
        raise DtypeError(f"to_fp16: {type(model).__name__} has int8 weights only")
    return changed


def compile_model(model: Module, *example: Any) -> Plan:
    """The model in evaluation mode as a float32 Plan: what it computes, with less around it.

    The forward is traced; batch norm is folded into the convolution before it, ReLU and clip into the layer before them,
    weights are packed once, and values share memory that is planned for each batch size. The plan has the parameters as
    they are now, in a copy: training on does not change it. Its results differ from the model's by rounding only: folded
    weights are rounded once, and products are summed in another order where few rows are multiplied.

    Args:
        example: one typical input for each of forward's, or one dict of them by name, first dimension the batch, which
            may be of any size later; other dimensions are fixed.

    Raises:
        TraceError: the forward cannot be recorded, or the model is a plan or has int8 weights.
    """
    return lower(trace(model, *example), {}, skip=("",))


conversions.update(to_int8=to_int8, to_fp16=to_fp16, compile=compile_model)
