"""Normalization over the batch and over rows: batch norm, layer norm, RMS norm."""

from __future__ import annotations

import numpy as np

from .. import memory
from ..dispatch import kernels_for, threads_for
from ..layout import as_rows


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance over all but the channels of x (B, ..., C)."""
    mean, variance = np.empty(x.shape[-1], x.dtype), np.empty(x.shape[-1], x.dtype)
    kernels_for(x.dtype).moments_f32(as_rows(x), mean, variance, threads_for(16 * x.size))
    return mean, variance


def batch_norm(x: np.ndarray, a: np.ndarray, b: np.ndarray, relu: bool) -> np.ndarray:
    """x (B, ..., C) * a (C) + b (C), and its ReLU where `relu` is set."""
    y = memory.empty(x.shape, x.dtype)
    kernels_for(x.dtype).batch_norm_f32(as_rows(x), a, b, relu, as_rows(y), threads_for(16 * x.size))
    return y


def batch_norm_grad(x: np.ndarray, dy: np.ndarray, mean: np.ndarray, rstd: np.ndarray, gamma: np.ndarray,
                    shift: np.ndarray | None, training: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients to x (B, ..., C), gamma and beta. Where a shift (C) is given, a ReLU of x * (gamma * rstd) + shift
    followed."""
    dx, dgamma, dbeta = memory.empty(x.shape, x.dtype), np.empty(x.shape[-1], x.dtype), np.empty(x.shape[-1], x.dtype)
    kernels_for(x.dtype).batch_norm_grad_f32(as_rows(x), as_rows(dy), mean, rstd, gamma, shift, training, as_rows(dx),
                                             dgamma, dbeta, threads_for(16 * x.size))
    return dx, dgamma, dbeta


def layer_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray,
               eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The normalized rows of x (..., C), the mean of each row and its 1/sqrt(variance + eps)."""
    xs = as_rows(x)
    y, mean, rstd = memory.empty(xs.shape, x.dtype), np.empty(len(xs), x.dtype), np.empty(len(xs), x.dtype)
    kernels_for(x.dtype).layer_norm_f32(xs, gamma, beta, eps, y, mean, rstd, threads_for(16 * x.size))
    return y.reshape(x.shape), mean, rstd


def layer_norm_grad(x: np.ndarray, dy: np.ndarray, mean: np.ndarray, rstd: np.ndarray,
                    gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients to x, gamma and beta."""
    xs = as_rows(x)
    dx, dgamma, dbeta = memory.empty(xs.shape, x.dtype), np.empty(x.shape[-1], x.dtype), np.empty(x.shape[-1], x.dtype)
    kernels_for(x.dtype).layer_norm_grad_f32(xs, as_rows(dy), mean, rstd, gamma, dx, dgamma, dbeta,
                                             threads_for(16 * x.size))
    return dx.reshape(x.shape), dgamma, dbeta


def rms_norm(x: np.ndarray, gamma: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows of x (..., C) times rstd = 1/sqrt(mean of squares + eps) of each and gamma (C); and rstd."""
    xs = as_rows(x)
    y, rstd = memory.empty(xs.shape, x.dtype), np.empty(len(xs), x.dtype)
    kernels_for(x.dtype).rms_norm_f32(xs, gamma, eps, y, rstd, threads_for(16 * x.size))
    return y.reshape(x.shape), rstd


def rms_norm_grad(x: np.ndarray, dy: np.ndarray, rstd: np.ndarray, gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradients to x and gamma."""
    xs = as_rows(x)
    dx, dgamma = memory.empty(xs.shape, x.dtype), np.empty(x.shape[-1], x.dtype)
    kernels_for(x.dtype).rms_norm_grad_f32(xs, as_rows(dy), rstd, gamma, dx, dgamma, threads_for(16 * x.size))
    return dx.reshape(x.shape), dgamma
