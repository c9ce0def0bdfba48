"""Quantizing a model in one call, and arrays and products by hand."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import checks
from .._kernels.products import fixed_point
from ..errors import DtypeError, QuantizationError, ShapeError
from ..nn import functional as F
from ..nn.module import Module
from ..tensors import Tensor, as_tensor
from .models import check_model


def quantize_int8(model: Module) -> Module:
    """An int8 copy of a model, made without any data by `model.to_int8()`.

    Weights are stored as int8 with one scale per output channel. Activations are quantized per row as they come, equation
    (9).

    Args:
        model: the float model, which itself stays as it is.

    Returns:
        The int8 copy, in evaluation mode.

    Raises:
        QuantizationError, DtypeError: as `to_int8`.

    Example:
        >>> from tinyml import models
        >>> quantize_int8(models.MLP(4, 2))[1].weight.dtype.name
        'int8'
    """
    return check_model("quantize_int8", model).to_int8()


def quantize_model(model: Module, calibration_loader: Any) -> Module:
    """An int8 copy of a model that runs on codes from end to end, equations (4) to (8).

    It is `model.to_int8(calibration=calibration_loader)`.

    Args:
        model: the float model, which itself stays as it is.
        calibration_loader: batches of inputs or of (inputs, targets), from which the ranges of activations are taken.

    Returns:
        A Plan, which takes and returns float32.

    Raises:
        TraceError, QuantizationError, DtypeError: as `to_int8`.

    Example:
        >>> import numpy as np
        >>> from tinyml import models
        >>> type(quantize_model(models.MLP(4, 2), [np.ones((8, 4), np.float32)])).__name__
        'Plan'
    """
    return check_model("quantize_model", model).to_int8(calibration=calibration_loader)


def quantized_forward(input: Any, quantized_weights: Any, scales: Any, bias: Any = None) -> Tensor:
    """y = input @ (scales * quantized_weights)^T + bias in float32, multiplied as integers.

    Each row of the input is quantized by itself as it comes, equation (9).

    Args:
        input: (..., K).
        quantized_weights: (N, K) of int8, or of whole numbers in [-128, 127] in any dtype, as
            (weights / scales).round().clip(-128, 127) gives them.
        scales: one for all weights, or one per row, as (N,) or (N, 1).
        bias: (N,), or None for no bias.

    Returns:
        (..., N).

    Raises:
        QuantizationError: the weights are not codes, or a scale is not finite and positive.
        ShapeError, DtypeError: the operands do not fit together.

    Example:
        >>> y = quantized_forward([[1.0, 1.0]], [[100, 27], [-50, 0]], 0.01)
        >>> [round(v, 2) for v in y.numpy()[0].tolist()]
        [1.27, -0.5]
    """
    codes = checks.array("quantized_forward", "quantized_weights", quantized_weights)
    if codes.ndim != 2 or codes.dtype.kind not in "fiu":
        raise ShapeError(f"quantized_forward: expected weights (N, K), got {codes.dtype} of shape {codes.shape}")
    if codes.dtype != np.int8 and not ((codes == np.rint(codes)) & (codes >= -128) & (codes <= 127)).all():
        raise QuantizationError("quantized_forward: expected int8 codes, whole numbers in [-128, 127]; quantize weights by "
                                "(weights / scales).round().clip(-128, 127)")
    if isinstance(scales, dict):
        raise DtypeError("quantized_forward: expected the scales of these weights, got a dict; pass scales[name]")
    scale = checks.array("quantized_forward", "scales", scales).reshape(-1)
    one = scale.size == 1
    weight = Tensor(codes.astype(np.int8), scale=scale[0] if one else scale, axis=None if one else 0)
    return F.linear(as_tensor(input), weight, None if bias is None else as_tensor(bias))


class Codes(NamedTuple):
    """int8 codes with their scale, or with one scale per index of the quantizer's axis."""

    codes: np.ndarray
    scale: np.ndarray


class Int8Quantizer:
    """Symmetric int8 for arrays, codes rint(x / scale) with scale max|x| / 127, equation (2); or for a model.

    Args:
        model: the model that `quantize` converts; None for a quantizer of arrays.
        axis: the dimension that has one scale per index; None for one scale for all.

    Raises:
        DtypeError: `model` is not a tinyml model, or `axis` is not a whole number.

    Example:
        >>> quantizer = Int8Quantizer()
        >>> codes, scale = quantizer.quantize([0.5, -1.27])
        >>> codes.tolist(), round(float(scale), 4)
        ([50, -127], 0.01)
        >>> [round(v, 2) for v in quantizer.dequantize(codes, scale).tolist()]
        [0.5, -1.27]
    """

    def __init__(self, model: Module | None = None, axis: int | None = None):
        self.model = model if model is None else check_model("Int8Quantizer", model)
        self.axis = None if axis is None else checks.axis("Int8Quantizer", axis)

    def quantize(self, x: Any = None) -> Any:
        """Quantize an array or a Tensor; or, if the quantizer was made with a model, that model.

        Args:
            x: the array; for a model, batches to calibrate with, or None for an int8 copy without data.

        Returns:
            The named tuple (codes, scale) of the array, or the int8 copy of the model.

        Raises:
            QuantizationError: `x` has a NaN or an infinity.
            ShapeError: `x` has no such axis.
            DtypeError: there is neither a model nor an array.
        """
        if self.model is not None:
            return quantize_int8(self.model) if x is None else quantize_model(self.model, x)
        if x is None:
            raise DtypeError("Int8Quantizer: expected an array, quantize(x), or a model, Int8Quantizer(model).quantize()")
        t = as_tensor(x).detach().dequantize()
        if self.axis is not None and not -t.ndim <= self.axis < t.ndim:
            raise ShapeError(f"Int8Quantizer: axis {self.axis} of an array of shape {t.shape}")
        axis = None if self.axis is None else self.axis % t.ndim
        q = t.to_int8(fixed_point.weight_scales(t.array, axis), 0, axis)
        return Codes(q.array, np.asarray(q.scale))

    def dequantize(self, codes: Any, scale: Any = None) -> np.ndarray:
        """scale * codes in float32: dequantize(codes, scale), or dequantize(quantize(x)).

        Args:
            codes: whole numbers in [-128, 127], of any shape; or the (codes, scale) that `quantize` returned.
            scale: one number, or one per index of the quantizer's axis; None if `codes` has it.

        Returns:
            A float32 array of the shape of the codes.

        Raises:
            QuantizationError: a code is outside [-128, 127].
            DtypeError: the scale is missing, or the codes are not integers.
        """
        if scale is None:
            if not isinstance(codes, tuple) or len(codes) != 2:
                raise DtypeError("Int8Quantizer: expected dequantize(codes, scale), or what quantize gave, got "
                                 f"{checks.described(codes)}")
            codes, scale = codes
        codes = checks.array("Int8Quantizer", "codes", codes, "iu")
        if codes.size and (codes.min() < -128 or codes.max() > 127):
            raise QuantizationError(f"Int8Quantizer: expected codes in [-128, 127], got {codes.min()} to {codes.max()}")
        return Tensor(codes.astype(np.int8), scale=scale, axis=self.axis).dequantize().array
