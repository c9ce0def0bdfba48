"""model.to_int8(): dynamic (weights stored as int8) without calibration data, static (a Plan on codes) with it."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np

from .._kernels import fixed_point
from ..errors import DtypeError, QuantizationError
from ..graph import trace
from ..nn.module import Module, conversions
from ..tensor import INT8, Tensor
from .calibrate import calibrate, inputs_of
from .lower import check_float_inputs, lower
from .observers import observer_factory
from .plan import Plan


def to_int8(model: Module, calibration: Any = None, observer: Any = "minmax", per_channel: bool = True,
            rounding: str = "single", progress: bool = False) -> Module:
    """An int8 copy of a float model; the model itself stays as it is.

    Without `calibration`, dynamic: weights that layers declare (`int8_weights`: linear, conv2d, embedding) are stored as
    int8, activations are quantized per row as they come and multiplied as integers, equation (9). With it, static: the
    model is traced, ranges are taken from the data, and the whole graph runs on codes, equations (4) to (8).

    Args:
        calibration: an iterable of arrays, Tensors or (input, target) pairs; some hundred typical samples are enough.
        observer: how ranges come from the data: "minmax", "moving_average", "percentile", "mse", or what makes an
            Observer, as a class or a lambda; static only.
        per_channel: one weight scale an output channel, else one a layer.
        rounding: "single" or "double" (gemmlowp's), static only.

    Raises:
        TraceError: the forward cannot be recorded; QuantizationError: NaN or infinity in weights or data, or no data;
        DtypeError: the model is already int8, or has nothing to quantize.
    """
    if isinstance(model, Plan) or any(t.dtype == INT8 for _, t in model.named_tensors()):
        raise DtypeError(f"to_int8: {type(model).__name__} is already int8")
    if calibration is None:
        if rounding != "single" or observer != "minmax":
            raise DtypeError("to_int8: observer and rounding are options of static int8, which needs calibration data")
        return _dynamic(model, per_channel)
    if isinstance(calibration, (np.ndarray, Tensor)):
        calibration = [calibration]
    batches = iter(calibration) if hasattr(calibration, "__iter__") else calibration
    first = next(inputs_of(batches), None)
    if first is None:
        raise QuantizationError("calibration: expected at least one batch of data, got none")
    if first.dtype.kind == "f" and not np.isfinite(first).all():
        raise QuantizationError("calibration: NaN or infinite values in the input, batch 0; expected finite data")
    make = observer_factory(observer)
    graph = trace(model, first)
    check_float_inputs(graph)
    return lower(graph, calibrate(graph, chain([first], batches), make, progress), per_channel, rounding)


def _dynamic(model: Module, per_channel: bool) -> Module:
    copy = model.copy().eval()
    declared = {id(getattr(m, name)) for m in copy.modules() for name in m.int8_weights}
    if not declared:
        raise DtypeError(f"to_int8: {type(model).__name__} has no layer with weights to quantize (linear, conv2d, "
                         "embedding)")

    def change(name: str, t: Tensor) -> Tensor:
        t.requires_grad, t.grad = False, None       # gradients do not flow through int8
        if id(t) not in declared:
            return t
        try:
            scale = fixed_point.weight_scales(t.data, 0 if per_channel else None)
            return t.detach().to_int8(scale, 0, axis=0 if per_channel else None)
        except QuantizationError as error:
            error.passing(name)
            raise

    copy.replace_tensors(change)
    return copy


conversions["to_int8"] = to_int8
