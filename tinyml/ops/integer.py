"""Products with int8 weights, shared by linear, matmul and conv2d.

Dynamic: float32 activations are quantized per row as they come, equation (9). Eager: int8 activations give float32, or
int8 where the call names an output scale and zero point, equations (4) and (5). Lowered: a step of an integer plan.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import checks
from .._kernels.layout import nchw, nhwc
from .._kernels.products import fixed_point, integer_layer
from .._kernels.products.dynamic_linear import dynamic_linear as multiply_arrays
from .._kernels.products.windows import Window, scratch, sweep
from .._kernels.rows.codes import quantize_rows, to_signed, to_unsigned
from ..errors import DtypeError, QuantizationError, ShapeError
from ..quantized import Quantized
from ..tensors import FLOATS, Tensor, TensorLike
from .op import Codec, IntegerStep, Op, Shape, Target

LARGE = 2**24       # elements of a result that alone tell that a step is too large to be tried


class WeightedOp(Op):
    """Base of products with weights: operands x, weight (N, ...) and bias (N) or None."""

    optional = (2,)
    one_precision = True
    stored = (1,)
    has_weights = True
    own_codes = True
    multiplies = True

    @staticmethod
    def window(weight_shape: Shape, attrs: dict[str, Any]) -> Window:
        """The window that the weight slides over x: that of a linear layer by default, one pixel."""
        return Window()

    @classmethod
    def as_product(cls, ndim: int, parameters: list[Any], attrs: dict[str, Any]) -> tuple[Any, Any, Window] | None:
        weight, bias = parameters
        return weight, bias, cls.window(weight.shape, attrs)

    @classmethod
    def lower(cls, operands: list[Any], target: Target, attrs: dict[str, Any]) -> IntegerStep | None:
        x, weight, bias = operands
        if x.codec is None or weight.value is None or (bias is not None and bias.value is None):
            return None
        return lower_product(weight.value, None if bias is None else bias.value, x.codec, target,
                             cls.window(weight.shape, attrs))

    @staticmethod
    def backward_flops(needs: list[bool]) -> float:
        return float(sum(needs[:2]))        # the gradient to the bias is no product


def _check_weight(name: str, q: Quantized) -> None:
    if q.axis not in (None, 0):
        raise DtypeError(f"{name}: expected weight scales per tensor or along axis 0 (output channels), got axis {q.axis}")
    if q.zero_point.any():
        raise DtypeError(f"{name}: expected weights with zero point 0 (symmetric, to_int8(axis=0)), got "
                         f"{q.zero_point.ravel()[:3]}")


def pack_codes(name: str, codes: np.ndarray, zero_point: int, window: Window) -> integer_layer.IntegerLayer:
    """The packed form of weights of these codes (N, C/groups[, kh, kw]), for activations of this zero point.

    Raises:
        QuantizationError: sums can leave int32.
    """
    codes = codes if codes.ndim == 4 else codes[:, :, None, None]
    check_reach(name, codes, zero_point)
    return integer_layer.IntegerLayer(codes, None, zero_point, window)


def _pack_once(name: str, codes: np.ndarray, q: Quantized, zero_point: int, window: Window) -> integer_layer.IntegerLayer:
    """What pack_codes makes of the codes of q, kept beside them."""
    key = zero_point, window
    if q.packed is None or q.packed[0] != key:
        q.packed = key, pack_codes(name, codes, zero_point, window)
    layer: integer_layer.IntegerLayer = q.packed[1]
    return layer


def multiply_rows(x: Tensor, codes: np.ndarray, q: Quantized, bias: Tensor | None, activation: str = "identity") -> Tensor:
    """activation(x (..., K) @ w (N, K)^T + bias (N)) of float x and int8 w, the codes of q: (..., N) in float32; equation
    (9).

    x is quantized per row, and per group of weights where w has groups, as it comes.

    Raises:
        DtypeError, ShapeError: operands of other kinds or shapes; QuantizationError: sums can leave int32.
    """
    if codes.ndim != 2 or not x.ndim or x.shape[-1] != codes.shape[1]:
        raise ShapeError(f"linear: expected input (..., {codes.shape[-1]}) for weight {codes.shape}, got {x.shape}")
    _check_weight("linear", q)
    if x.dtype not in FLOATS:
        raise DtypeError(f"linear: expected float or int8 activations, got {x.dtype}")
    n, k = codes.shape
    b = _float_bias("linear", bias, n)
    if (q.group or k) * 127 * 128 > fixed_point.INT32_MAX:
        check_reach("linear", codes, 0)
    rows = x.array.reshape(math.prod(x.shape[:-1]), k)
    scale = q.scale if q.scale.ndim else np.full(n, q.scale)
    return Tensor._of(multiply_arrays(rows, codes, scale, b, q.group, activation).reshape(*x.shape[:-1], n))


def _float_bias(name: str, bias: Tensor | None, channels: int) -> np.ndarray | None:
    """The bias as float32 (channels), None if it is absent.

    Raises:
        DtypeError, ShapeError: it is int8, or has another shape.
    """
    if bias is None:
        return None
    if bias.quantized is not None:
        raise DtypeError(f"{name}: expected a float bias, got int8")
    if bias.shape != (channels,):
        raise ShapeError(f"{name}: expected bias ({channels},), got {bias.shape}")
    return np.ascontiguousarray(bias.array, np.float32)


def check_reach(name: str, codes: np.ndarray, zero_point: int) -> None:
    """Raise QuantizationError unless all sums of codes (N, ...) by activations fit in int32."""
    reach = fixed_point.accumulator_bound(codes, np.zeros(len(codes), np.int64), zero_point).max(initial=0)
    if reach > fixed_point.INT32_MAX:
        raise QuantizationError(f"{name}: sums of {codes[0].size} products can reach {reach}, past int32; "
                                "use a larger weight scale" + ("; or weights in groups, to_int8(group=32), whose sums are "
                                                               "of 32 products" if codes.ndim == 2 else ""))


def multiply(name: str, x: Tensor, w: Tensor, bias: Tensor | None, window: Window, scale: TensorLike | None,
             zero_point: TensorLike | None) -> Tensor:
    """Multiply x (B, C, H, W), float or int8, by int8 w (N, C/groups, kh, kw) or (N, C): (B, N, OH, OW).

    Float x: dynamic, equation (9). int8 x: the result is float32, or with an output scale int8, equations (4) and (5).

    Raises:
        DtypeError: int8 activations with float weights, activations with several scales, an output scale for float
        activations, or an output zero point that is no integer; ShapeError: shapes do not fit; QuantizationError: sums can
        leave int32.
    """
    q, source = w.quantized, x.quantized
    if q is None:
        raise DtypeError(f"{name}: int8 activations need int8 weights, got weights of {w.dtype}; quantize them with "
                         "to_int8(axis=0) or dequantize() the activations")
    _check_weight(name, q)
    if q.group is not None:
        raise DtypeError(f"{name}: weights in groups of {q.group} go with float activations, in linear layers and "
                         "embeddings only; quantize them with to_int8(axis=0)")
    b = _float_bias(name, bias, w.shape[0])
    channels = w.shape[1] * window.groups
    if x.ndim != 4 or x.shape[1] != channels or w.shape[0] % window.groups:
        raise ShapeError(f"{name}: expected {channels} input channels for int8 weights of shape {w.shape} and "
                         f"{window.groups} groups, got {x.shape}")
    check_output(name, x.shape, window, w.shape[0])
    w_scale = np.broadcast_to(q.scale, (w.shape[0],)).astype(np.float32)
    if source is None:
        if x.dtype not in FLOATS:
            raise DtypeError(f"{name}: expected float or int8 activations, got {x.dtype}")
        if scale is not None:
            raise DtypeError(f"{name}: an output scale goes with int8 activations, got {x.dtype}")
        layer = _pack_once(name, w.array, q, 0, window)
        u, rows = quantize_rows(nhwc(x.array.astype(np.float32, copy=False)))
        return Tensor._of(nchw(layer.floats(u, rows, w_scale, b)))
    if source.axis is not None:
        raise DtypeError(f"{name}: expected int8 activations with one scale per tensor, got one per index of axis "
                         f"{source.axis}")
    u, z = to_unsigned(nhwc(x.array)), int(source.zero_point)
    if scale is None:
        layer = _pack_once(name, w.array, q, z, window)
        rows = np.full(len(u), source.scale, np.float32)
        return Tensor._of(nchw(layer.floats(u, rows, w_scale, b)))
    s_y = fixed_point.check_scale(checks.array(name, "the output scale", scale, "iuf"), f"{name}: output scale")
    output = Quantized(s_y, 0 if zero_point is None else zero_point, None, ())
    # both in float64 by name: NumPy 1 takes float32 where one of them has no dimension
    real = float(source.scale) * w_scale.astype(np.float64)
    if b is not None and not np.isfinite(b).all():
        raise QuantizationError(f"{name}: bias: expected finite values, got NaN or infinity")
    q_bias = np.zeros(len(real)) if b is None else np.clip(np.rint(b / real), -2.0**62, 2.0**62)
    q_bias = q_bias.astype(np.int64)
    codes = w.array if w.array.ndim == 4 else w.array[:, :, None, None]
    bound = fixed_point.accumulator_bound(codes, q_bias, z)
    if (bound > fixed_point.INT32_MAX).any():
        raise QuantizationError(f"{name}: accumulators of output channel {int(bound.argmax())} can reach {bound.max()}, "
                                "past int32; use larger weight or activation scales")
    requant = integer_layer.Requant(real / float(output.scale), int(output.zero_point))
    y = integer_layer.IntegerLayer(codes, q_bias, z, window, requant).codes(u)
    return Tensor(nchw(to_signed(y)), scale=output.scale, zero_point=output.zero_point)


def check_output(name: str, shape: tuple[int, ...], window: Window, channels: int) -> None:
    """Raise ShapeError unless the window fits an input of `shape` (B, C, H, W), or OutOfMemoryError where there is no room
    for the result."""
    out = window.output(*shape[2:])
    if min(out) < 1:
        raise ShapeError(f"{name}: a window of {window.size} (dilation {window.dilation}) does not fit input {shape} with "
                         f"padding {window.padding}")
    if shape[0] * channels * out[0] * out[1] > 2**24:       # a small convolution takes 10 us, the check one
        checks.room(name, "the result", (shape[0], channels, *out))


def count_elements(x: tuple[int, ...], window: Window, channels: int) -> int:
    """Elements of the result of a convolution of an input of shape x (B, C, H, W), or of the padded input that a thread
    keeps for it, whichever are more."""
    b, c, *image = x
    out = window.output(*image)
    made = b * math.prod(out) * channels
    if min(out) < 1 or made > LARGE:        # beyond, the padded input may be more than can be addressed
        return made
    return max(made, scratch(sweep((b, *image, c), window, None, True)[0]))      # True: it is never read in place


def lower_product(weight: np.ndarray, bias: np.ndarray | None, x: Codec, target: Target, window: Window) -> IntegerStep:
    """A linear layer or convolution as an integer step; equations (2) to (5).

    weight (N, C/groups[, kh, kw]), bias (N) or None, both float32; x, what the codes of the activation stand for.
    """
    chosen, options = target.weight_scale, target.options
    if chosen is None and options.weights == "mse":
        chosen = fixed_point.clipped_weight_scales(weight, 0 if options.per_channel else None)
    codes, scale, q_bias, bound = fixed_point.quantize_layer(weight, bias, x.scale, x.zero_point,
                                                             options.per_channel, chosen)
    doubled = scale > fixed_point.layer_scales(weight, bias, x.scale, options.per_channel, chosen)
    real = np.float64(x.scale) * scale.astype(np.float64) / np.float64(target.codec.scale)
    fixed_point.multiplier(real)        # raises here, at conversion, where the output scale cannot be reached
    attrs = {"zero_in": x.zero_point, "zero_point": target.codec.zero_point, "lo": target.lo, "hi": target.hi,
             "scale_in": float(x.scale), "scale_out": float(target.codec.scale), "rounding": options.rounding,
             "size": list(window.size), "stride": list(window.stride), "padding": list(window.padding),
             "dilation": list(window.dilation), "groups": window.groups, "spatial": weight.ndim == 4,
             "bound": int(bound.max(initial=0)), "doubled": int(doubled.sum())}
    return IntegerStep("product", attrs, {"weight": codes, "scale": scale, "bias": q_bias})
