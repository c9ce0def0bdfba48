"""Two-dimensional convolution (cross-correlation, as everywhere in deep learning)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .._kernels.layout import nhwc
from .._kernels.products import convolution
from .._kernels.products.windows import Pair, Window
from .._kernels.rows.columns import sum_columns
from ..errors import DtypeError, ShapeError
from ..tape import Context
from ..tensors import Tensor, TensorLike
from .integer import WeightedOp, check_output, count_elements, multiply
from .op import Gradients, Sample, Shape, normal, sample


def make_window(weight_shape: Shape, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Window:
    """The window of a convolution by a weight of this shape, checked.

    Raises:
        ShapeError: the weight has not four dimensions, or a number is out of range.
    """
    if len(weight_shape) != 4:
        raise ShapeError(f"conv2d: expected a weight of 4 dimensions (N, C/groups, kh, kw), got weight {weight_shape}")
    return Window(weight_shape[2:], stride, padding, dilation, groups, "conv2d")


class Conv2d(WeightedOp):
    """Two-dimensional cross-correlation: y = x * weight + bias.

        y[b, n, i, j] = bias[n] + sum over c, u, v of weight[n, c, u, v] x[b, c, stride i + dilation u - padding, ...]

    x (B, C, H, W), weight (N, C/groups, kh, kw), bias (N) or None; y (B, N, OH, OW) with
    OH = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1. stride, padding and dilation are pairs, of rows and
    columns; output channels of a group read the input channels of the same group. Memory is channels-last, so a chain of
    convolutions transposes once. int8 operands: as in Linear, where a row is a sample.

    Raises:
        ShapeError: shapes do not fit; OutOfMemoryError: there is no room for the result.
    """

    name = "conv2d"
    int8 = "lower"
    takes_clamp = True

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, *, stride: Pair, padding: Pair,
                dilation: Pair, groups: int, scale: TensorLike | None = None,
                zero_point: TensorLike | None = None) -> np.ndarray:
        if scale is not None:
            raise DtypeError("conv2d: an output scale goes with int8 activations and weights, got floats")
        window = make_window(weight.shape, stride, padding, dilation, groups)
        if x.ndim != 4 or x.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups or (
                bias is not None and bias.shape != weight.shape[:1]):
            raise ShapeError(f"conv2d: expected input (B, {weight.shape[1] * groups}, H, W) and bias ({weight.shape[0]},) "
                             f"for weight {weight.shape} and {groups} groups, got input {x.shape}, bias "
                             f"{None if bias is None else bias.shape}")
        check_output("conv2d", x.shape, window, len(weight))
        ctx.x, ctx.weight, ctx.window = x, weight, window
        return convolution.conv2d(x, weight, bias, window)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        x, weight, window = ctx.x, ctx.weight, ctx.window
        return (convolution.conv2d_grad_input(grad, weight, x.shape[2:], window) if ctx.needs[0] else None,
                convolution.conv2d_grad_weight(x, grad, weight.shape, window) if ctx.needs[1] else None,
                sum_columns(nhwc(grad)) if ctx.needs[2] else None)

    @classmethod
    def run_int8(cls, x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: Pair, padding: Pair, dilation: Pair,
                  groups: int, scale: TensorLike | None = None, zero_point: TensorLike | None = None) -> Tensor:
        return multiply("conv2d", x, weight, bias, make_window(weight.shape, stride, padding, dilation, groups), scale,
                        zero_point)

    @classmethod
    def takes_norm(cls, ndim: int) -> bool:
        return True

    @staticmethod
    def window(weight_shape: Shape, attrs: dict[str, Any]) -> Window:
        return make_window(weight_shape, *(attrs[k] for k in ("stride", "padding", "dilation", "groups")))

    @staticmethod
    def flops(y: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, **attrs: Any) -> float:
        return 2.0 * y.size * math.prod(weight.shape[1:])

    @classmethod
    def elements(cls, x: tuple[int, ...], weight: tuple[int, ...], bias: tuple[int, ...] = (), **attrs: Any) -> int:
        return count_elements(x, cls.window(weight, attrs), weight[0])

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        plain = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
        yield sample(normal(rng, 2, 3, 5, 6), normal(rng, 4, 3, 3, 3), normal(rng, 4), **{**plain, "padding": (1, 1)})
        yield sample(normal(rng, 2, 3, 7, 6), normal(rng, 2, 3, 3, 2), None, **{**plain, "stride": (2, 3)})
        yield sample(normal(rng, 1, 4, 7, 8), normal(rng, 6, 2, 3, 3), normal(rng, 6),
                     stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2)
        yield sample(normal(rng, 2, 3, 4, 4), normal(rng, 3, 1, 2, 2), None, **{**plain, "groups": 3})
        yield sample(np.moveaxis(normal(rng, 2, 4, 4, 3), 3, 1), normal(rng, 2, 3, 1, 1), None, **plain)
        yield sample(normal(rng, 0, 2, 4, 4), normal(rng, 2, 2, 3, 3), normal(rng, 2), **plain)
