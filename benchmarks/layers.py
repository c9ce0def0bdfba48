"""One layer as data, so that tinyml and its peers use the same floats, codes, scales and zero points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyml._kernels.layout import nchw, nhwc
from tinyml._kernels.products import convolution, fixed_point
from tinyml._kernels.products.windows import Window
from tinyml._kernels.rows.codes import dequantize, quantize


@dataclass
class Layer:
    """y (B, N, OH, OW) = x (B, C, H, W) * w (N, C/groups, kh, kw) + b (N), in float32 and in codes.

    x and y have channels-last memory. A linear layer is a 1x1 window over images of one pixel. Codes of activations are
    unsigned, but zero points are those of int8, which are 128 less. The scale of b_codes is x_scale * w_scale.
    """

    window: Window
    x: np.ndarray
    w: np.ndarray
    b: np.ndarray
    y: np.ndarray
    x_codes: np.ndarray
    x_scale: np.float32
    x_zero: int
    w_codes: np.ndarray
    w_scale: np.ndarray
    b_codes: np.ndarray
    y_scale: np.float32
    y_zero: int

    @property
    def operations(self) -> int:
        """The number of operations, two per multiply-add."""
        return 2 * self.y.size * self.w[0].size

    def nbytes(self, activation: int, weight: int) -> int:
        """The least bytes that are read and written, if an activation and a weight take so many bytes."""
        return (self.x.size + self.y.size) * activation + self.w.size * weight

    def real(self, codes: np.ndarray) -> np.ndarray:
        """The real numbers that unsigned codes of y represent."""
        return dequantize(codes, self.y_scale, self.y_zero)


def make(x_shape: tuple[int, ...], w_shape: tuple[int, ...], window: Window | None = None, bias: bool = True) -> Layer:
    """A layer of normally distributed values, with weights so small that outputs are about 1."""
    rng = np.random.default_rng(0)
    window = window or Window()
    images, channels, height, width = x_shape
    x = nchw(rng.standard_normal((images, height, width, channels), np.float32))
    w = rng.standard_normal(w_shape, np.float32) / np.float32(np.sqrt(np.prod(w_shape[1:])))
    b = rng.standard_normal(w_shape[0], np.float32) * np.float32(0.1 if bias else 0)
    y = convolution.conv2d(x, w, b, window)
    (x_scale, x_zero), (y_scale, y_zero) = (fixed_point.affine_parameters(v.min(), v.max()) for v in (x, y))
    x_codes, _ = quantize(nhwc(x), x_scale, x_zero)
    w_codes, w_scale, b_codes, _ = fixed_point.quantize_layer(w, b, x_scale, x_zero)
    return Layer(window, x, w, b, y, nchw(x_codes), x_scale, x_zero, w_codes, w_scale, b_codes, y_scale, y_zero)


def linear(m: int, k: int, n: int) -> Layer:
    """A linear layer of m rows, k inputs and n outputs, without a bias, which not every library adds in the product."""
    return make((m, k, 1, 1), (n, k, 1, 1), bias=False)
