"""Normalization over the batch and over rows: batch norm, layer norm, RMS norm."""

import numpy as np


def moments_f32(x: np.ndarray, mean: np.ndarray, variance: np.ndarray, threads: int) -> None:
    """Mean and biased variance over rows; zeros where there are no rows."""
    mean[...] = x.mean(axis=0, dtype=np.float64) if len(x) else 0
    variance[...] = np.square(x - mean).mean(axis=0, dtype=np.float64) if len(x) else 0


def batch_norm_f32(x: np.ndarray, a: np.ndarray, b: np.ndarray, relu: bool, y: np.ndarray, threads: int) -> None:
    """y = x * a + b, and its ReLU where `relu` is set."""
    y[...] = x * a + b
    if relu:
        np.maximum(y, 0, out=y)


def batch_norm_grad_f32(x: np.ndarray, dy: np.ndarray, mean: np.ndarray, rstd: np.ndarray, gamma: np.ndarray,
                        shift: np.ndarray | None, training: bool, dx: np.ndarray, dgamma: np.ndarray, dbeta: np.ndarray,
                        threads: int) -> None:
    """Gradients of (x - mean) * rstd * gamma + beta. Where there is a shift, a ReLU of x * (gamma * rstd) + shift
    followed."""
    if shift is not None:
        dy = np.where(x * (gamma * rstd) + shift > 0, dy, 0)
    xhat = (x - mean) * rstd
    dgamma[...] = (dy * xhat).sum(axis=0)
    dbeta[...] = dy.sum(axis=0)
    if training and len(x):
        dy = dy - dbeta / len(x) - xhat * (dgamma / len(x))
    dx[...] = dy * gamma * rstd


def layer_norm_f32(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float, y: np.ndarray, mean: np.ndarray,
                   rstd: np.ndarray, threads: int) -> None:
    """y = (x - mean) * rstd * gamma + beta."""
    if x.size == 0:
        return
    mean[...] = x.mean(axis=1)
    rstd[...] = 1 / np.sqrt(np.square(x - mean[:, None]).mean(axis=1) + eps)
    y[...] = (x - mean[:, None]) * rstd[:, None] * gamma + beta


def layer_norm_grad_f32(x: np.ndarray, dy: np.ndarray, mean: np.ndarray, rstd: np.ndarray, gamma: np.ndarray,
                        dx: np.ndarray, dgamma: np.ndarray, dbeta: np.ndarray, threads: int) -> None:
    """Gradients of layer_norm_f32."""
    dgamma[...] = 0
    dbeta[...] = 0
    if x.size == 0:
        return
    xhat = (x - mean[:, None]) * rstd[:, None]
    dgamma[...] = (dy * xhat).sum(axis=0)
    dbeta[...] = dy.sum(axis=0)
    d = dy * gamma
    dx[...] = rstd[:, None] * (d - d.mean(axis=1, keepdims=True) - xhat * (d * xhat).mean(axis=1, keepdims=True))


def rms_norm_f32(x: np.ndarray, gamma: np.ndarray, eps: float, y: np.ndarray, rstd: np.ndarray, threads: int) -> None:
    """y = x * rstd * gamma."""
    if x.size == 0:
        return
    rstd[...] = 1 / np.sqrt(np.square(x).mean(axis=1) + eps)
    y[...] = x * rstd[:, None] * gamma


def rms_norm_grad_f32(x: np.ndarray, dy: np.ndarray, rstd: np.ndarray, gamma: np.ndarray, dx: np.ndarray,
                      dgamma: np.ndarray, threads: int) -> None:
    """Gradients of rms_norm_f32."""
    dgamma[...] = 0
    if x.size == 0:
        return
    xhat, d = x * rstd[:, None], dy * gamma
    dgamma[...] = (dy * xhat).sum(axis=0)
    dx[...] = rstd[:, None] * (d - xhat * (d * xhat).mean(axis=1, keepdims=True))
