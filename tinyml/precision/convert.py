"""Conversion of models: to_int8() to weights stored as int8 or, with data, to a plan on codes; to_fp16() to weights stored
as float16; compile() to a float32 plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import checks
from .._kernels.products import fixed_point
from ..batches import keep_batches
from ..errors import DtypeError, QuantizationError
from ..graph import trace
from ..nn.module import Module, Parameter, as_parameter, conversions, is_inside
from ..ops.integer import check_reach
from ..options import OBSERVER, Options
from ..plan.lowering import lower
from ..plan.plan import Plan
from ..quantized import GROUPS, group_scales, is_group
from ..tensors import FLOATS, Tensor
from .analysis.budget import search_mixture
from .analysis.score import Score
from .static import check_layers, check_options, make_lowering


def to_int8(model: Module, calibration: Any = None, observer: Any = OBSERVER, per_channel: bool = True,
            rounding: str = "single", weights: str = "max", skip: Sequence[str] = (), repairs: Sequence[str] = (),
            max_drop: float | None = None, validation: Any = None, progress: bool = False,
            group: int | None = None) -> Module:
    """An int8 copy of a float model, which itself stays as it is.

    Without `calibration` the copy is dynamic. The weights of linear layers, convolutions and embeddings are stored as int8,
    with one scale per output channel. Activations stay float32 between layers, are quantized per row at each layer, and are
    multiplied as integers:

        y = (q_x @ q_w^T) * s_x * s_w + bias,    s_x = max|x| / 127 of each row, equation (9)

    With `calibration` the copy is static: the model is traced, the ranges of its activations are taken from the data, and
    the whole graph runs on int8 codes, equations (1) to (8).

    Args:
        model: a Module with float parameters; `model.to_int8(...)` is this function.
        calibration: batches of inputs or of (inputs, targets). Some hundred typical samples are enough. For a model of
            several inputs, `inputs` is a tuple of them, or a dict from the names of forward's arguments.
        observer: how ranges come from the data: "minmax", "moving_average", "percentile", "entropy", "mse", or a class or
            function that makes an Observer; or a dict of these by layer, with "" for all other layers. Static only.
        per_channel: one weight scale per output channel, otherwise one per layer.
        rounding: "single", or "double" as gemmlowp rounds, equation (5). Static only.
        weights: "max" (no weight is clipped) or "mse" (weights are clipped where that lowers the squared error).
        skip: names of the layers that stay float, with all layers inside them.
        repairs: which of "equalize", "migrate_scales", "learn_rounding", "correct_bias" are done, in this order; see
            precision.repairs. A repair that finds nothing to do gives a warning, and is not in `info.repairs`. Static only.
        max_drop: how much worse than the float model the result may be on the data: in points of accuracy, or of agreement
            with the float model if there are no targets; for sequences and float targets, the increase of the loss. As few
            layers as the search finds stay float, and `info.frontier` of the result has the mixtures that were seen. The
            data are read once and kept in memory. Static only.
        validation: the data for `max_drop`; None for those of `calibration`.
        progress: whether to show a bar.
        group: 32 or 64, the number of weights of an output channel, and of activations of a row, that share one scale. This
            is finer, and takes 4 more bytes per group. It applies to linear layers and embeddings; convolutions keep one
            scale per channel. Dynamic only.

    Returns:
        Dynamic: a copy of the model in evaluation mode. Static: a Plan. Both take and return float32.

    Raises:
        TraceError: the forward cannot be recorded.
        QuantizationError: NaN or infinity in weights or data, no data, or a `max_drop` that cannot be met.
        DtypeError: the model is already int8 or has nothing to quantize, or a layer or an option is unknown.
        ShapeError: a number out of range.

    Source: Jacob et al. 2018; `docs/quantization.md` derives the equations.

    Example:
        >>> import numpy as np
        >>> from tinyml import nn
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
        >>> x = np.linspace(-1, 1, 80, dtype=np.float32).reshape(10, 8)
        >>> model.to_int8()[0].weight.dtype
        dtype('int8')
        >>> [step.kind for step in model.to_int8(calibration=x).steps]
        ['quantize', 'product', 'product', 'dequantize']
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
    calibration = keep_batches("calibration", calibration)
    lowering = make_lowering(model, calibration, options, progress)
    score = Score(model.copy().eval(), calibration if validation is None else validation)
    return search_mixture(lowering, score, max_drop, progress)


