"""Functions of each element alone, their gradients, and fake quantization."""

from __future__ import annotations

import numpy as np

from .. import memory
from ..dispatch import kernels_for, threads_for
from ..layout import as_run, nchw, nhwc


def pointwise(name: str, x: np.ndarray) -> np.ndarray:
    """The kernel `name`_f32 of every element. The result has the memory order of x."""
    x = as_run(x)
    y = memory.empty_like(x)
    getattr(kernels_for(x.dtype), name + "_f32")(x.ravel("K"), y.ravel("K"), threads_for(16 * x.size))
    return y


def pointwise_grad(name: str, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """The kernel `name`_grad_f32 of every element of x and dy; x is the input or the output of the function, as the kernel
    says."""
    x = as_run(x)
    dx = memory.empty_like(x)
    if dy.strides != x.strides:
        dx[...] = dy
        dy = dx
    getattr(kernels_for(x.dtype), name + "_grad_f32")(x.ravel("K"), dy.ravel("K"), dx.ravel("K"), threads_for(16 * x.size))
    return dx


def fake_quantize(x: np.ndarray, scale: np.ndarray, zero_point: int, lo: int, hi: int) -> tuple[np.ndarray, np.ndarray]:
    """x quantized and dequantized, and where its codes are not clamped.

    There is one scale (), or one scale (N) per index of the first dimension.
    """
    layout = nhwc(x) if x.ndim == 4 and not scale.ndim else np.ascontiguousarray(x)     # rows must be contiguous
    rows = layout.reshape(scale.size, -1) if x.size else layout.reshape(scale.size, 0)
    y, inside = memory.empty(layout.shape, x.dtype), memory.empty(layout.shape, np.uint8)
    kernels_for(x.dtype).fake_quantize_f32(rows, np.ascontiguousarray(scale, x.dtype).reshape(-1), zero_point, lo, hi,
                                        y.reshape(rows.shape), inside.reshape(rows.shape), threads_for(16 * x.size))
    return (nchw(y), nchw(inside)) if x.ndim == 4 and not scale.ndim else (y.reshape(x.shape), inside.reshape(x.shape))
