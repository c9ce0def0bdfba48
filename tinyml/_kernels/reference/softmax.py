"""Softmax and what is built on it: attention, cross entropy."""

from __future__ import annotations

import numpy as np


def softmax_f32(x, y, threads):
    """exp(x - max) / sum of each row."""
    if x.size == 0:
        return
    with np.errstate(invalid="ignore"):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        y[...] = e / e.sum(axis=1, keepdims=True)


def softmax_grad_f32(y, dy, dx, threads):
    """dx = y * (dy - sum(y * dy))."""
    dx[...] = y * (dy - (y * dy).sum(axis=1, keepdims=True))


def log_softmax_f32(x, y, threads):
    """x - max - ln(sum of exp(x - max)) of each row."""
    if x.size == 0:
        return
    with np.errstate(invalid="ignore"):
        shifted = x - x.max(axis=1, keepdims=True)
        y[...] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def log_softmax_grad_f32(y, dy, dx, threads):
    """dx = dy - exp(y) * sum(dy)."""
    dx[...] = dy - np.exp(y) * dy.sum(axis=1, keepdims=True)


def _shared(x, q):
    """Keys or values x[B][G][...] once for each of the H / G heads of queries in a row that share a head of them."""
    return x if x.shape[1] == q.shape[1] else np.repeat(x, q.shape[1] // x.shape[1], axis=1)


def attention_weights(q, k, scale, causal):
    """exp(scores - top) (..., T, S), the largest number `top` of each row and the sum of the row."""
    with np.errstate(invalid="ignore"):
        s = q @ k.swapaxes(-1, -2) * scale
        if causal:
            s = np.where(np.tri(*s.shape[-2:], s.shape[-1] - s.shape[-2], dtype=bool), s, -np.inf)
        top = np.fmax.reduce(s, axis=-1, keepdims=True, initial=-np.finfo(np.float32).max)
        e = np.exp(s - top)
    return e, top, e.sum(axis=-1, keepdims=True)


def attention_f32(q, k, v, scale, causal, y, rows, threads):
    """y = softmax(scale * q @ k^T) @ v, causal: query t sees keys up to t + S - T; rows: largest score, 1 / sum."""
    if k.shape[2] == 0:
        y[...] = 0
        rows[...] = 0
        return
    k, v = _shared(k, q), _shared(v, q)
    e, top, total = attention_weights(q, k, scale, causal)
    with np.errstate(invalid="ignore", divide="ignore"):
        y[...] = (e / total) @ v
        rows[0], rows[1] = top[..., 0], 1 / total[..., 0]


def attention_grad_f32(q, k, v, scale, causal, y, rows, dy, dq, dk, dv, threads):
    """Gradients of attention_f32."""
    if k.shape[2] == 0:
        dq[...] = 0
        return
    k, v = _shared(k, q), _shared(v, q)
    e, _, total = attention_weights(q, k, scale, causal)
    with np.errstate(invalid="ignore"):
        p = e / total
        ds = scale * p * (dy @ v.swapaxes(-1, -2) - (dy * y).sum(axis=-1, keepdims=True))
        dq[...] = ds @ k
        for out, of_each in ((dk, ds.swapaxes(-1, -2) @ q), (dv, p.swapaxes(-1, -2) @ dy)):
            b, heads, *rest = of_each.shape
            out[...] = of_each.reshape(b, out.shape[1], heads // max(out.shape[1], 1), *rest).sum(axis=2)


def cross_entropy_f32(x, target, smoothing, loss, rows, threads):
    """loss = -(1 - smoothing) ln p[target] - smoothing * mean of ln p, 0 where the target is negative, p = softmax(x).

    rows: the largest of each row and 1 / the sum of exp(x - it).
    """
    loss[...], rows[...] = 0, 0
    if x.size == 0:
        return
    with np.errstate(invalid="ignore"):
        top = np.fmax.reduce(x, axis=1, initial=-np.inf)      # a NaN is in the sum anyway
        rows[...] = top, 1 / np.exp(x - top[:, None]).sum(axis=1)
    log_p = np.empty_like(x)
    log_softmax_f32(x, log_p, threads)
    counted = np.flatnonzero(target >= 0)
    loss[counted] = -(1 - smoothing) * log_p[counted, target[counted]]
    if smoothing:
        loss[counted] -= smoothing * log_p[counted].mean(axis=1)


def cross_entropy_grad_f32(x, target, smoothing, rows, g, dx, threads):
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
