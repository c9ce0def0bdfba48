"""Float kernels over ndarrays: layouts, output buffers and threads. float32 runs compiled, float64 in reference/."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .. import checks
from . import memory, reference
from .dispatch import active, threads_for


def kernels_for(dtype: np.dtype):
    """The compiled kernels, or for other floats than float32 the reference."""
    return active if dtype == np.float32 else reference


def nhwc(x: np.ndarray) -> np.ndarray:
    """An array (B, C, ...) as contiguous (B, ..., C), NCHW as NHWC; free where its memory already is."""
    return np.ascontiguousarray(x.transpose(0, *range(2, x.ndim), 1))


def nchw(y: np.ndarray) -> np.ndarray:
    """The (B, C, ...) view of an array (B, ..., C)."""
    return y.transpose(0, y.ndim - 1, *range(1, y.ndim - 1))


def whole(a: np.ndarray) -> np.ndarray:
    """`a`, copied if a stride is no whole number of elements, as in packed records: kernels count in elements."""
    return a if a.flags.aligned else a.copy()


# Rows up to which weights are read as they lie rather than packed first. On one AVX-512 core rows_f32 takes 0.6 times what
# gemm_f32 takes at 1 row of 64x64, 0.15 times at 1 row of 768x3072; it stays ahead to 12 rows of 64x64, 50 of 768x768.
FEW = 16


def matmul(a: np.ndarray, b: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """a (..., M, K) @ b (..., K, N) + bias (N): leading dimensions broadcast, any strides, no transposed copy.

    b may be float16: its values count, and the result has the dtype of a.
    """
    a, b = whole(a), whole(b)
    if a.ndim == b.ndim == 2:
        return _products(a[None], b[None], bias)[0]
    k, n = b.shape[-2:]
    if b.ndim == 2:     # one matrix for all: rows of all batches are rows of one product
        return _products(a.reshape(1, math.prod(a.shape[:-1]), k), b[None], bias).reshape(*a.shape[:-1], n)
    m = a.shape[-2]
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    batch = math.prod(lead)
    return _products(np.broadcast_to(a, (*lead, m, k)).reshape(batch, m, k),
                     np.broadcast_to(b, (*lead, k, n)).reshape(batch, k, n), bias).reshape(*lead, m, n)


def _products(a: np.ndarray, b: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """a (S, M, K) @ b (S, K, N) + bias (N)."""
    (count, m, k), n = a.shape, b.shape[2]
    if count * k * n > 2**40:       # what broadcasting only seems to hold, kernels copy in part
        checks.room("matmul", "an operand", b.shape)
    c = memory.empty((count, m, n), a.dtype)
    if bias is not None:
        bias = np.ascontiguousarray(bias)
    kernels, threads = kernels_for(a.dtype), threads_for(count * m * n * k)
    if m > FEW or a.strides[2] != a.itemsize or b.strides[1] != b.itemsize:
        kernels.gemm_f32(a, b.astype(a.dtype, copy=False), bias, c, threads)
    elif b.dtype == np.float16:
        kernels.rows_f16(a, b.swapaxes(1, 2).view(np.uint16), bias, c, threads)
    else:
        kernels.rows_f32(a, b.swapaxes(1, 2), bias, c, threads)
    return c


def max_pool(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Largest of each window (NCHW)."""
    y = nchw(memory.empty((len(x), len(rows), len(columns), x.shape[1]), x.dtype))
    bind_max_pool(x, rows, columns, y)()
    return y


def bind_max_pool(x: np.ndarray, rows: np.ndarray, columns: np.ndarray, out: np.ndarray) -> Callable[[], object]:
    """max_pool into `out`, both NCHW in channels-last memory, as a function that costs hardly more than the arithmetic."""
    kernel, work, xs, y = kernels_for(x.dtype).max_pool_f32, 16 * x.size, nhwc(x), nhwc(out)
    return lambda: kernel(xs, rows, columns, y, None, threads_for(work))


