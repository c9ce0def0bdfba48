"""Softmax over the last dimension, its logarithm, and the cross entropy made of it."""

from __future__ import annotations

import numpy as np

from .. import memory
from ..dispatch import kernels_for, threads_for
from ..layout import as_rows


def _each_row(name: str, *arrays: np.ndarray) -> np.ndarray:
    """The result of the kernel `name` for the last dimension of arrays of one shape."""
    x = arrays[0]
    y = memory.empty(x.shape, x.dtype)
    getattr(kernels_for(x.dtype), name)(*(as_rows(a) for a in arrays), as_rows(y), threads_for(16 * x.size))
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
    """The loss of each row of x (P, C), and what its gradient needs.

    Returns:
        loss (P), float64; it is 0 where the target is negative.
        rows (2, P): the largest value of each row, and 1 / the sum of exp(x - that).
    """
    loss, rows = np.empty(len(x), np.float64), np.empty((2, len(x)), x.dtype)
    kernels_for(x.dtype).cross_entropy_f32(as_rows(x), target, smoothing, loss, rows, threads_for(16 * x.size))
    return loss, rows


def cross_entropy_grad(x: np.ndarray, target: np.ndarray, smoothing: float, rows: np.ndarray, g: float) -> np.ndarray:
    """Gradient to x of g times the sum of the losses of cross_entropy."""
    dx = memory.empty(x.shape, x.dtype)
    kernels_for(x.dtype).cross_entropy_grad_f32(as_rows(x), target, smoothing, rows, g, dx, threads_for(16 * x.size))
    return dx
