"""Normalization over the batch and over rows: batch norm, layer norm, RMS norm."""

import numpy as np


def moments_f32(x, mean, variance, threads):
    """Mean and biased variance over rows; zeros where there are no rows."""
    mean[...] = x.mean(axis=0, dtype=np.float64) if len(x) else 0
    variance[...] = np.square(x - mean).mean(axis=0, dtype=np.float64) if len(x) else 0


def batch_norm_f32(x, a, b, relu, y, threads):
    """y = x * a + b, and its ReLU where `relu` is set."""
    y[...] = x * a + b
    if relu:
        np.maximum(y, 0, out=y)


def batch_norm_grad_f32(x, dy, mean, rstd, gamma, shift, training, dx, dgamma, dbeta, threads):
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


def layer_norm_f32(x, gamma, beta, eps, y, mean, rstd, threads):
    """y = (x - mean) * rstd * gamma + beta."""
    if x.size == 0:
        return
    mean[...] = x.mean(axis=1)
    rstd[...] = 1 / np.sqrt(np.square(x - mean[:, None]).mean(axis=1) + eps)
    y[...] = (x - mean[:, None]) * rstd[:, None] * gamma + beta


def layer_norm_grad_f32(x, dy, mean, rstd, gamma, dx, dgamma, dbeta, threads):
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


def rms_norm_f32(x, gamma, eps, y, rstd, threads):
    """y = x * rstd * gamma."""
    if x.size == 0:
        return
    rstd[...] = 1 / np.sqrt(np.square(x).mean(axis=1) + eps)
    y[...] = x * rstd[:, None] * gamma


def rms_norm_grad_f32(x, dy, rstd, gamma, dx, dgamma, threads):
    """Gradients of rms_norm_f32."""
    dgamma[...] = 0
    if x.size == 0:
        return
    xhat, d = x * rstd[:, None], dy * gamma
    dgamma[...] = (dy * xhat).sum(axis=0)
    dx[...] = rstd[:, None] * (d - xhat * (d * xhat).mean(axis=1, keepdims=True))
