"""Attention over ndarrays: float32 runs attention_f32.pyx, float64 reference/.

Heads are the last leading dimension. Results lie in memory as (B, T, H, D) does, so that the heads of a position are
neighbours and merging them is free.
"""

from __future__ import annotations

import math

import numpy as np

from . import memory, reference
from .dispatch import active, threads_for


def _heads(x: np.ndarray, lead: tuple[int, ...]) -> np.ndarray:
    """(..., T, D), its leading dimensions stretched to `lead`, as (B, H, T, D) whose rows are contiguous."""
    if x.strides[-1] != x.itemsize or any(s % x.itemsize for s in x.strides):
        x = np.ascontiguousarray(x)
    x = np.broadcast_to(x, (*lead, *x.shape[-2:]))
    many = len(lead) > 1
    return x.reshape(math.prod(lead[:-1] if many else lead), lead[-1] if many else 1, *x.shape[-2:])


def _scale(q: np.ndarray) -> float:
    return 1 / math.sqrt(max(q.shape[-1], 1))


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool) -> tuple[np.ndarray, np.ndarray]:
    """softmax(q k^T / sqrt(D)) v of q (..., T, D), k (..., S, D) and v (..., S, E), and for the gradient of each row the
    largest score and 1 / the sum of exp(score - it), (2, B, H, T)."""
    lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    q, k, v = (_heads(x, lead) for x in (q, k, v))
    b, h, t, d = q.shape
    s, e = v.shape[2:]
    y, rows = memory.empty((b, t, h, e), q.dtype).transpose(0, 2, 1, 3), memory.empty((2, b, h, t), q.dtype)
    kernels = active if q.dtype == np.float32 else reference
    kernels.attention_f32(q, k, v, _scale(q), causal, y, rows, threads_for(b * h * t * s * (d + e)))
    return y.reshape(*lead, t, e), rows


def attention_grad(q, k, v, causal: bool, y, rows, dy, packed: bool) -> tuple[np.ndarray, ...]:
    """Gradients of attention to q, k and v, of their stretched shapes; packed: one (3, ..., T, D) of all three."""
    lead = y.shape[:-2]
    q, k, v, y, dy = (_heads(x, lead) for x in (q, k, v, y, dy))
    b, h, t, d = q.shape
    s, e = v.shape[2:]
    if packed:
        whole = memory.empty((b, t, 3, h, d), q.dtype).transpose(2, 0, 3, 1, 4)
        parts = tuple(whole)
    else:
        parts = tuple(memory.empty((b, n, h, m), q.dtype).transpose(0, 2, 1, 3) for n, m in ((t, d), (s, d), (s, e)))
    kernels = active if q.dtype == np.float32 else reference
    kernels.attention_grad_f32(q, k, v, _scale(q), causal, y, rows, dy, *parts, threads_for(2 * b * h * t * s * (d + e)))
    return (whole.reshape(3, *lead, t, d),) if packed else tuple(p.reshape(*lead, *p.shape[2:]) for p in parts)