def max_pool_at(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest of each window (NCHW), and for the gradient the pixel h*W + w it came from (NHWC)."""
    xs = nhwc(x)
    shape = (xs.shape[0], len(rows), len(columns), xs.shape[3])
    y, at = memory.empty(shape, x.dtype), memory.empty(shape, np.int32)
    kernels_for(x.dtype).max_pool_f32(xs, rows, columns, y, at, threads_for(16 * x.size))
    return nchw(y), at


def max_pool_grad(dy: np.ndarray, at: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """Gradient of max_pool to its input."""
    dys = nhwc(dy)
    dx = memory.empty((dys.shape[0], *hw, dys.shape[3]), dy.dtype)
    kernels_for(dy.dtype).max_pool_grad_f32(dys, at, dx, threads_for(16 * dx.size))
    return nchw(dx)


def avg_pool(x: np.ndarray, rows: np.ndarray, columns: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    """Sum of each window / divisor [OH][OW] (NCHW)."""
    y = nchw(memory.empty((len(x), len(rows), len(columns), x.shape[1]), x.dtype))
    bind_avg_pool(x, rows, columns, divisor, y)()
    return y


def bind_avg_pool(x: np.ndarray, rows: np.ndarray, columns: np.ndarray, divisor: np.ndarray,
                  out: np.ndarray) -> Callable[[], object]:
    """avg_pool as bind_max_pool."""
    kernel, work, xs, y = kernels_for(x.dtype).avg_pool_f32, 16 * x.size, nhwc(x), nhwc(out)
    by = divisor.astype(x.dtype)
    return lambda: kernel(xs, rows, columns, by, y, threads_for(work))


def avg_pool_grad(dy: np.ndarray, rows: np.ndarray, columns: np.ndarray, divisor: np.ndarray,
                  hw: tuple[int, int]) -> np.ndarray:
    """Gradient of avg_pool to its input."""
    dys = nhwc(dy)
    dx = memory.empty((dys.shape[0], *hw, dys.shape[3]), dy.dtype)
    kernels_for(dy.dtype).avg_pool_grad_f32(dys, rows, columns, divisor.astype(dy.dtype), dx, threads_for(16 * dx.size))
    return nchw(dx)


def _rows(x: np.ndarray) -> np.ndarray:
    """(..., C) as contiguous (P, C)."""
    if not x.flags.c_contiguous:
        x = np.ascontiguousarray(x)
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance over all but the channels of x (B, ..., C)."""
    mean, variance = np.empty(x.shape[-1], x.dtype), np.empty(x.shape[-1], x.dtype)
    kernels_for(x.dtype).moments_f32(_rows(x), mean, variance, threads_for(16 * x.size))
    return mean, variance


def batch_norm(x: np.ndarray, a: np.ndarray, b: np.ndarray, relu: bool) -> np.ndarray:
    """x (B, ..., C) * a (C) + b (C), with `relu` not below 0."""
    y = memory.empty(x.shape, x.dtype)
    kernels_for(x.dtype).batch_norm_f32(_rows(x), a, b, relu, _rows(y), threads_for(16 * x.size))
    return y


def batch_norm_grad(x, dy, mean, rstd, gamma, shift, training: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients to x (B, ..., C), gamma and beta; with a shift (C), of the ReLU of x * (gamma * rstd) + shift."""
    dx, dgamma, dbeta = memory.empty(x.shape, x.dtype), np.empty(x.shape[-1], x.dtype), np.empty(x.shape[-1], x.dtype)
    kernels_for(x.dtype).batch_norm_grad_f32(_rows(x), _rows(dy), mean, rstd, gamma, shift, training, _rows(dx),
                                          dgamma, dbeta, threads_for(16 * x.size))
    return dx, dgamma, dbeta


def layer_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float):
    """Normalised rows of x (..., C), with the mean and 1/sqrt(variance + eps) of each."""
    xs = _rows(x)
    y, mean, rstd = memory.empty(xs.shape, x.dtype), np.empty(len(xs), x.dtype), np.empty(len(xs), x.dtype)
    kernels_for(x.dtype).layer_norm_f32(xs, gamma, beta, eps, y, mean, rstd, threads_for(16 * x.size))
    return y.reshape(x.shape), mean, rstd


def layer_norm_grad(x, dy, mean, rstd, gamma) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients to x, gamma and beta."""
    xs = _rows(x)
    dx, dgamma, dbeta = memory.empty(xs.shape, x.dtype), np.empty(x.shape[-1], x.dtype), np.empty(x.shape[-1], x.dtype)
    kernels_for(x.dtype).layer_norm_grad_f32(xs, _rows(dy), mean, rstd, gamma, dx, dgamma, dbeta, threads_for(16 * x.size))
    return dx.reshape(x.shape), dgamma, dbeta


def rms_norm(x: np.ndarray, gamma: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows of x (..., C) by 1/sqrt(mean of squares + eps) of each, which comes too, and gamma (C)."""
    xs = _rows(x)
    y, rstd = memory.empty(xs.shape, x.dtype), np.empty(len(xs), x.dtype)
    kernels_for(x.dtype).rms_norm_f32(xs, gamma, eps, y, rstd, threads_for(16 * x.size))
    return y.reshape(x.shape), rstd


def rms_norm_grad(x, dy, rstd, gamma) -> tuple[np.ndarray, np.ndarray]:
    """Gradients to x and gamma."""
    xs = _rows(x)
    dx, dgamma = memory.empty(xs.shape, x.dtype), np.empty(x.shape[-1], x.dtype)
    kernels_for(x.dtype).rms_norm_grad_f32(xs, _rows(dy), rstd, gamma, dx, dgamma, threads_for(16 * x.size))
    return dx.reshape(x.shape), dgamma


def _each_row(name: str, *arrays: np.ndarray) -> np.ndarray:
    """A kernel over the last dimension of arrays of one shape."""
    x = arrays[0]
    y = memory.empty(x.shape, x.dtype)
    getattr(kernels_for(x.dtype), name)(*(_rows(a) for a in arrays), _rows(y), threads_for(16 * x.size))
    return y


def softmax(x: np.ndarray) -> np.ndarray:
    """Softmax over the last dimension."""
    return _each_row("softmax_f32", x)


def softmax_grad(y: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Gradient of softmax over the last dimension, from its output."""
    return _each_row("softmax_grad_f32", y, dy)


def log_softmax(x: np.ndarray) -> np.ndarray:
    """Logarithm of softmax over the last dimension."""
    return _each_row("log_softmax_f32", x)


def log_softmax_grad(y: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Gradient of log_softmax over the last dimension, from its output."""
    return _each_row("log_softmax_grad_f32", y, dy)


def cross_entropy(x: np.ndarray, target: np.ndarray, smoothing: float) -> tuple[np.ndarray, np.ndarray]:
    """The loss (P), float64, of each row of x (P, C), 0 where the target is negative.

    And for the gradient (2, P) the largest of each row and 1 / the sum of exp(x - it).
    """
    loss, rows = np.empty(len(x), np.float64), np.empty((2, len(x)), x.dtype)
    kernels_for(x.dtype).cross_entropy_f32(_rows(x), target, smoothing, loss, rows, threads_for(16 * x.size))
    return loss, rows


def cross_entropy_grad(x: np.ndarray, target: np.ndarray, smoothing: float, rows: np.ndarray, g: float) -> np.ndarray:
    """Gradient to x of g times the sum of the losses of cross_entropy."""
    dx = memory.empty(x.shape, x.dtype)
    kernels_for(x.dtype).cross_entropy_grad_f32(_rows(x), target, smoothing, rows, g, dx, threads_for(16 * x.size))
    return dx


def sum_columns(x: np.ndarray) -> np.ndarray:
    """Sum of x (..., C) over all but the last dimension."""
    y = np.empty((1, x.shape[-1]), x.dtype)
    kernels_for(x.dtype).sum_columns_f32(_rows(x)[None], y, threads_for(16 * x.size))
    return y[0]


def pointwise_grad_sum(name: str, x: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """pointwise_grad of x and dy (..., C), and its sum over all but the last dimension."""
    xs = _rows(x)
    dx, sums = memory.empty(xs.shape, x.dtype), np.empty(x.shape[-1], x.dtype)
    getattr(kernels_for(x.dtype), name + "_grad_sum_f32")(xs, _rows(dy), dx, sums, threads_for(16 * x.size))
    return dx.reshape(x.shape), sums


def scatter_rows(x: np.ndarray, ids: np.ndarray, count: int) -> np.ndarray:
    """(count, C) in which row v is the sum of the rows of x (P, C) whose id in ids (P) is v."""
    few = 64 * len(ids) < count     # then the system's fresh zeros are cheaper: it makes those that are looked at
    y = np.zeros((count, x.shape[1]), x.dtype) if few else memory.empty((count, x.shape[1]), x.dtype)
    kernels_for(x.dtype).scatter_rows_f32(_rows(x), ids, not few, y, threads_for(16 * (x.size + (not few) * y.size)))
    return y


def dropout(x: np.ndarray, key: int, p: float) -> np.ndarray:
    """x / (1 - p), or 0 with probability p: which, by the 64-bit key and the element's place in memory.

    The result keeps the memory order.
    """
    if p >= 1:
        return np.zeros_like(x)
    x = _run(x)
    y = np.empty_like(x)
    least = min(round(p * 2**32), 2**32 - 1)
    scale = x.dtype.type(1) / x.dtype.type(1 - p)
    kernels_for(x.dtype).dropout_f32(x.ravel("K"), key, least, scale, y.ravel("K"), threads_for(64 * x.size))
    return y


def _run(x: np.ndarray) -> np.ndarray:
    """`x` where its elements are one run of memory, in C or NHWC order; else a copy that is."""
    if x.flags.c_contiguous or (x.ndim == 4 and x.transpose(0, 2, 3, 1).flags.c_contiguous):
        return x
    return np.ascontiguousarray(x)


def pointwise(name: str, x: np.ndarray) -> np.ndarray:
    """The kernel `name`_f32 of every element; the result keeps the memory order."""
    x = _run(x)
    y = memory.like(x)
    getattr(kernels_for(x.dtype), name + "_f32")(x.ravel("K"), y.ravel("K"), threads_for(16 * x.size))
    return y


def pointwise_grad(name: str, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """The kernel `name`_grad_f32 of every element of x (what the kernel takes: the function's input or output) and dy."""
    x = _run(x)
    dx = memory.like(x)
    if dy.strides != x.strides:
        dx[...] = dy
        dy = dx
    getattr(kernels_for(x.dtype), name + "_grad_f32")(x.ravel("K"), dy.ravel("K"), dx.ravel("K"), threads_for(16 * x.size))
    return dx


def fake_quantize(x: np.ndarray, scale: np.ndarray, zero_point: int, lo: int, hi: int) -> tuple[np.ndarray, np.ndarray]:
    """What codes of x stand for, by one scale () or one a row of the first dimension (N); and where none is clamped."""
    layout = nhwc(x) if x.ndim == 4 and not scale.ndim else np.ascontiguousarray(x)     # rows need their own order
    rows = layout.reshape(scale.size, -1) if x.size else layout.reshape(scale.size, 0)
    y, inside = memory.empty(layout.shape, x.dtype), memory.empty(layout.shape, np.uint8)
    kernels_for(x.dtype).fake_quantize_f32(rows, np.ascontiguousarray(scale, x.dtype).reshape(-1), zero_point, lo, hi,
                                        y.reshape(rows.shape), inside.reshape(rows.shape), threads_for(16 * x.size))
    return (nchw(y), nchw(inside)) if x.ndim == 4 and not scale.ndim else (y.reshape(x.shape), inside.reshape(x.shape))
