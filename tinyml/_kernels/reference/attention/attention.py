"""Attention and its gradient."""

import numpy as np


def _shared(x: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Keys or values x[B][G][...], each head repeated for the H / G successive heads of queries that share it."""
    return x if x.shape[1] == q.shape[1] else np.repeat(x, q.shape[1] // x.shape[1], axis=1)


def attention_weights(q: np.ndarray, k: np.ndarray, scale: float,
                      causal: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """exp(scores - top) (..., T, S), the largest score `top` of each query, and the sum over keys."""
    with np.errstate(invalid="ignore"):
        s = q @ k.swapaxes(-1, -2) * scale
        if causal:
            t, keys = s.shape[-2:]
            s = np.where(np.tri(t, keys, keys - t, dtype=bool), s, -np.inf)
        top = np.fmax.reduce(s, axis=-1, keepdims=True, initial=-np.finfo(np.float32).max)
        e = np.exp(s - top)
    return e, top, e.sum(axis=-1, keepdims=True)


def attention_f32(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float, causal: bool, y: np.ndarray, rows: np.ndarray,
                  threads: int) -> None:
    """y = softmax(scale * q @ k^T) @ v; causal: query t sees the keys up to t + S - T. `rows`: largest score, 1 / sum."""
    if k.shape[2] == 0:
        y[...] = 0
        rows[...] = 0
        return
    k, v = _shared(k, q), _shared(v, q)
    e, top, total = attention_weights(q, k, scale, causal)
    with np.errstate(invalid="ignore", divide="ignore"):
        y[...] = (e / total) @ v
        rows[0], rows[1] = top[..., 0], 1 / total[..., 0]


def attention_grad_f32(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float, causal: bool, y: np.ndarray,
                       rows: np.ndarray, dy: np.ndarray, dq: np.ndarray, dk: np.ndarray, dv: np.ndarray,
                       threads: int) -> None:
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