def change_stored(model: Module, skip: Sequence[str], change: Any) -> Module:
    """A copy of `model` in evaluation mode with change(t) in place of each weight t that layers store, outside `skip`.

    Layers declare these weights as `stored_weights`. A weight that is tied to one of a skipped layer stays as it is too.

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
        t.requires_grad, t.grad = False, None       # neither stored weights nor the layers before them can be trained
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
        x = t.array.astype(np.float32)
        if group is not None and t.ndim == 2:
            return t.detach().to_int8(group_scales(x, group, choose), group=group)
        stored = t.detach().to_int8(choose(x, axis), 0, axis=axis)
        check_reach("to_int8", stored.array, 0)      # so that an overflow is an error here, not at the first call
        return stored

    return change_stored(model, options.skipped, one)


def to_fp16(model: Module, skip: Sequence[str] = ()) -> Module:
    """A copy whose weights (of linear layers, convolutions and embeddings) are stored as float16, in half the bytes.

    Activations, sums, biases and norms stay float32, equation (12). What is int8 already stays int8, so
    `model.to_int8(skip=["head"]).to_fp16()` has float16 in the head only.

    Args:
        model: a Module with float32 weights; `model.to_fp16(...)` is this function.
        skip: names of the layers that stay as they are, with all layers inside them.

    Returns:
        A copy of the model in evaluation mode.

    Raises:
        QuantizationError: a weight above 65504, the largest float16; names it.
        DtypeError: a Plan, a model without float32 weights, or an unknown layer.

    Example:
        >>> from tinyml import nn
        >>> half = nn.Sequential(nn.Linear(8, 16)).to_fp16()
        >>> half[0].weight.dtype, half[0].bias.dtype
        (dtype('float16'), dtype('float32'))
    """
    if isinstance(checks.instance("to_fp16", "model", model, Module), Plan):
        raise DtypeError("to_fp16: a Plan holds packed weights; convert the float model, then call to_int8 with skip=...")
    skip = check_layers("to_fp16: skip", model, skip)
    changed = change_stored(model, skip, lambda t: t.detach().to_fp16() if t.dtype in FLOATS else t)
    if not any(t.dtype == np.float16 for _, t in changed.named_tensors()):
        raise DtypeError(f"to_fp16: {type(model).__name__} has int8 weights only")
    return changed


def compile_model(model: Module, *example: Any) -> Plan:
    """The model in evaluation mode as a float32 Plan, which computes the same with less overhead.

    The forward is traced. Batch norm is folded into the convolution before it, ReLU and clip into the layer before them;
    weights are packed once, and values share memory that is laid out for each batch size. The plan has a copy of the
    parameters as they are now, so further training does not change it. Its results differ from those of the model by
    rounding only: folded weights are rounded once, and if few rows are multiplied, products are summed in another order.

    Args:
        model: a Module with float parameters; `model.compile(...)` is this function.
        example: one typical input for each argument of forward, or one dict of them by name. The first dimension is the
            batch, which may be of any size later; the other dimensions are fixed.

    Returns:
        A Plan that takes and returns float32.

    Raises:
        TraceError: the forward cannot be recorded, or the model is a plan or has int8 weights.

    Example:
        >>> import numpy as np
        >>> from tinyml import nn
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
        >>> plan = model.compile(np.zeros((1, 8), np.float32))
        >>> plan(np.ones((3, 8), np.float32)).shape, len(plan.steps)
        ((3, 16), 1)
    """
    return lower(trace(model, *example), {}, skip=("",))


conversions.update(to_int8=to_int8, to_fp16=to_fp16, compile=compile_model)
