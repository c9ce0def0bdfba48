"""Softmax, its logarithm, and the cross entropy made of it."""

import numpy as np


def softmax_f32(x: np.ndarray, y: np.ndarray, threads: int) -> None:
    """exp(x - max) / sum of each row."""
    if x.size == 0:
        return
    with np.errstate(invalid="ignore"):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        y[...] = e / e.sum(axis=1, keepdims=True)


def softmax_grad_f32(y: np.ndarray, dy: np.ndarray, dx: np.ndarray, threads: int) -> None:
    """dx = y * (dy - sum(y * dy))."""
    dx[...] = y * (dy - (y * dy).sum(axis=1, keepdims=True))


def log_softmax_f32(x: np.ndarray, y: np.ndarray, threads: int) -> None:
    """x - max - ln(sum of exp(x - max)) of each row."""
    if x.size == 0:
        return
    with np.errstate(invalid="ignore"):
        shifted = x - x.max(axis=1, keepdims=True)
        y[...] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def log_softmax_grad_f32(y: np.ndarray, dy: np.ndarray, dx: np.ndarray, threads: int) -> None:
    """dx = dy - exp(y) * sum(dy)."""
    dx[...] = dy - np.exp(y) * dy.sum(axis=1, keepdims=True)


def cross_entropy_f32(x: np.ndarray, target: np.ndarray, smoothing: float, loss: np.ndarray, rows: np.ndarray,
                      threads: int) -> None:
    """loss = -(1 - smoothing) ln p[target] - smoothing * mean of ln p, where p = softmax(x); 0 where the target is
    negative.

    `rows` is the largest value of each row and 1 / the sum of exp(x - that).
    """
    loss[...], rows[...] = 0, 0
    if x.size == 0:
        return
    with np.errstate(invalid="ignore"):
        top = np.fmax.reduce(x, axis=1, initial=-np.inf)      # the sum shows a NaN anyway
        rows[...] = top, 1 / np.exp(x - top[:, None]).sum(axis=1)
    log_p = np.empty_like(x)
    log_softmax_f32(x, log_p, threads)
    counted = np.flatnonzero(target >= 0)
    loss[counted] = -(1 - smoothing) * log_p[counted, target[counted]]
    if smoothing:
        loss[counted] -= smoothing * log_p[counted].mean(axis=1)


def cross_entropy_grad_f32(x: np.ndarray, target: np.ndarray, smoothing: float, rows: np.ndarray, g: float, dx: np.ndarray,
                           threads: int) -> None:
    """dx = g * (p - smoothing / C - (1 - smoothing) [c = target]), 0 where the target is negative."""
    dx[...] = 0
    counted = np.flatnonzero(target >= 0)
    if counted.size == 0:
        return
    with np.errstate(invalid="ignore"):
        p = np.exp(x[counted] - rows[0, counted, None]) * rows[1, counted, None]
    dx[counted] = p - smoothing / x.shape[1]
    dx[counted, target[counted]] -= 1 - smoothing
    dx *= g
