"""Float convolution over ndarrays, forward and backward, and float layers whose weights are packed once."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from ...errors import ShapeError
from .. import memory
from ..dispatch import active, kernels_for, threads_for
from ..layout import in_elements, nchw, nhwc
from ..reference.products import convolution as reference
from .windows import DIRECT, Window, sweep


def _taps_first(weight: np.ndarray, groups: int) -> np.ndarray:
    """A view [G][taps][K][N] of weights (G*N, K, kh, kw)."""
    total, k, kh, kw = weight.shape
    return weight.reshape(groups, total // groups, k, kh * kw).transpose(0, 3, 2, 1)


def pack(weight: np.ndarray, kernels: SimpleNamespace = active, threads: int = 1) -> np.ndarray:
    """Weights [G][taps][K][N] of any strides as product_f32 reads them, [G][panels][taps*K][panel], with zeros beyond N.

    Where there is one filter per channel, they are packed as one group, [1][channels/lanes][taps][lanes].
    """
    groups, taps, k, n = weight.shape
    if groups > 1 and k == n == 1:
        weight, groups, k, n = weight.transpose(2, 1, 3, 0).reshape(1, taps, 1, groups), 1, 1, groups
        panel = kernels.lanes
    else:
        panel = kernels.panel_for(n)
    packed = memory.empty((groups, -(-n // panel), taps * k, panel), np.float32)
    kernels.pack_f32(weight, packed, threads)
    return packed


def _placed(x: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """x as product_f32 reads it: contiguous where it is read in place; else its strides need only be whole elements."""
    return np.ascontiguousarray(x) if shape[DIRECT] else in_elements(x)


def _convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, window: Window,
              transposed: tuple[int, int] | None = None) -> np.ndarray:
    """x (NHWC, in any memory order) by weights [G][taps][K][N], as NHWC."""
    groups, taps, k, n = weight.shape
    depthwise = groups > 1 and k == n == 1
    shape, out = sweep(x.shape, window, transposed, depthwise)
    y = memory.empty((*out, groups * n), x.dtype)
    if x.dtype != np.float32:
        reference.conv2d(x, weight, bias, y, shape)
        return y
    threads = threads_for(y.size * taps * k)
    bias = None if bias is None else np.ascontiguousarray(bias)
    active.product_f32(_placed(x, shape), pack(weight, threads=threads), bias, -math.inf, math.inf, y, shape, threads)
    return y


def conv2d(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, window: Window) -> np.ndarray:
    """x (B, C, H, W) * weight (N, C/groups, kh, kw) + bias (N) as (B, N, OH, OW), whose memory is channels-last."""
    return nchw(_convolve(x.transpose(0, 2, 3, 1), _taps_first(np.asarray(weight, order="C"), window.groups), bias, window))


def conv2d_grad_input(dy: np.ndarray, weight: np.ndarray, hw: tuple[int, int], window: Window) -> np.ndarray:
    """Gradient of conv2d to its input of height and width `hw`."""
    w = _taps_first(np.asarray(weight, order="C"), window.groups).transpose(0, 1, 3, 2)
    return nchw(_convolve(dy.transpose(0, 2, 3, 1), w, None, window, hw))


class FloatLayer:
    """A linear layer or convolution in float32, whose weights (N, K/groups, kh, kw) are packed once, then used many times.

    A linear layer is a 1x1 window. The input `x` is always (images, height, width, channels). Results are clamped to lo ..
    hi, which is how a ReLU after the layer is computed.
    """

    def __init__(self, weight: np.ndarray, bias: np.ndarray | None, window: Window | None = None, lo: float = -math.inf,
                 hi: float = math.inf, kernels: SimpleNamespace = active):
        self.window, self.lo, self.hi, self.kernels = window or Window(), lo, hi, kernels
        self.shape = weight.shape
        taps = _taps_first(np.asarray(weight, np.float32, order="C"), self.window.groups)
        groups, _, k, n = taps.shape
        self.depthwise = groups > 1 and k == n == 1
        self.weight = pack(taps, kernels)
        self.bias = None if bias is None else memory.align(bias.astype(np.float32))

    @property
    def nbytes(self) -> int:
        """Bytes of the packed weights and the bias."""
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def unpacked(self) -> np.ndarray:
        """The weights (N, K/groups, kh, kw) that were packed."""
        total, _, kh, kw = self.shape
        groups, panels, rows, panel = self.weight.shape
        columns = self.weight.transpose(0, 2, 1, 3).reshape(groups, rows, panels * panel)
        taken = columns[:, :, : total // groups].reshape(groups, kh * kw, rows // (kh * kw), total // groups)
        return np.ascontiguousarray(taken.transpose(0, 3, 2, 1)).reshape(self.shape)

    def _call(self, x: np.ndarray, out: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, int]:
        shape, pixels = sweep(x.shape, self.window, None, self.depthwise)
        size = (*pixels, self.shape[0])
        if out is not None and out.shape != size:       # kernels trust shapes
            raise ShapeError(f"run: expected an output of shape {size} for input {x.shape}, got {out.shape}")
        y = np.empty(size, np.float32) if out is None else out
        return y, shape, y.size * math.prod(self.shape[1:])

    def run(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """x (NHWC) by the weights, + bias, clamped, as NHWC; the result is written into `out` where that is given."""
        y, shape, work = self._call(x, out)
        self.kernels.product_f32(_placed(x, shape), self.weight, self.bias, self.lo, self.hi, y, shape, threads_for(work))
        return y

    def bind(self, x: np.ndarray, out: np.ndarray) -> Callable[[], object]:
        """A function that computes `run` of these two arrays, and costs hardly more than the arithmetic.

        Where the kernel needs a contiguous x and x is not, x is copied now.
        """
        _, shape, work = self._call(x, out)
        bound = self.kernels.bound_f32(_placed(x, shape), self.weight, self.bias, self.lo, self.hi, out, shape)
        return lambda: bound(threads_for(work))


def conv2d_grad_weight(x: np.ndarray, dy: np.ndarray, weight_shape: tuple[int, ...], window: Window) -> np.ndarray:
    """Gradient of conv2d to its weight."""
    xs, dys = nhwc(x), nhwc(dy)
    total, k, kh, kw = weight_shape
    g, n = window.groups, total // window.groups
    shape, _ = sweep(xs.shape, window, None, g > 1 and k == n == 1)
    dw = memory.empty((g, kh * kw, k, n), x.dtype)
    kernels_for(x.dtype).conv2d_grad_weight_f32(xs, dys, dw, shape, threads_for(dys.size * k * kh * kw))
    return dw.transpose(0, 3, 2, 1).reshape(weight_shape)
