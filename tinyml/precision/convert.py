"""Models converted: model.compile() to a float plan; to_int8() to weights stored as int8, or with data to a plan on codes;
to_fp16() to weights stored as float16."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from .._kernels import fixed_point
from ..errors import DtypeError, QuantizationError
from ..graph import trace
from ..nn.module import Module, conversions, is_inside
from ..tensor import FLOATS, INT8, Tensor
from .calibrate import calibrate, inputs_of
from .lower import WEIGHTS, lower
from .observers import observer_for, observer_name, unmatched
from .plan import Plan

OBSERVER = "mse"     # the default: docs/accuracy.md has the table that chose it


def to_int8(model: Module, calibration: Any = None, observer: Any = OBSERVER, per_channel: bool = True,
            rounding: str = "single", weights: str = "max", skip: Sequence[str] = (), progress: bool = False) -> Module:
    """An int8 copy of a float model; the model itself stays as it is.

    Without `calibration`, dynamic: weights that layers declare (`stored_weights`: linear, conv2d, embedding) are stored
    as int8, activations are quantized per row as they come and multiplied as integers, equation (9). With it, static: the
    model is traced, ranges are taken from the data, and the whole graph runs on codes, equations (4) to (8).

    Args:
        calibration: an iterable of arrays, Tensors or (input, target) pairs; some hundred typical samples are enough.
            For a model of several inputs, `input` is a tuple of them.
        observer: how ranges come from the data: "minmax", "moving_average", "percentile", "entropy", "mse", or what makes
            an Observer, as a class or a lambda; or a dict of these by layer, "" for all others. Static only.
        per_channel: one weight scale an output channel, else one a layer.
        rounding: "single" or "double" (gemmlowp's), static only.
        weights: "max" (no weight is clipped) or "mse" (clipped where that lowers the squared error).
        skip: names of layers that stay float, with all inside them.

    Raises:
        TraceError: the forward cannot be recorded; QuantizationError: NaN or infinity in weights or data, or no data;
        DtypeError: the model is already int8, has nothing to quantize, or a layer or option is unknown.
    """
    if isinstance(model, Plan) or any(t.dtype == INT8 for _, t in model.named_tensors()):
        raise DtypeError(f"to_int8: {type(model).__name__} is already int8, or a plan: convert the float model")
    if weights not in WEIGHTS:
        raise DtypeError(f"to_int8: expected weights {' or '.join(WEIGHTS)}, got {weights!r}")
    skip = checked_layers("to_int8: skip", model, skip)
    if calibration is None:
        if rounding != "single" or observer != OBSERVER:
            raise DtypeError("to_int8: observer and rounding are options of static int8, which needs calibration data")
        return _dynamic(model, per_channel, weights, skip)
    if isinstance(calibration, (np.ndarray, Tensor)):
        calibration = [calibration]
    batches = iter(calibration) if hasattr(calibration, "__iter__") else calibration
    first = next(inputs_of(batches), None)
    if first is None:
        raise QuantizationError("calibration: expected at least one batch of data, got none")
    if any(x.dtype.kind == "f" and not np.isfinite(x).all() for x in first):
        raise QuantizationError("calibration: NaN or infinite values in the input, batch 0; expected finite data")
    choose = observer_for(observer)
    checked_layers("to_int8: observer", model, unmatched(observer, [name for name, _ in model.named_modules()]))
    graph = trace(model, *first)
    found = calibrate(graph, chain([(first,)], batches), choose, progress)
    plan = lower(graph, found.ranges, per_channel, rounding, weights, skip)
    plan.info["calibration"] = {"observer": observer_name(observer), "samples": found.samples, "digest": found.digest}
    return plan


def checked_layers(what: str, model: Module, names: Sequence[str]) -> list[str]:
    """`names`, each of which is a layer of `model`.

    Raises:
        DtypeError: one is not; names the layers there are.
    """
    known = [name for name, _ in model.named_modules() if name]
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in known:
            raise DtypeError(f"{what}: {type(model).__name__} has no layer {name!r}; its layers are {', '.join(known)}")
    return names


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

    def one(name: str, t: Tensor) -> Tensor:
        t.requires_grad, t.grad = False, None       # stored weights are not trained, and nothing before them
        if id(t) not in stored or id(t) in kept:
            return t
        try:
            return change(t)
        except QuantizationError as error:
            error.passing(name)
            raise

    copy.replace_tensors(one)
    return copy


def _dynamic(model: Module, per_channel: bool, weights: str, skip: Sequence[str]) -> Module:
    choose = fixed_point.weight_scales if weights == "max" else fixed_point.clipped_weight_scales
    axis = 0 if per_channel else None
    return change_stored(model, skip, lambda t: t.detach().to_int8(choose(t.data.astype(np.float32), axis), 0, axis=axis))


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
    if isinstance(model, Plan):
        raise DtypeError("to_fp16: a Plan holds packed weights; convert the float model, then call to_int8 with skip=...")
    skip = checked_layers("to_fp16: skip", model, skip)
    changed = change_stored(model, skip, lambda t: t.detach().to_fp16() if t.dtype in FLOATS else t)
    if not any(t.dtype == np.float16 for _, t in changed.named_tensors()):
        raise DtypeError(f"to_fp16: {type(model).__name__} has int8 weights only")
    return changed


def compiled(model: Module, *example: Any) -> Plan:
    """The model in evaluation mode as a float32 Plan: what it computes, with less around it.

    The forward is traced; batch norm is folded into the convolution before it, ReLU and clip into the layer before them,
    weights are packed once, and values share memory that is planned for each batch size. The plan has the parameters as
    they are now, in a copy: training on does not change it. Its results differ from the model's by rounding only: folded
    weights are rounded once, and products are summed in another order where few rows are multiplied.

    Args:
        example: one typical input for each of forward's, first dimension the batch, which may be of any size later;
            other dimensions are fixed.

    Raises:
        TraceError: the forward cannot be recorded, or the model is a plan or has int8 weights.
    """
    return lower(trace(model, *example), {}, skip=("",))


conversions.update(to_int8=to_int8, to_fp16=to_fp16, compile=compiled)
