"""Attention over ndarrays. float32 runs attention_f32.pyx, float64 its specification in reference/.

Heads are the last leading dimension. Results lie in memory as (B, T, H, D), so that the heads of a position are neighbours
and merging them costs nothing.
"""

from __future__ import annotations

import math

import numpy as np

from ... import checks
from .. import memory
from ..dispatch import kernels_for, threads_for
from ..layout import as_heads


def _scale(q: np.ndarray) -> float:
    return 1 / math.sqrt(max(q.shape[-1], 1))


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool,
              kv_heads: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """softmax(q k^T / sqrt(D)) v, and what its gradient needs.

    Args:
        q: (..., T, D).
        k, v: (..., S, D) and (..., S, E).
        causal: query t sees the keys up to t + S - T.
        kv_heads: how many heads k and v have, each of which serves H / kv_heads heads of q. None: as many as q, and all
            leading dimensions broadcast.

    Returns:
        y (..., T, E).
        rows (2, B, H, T): the largest score of each query, and 1 / the sum of exp(score - that).
    """
    if kv_heads is None:
        lead = shared = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    else:
        outer = np.broadcast_shapes(q.shape[:-3], k.shape[:-3], v.shape[:-3])
        lead, shared = (*outer, q.shape[-3]), (*outer, kv_heads)
    q, k, v = as_heads(q, lead), as_heads(k, shared), as_heads(v, shared)
    b, h, t, d = q.shape
    s, e = v.shape[2:]
    if s * (d + e) > 2**40:     # so much is there only by broadcasting
        checks.room("attention", "keys and values", (s, d + e))
    y, rows = memory.empty((b, t, h, e), q.dtype).transpose(0, 2, 1, 3), memory.empty((2, b, h, t), q.dtype)
    kernels_for(q.dtype).attention_f32(q, k, v, _scale(q), causal, y, rows, threads_for(b * h * t * s * (d + e)))
    return y.reshape(*lead, t, e), rows


def attention_grad(q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool, y: np.ndarray, rows: np.ndarray,
                   dy: np.ndarray, packed: bool, kv_heads: int | None = None) -> tuple[np.ndarray, ...]:
    """Gradients of attention to q, k and v, in the shapes to which these broadcast.

    `packed` makes it one array of all three, (3, ..., T, D), or with kv_heads (..., H + 2 kv_heads, T, D).
    """
    lead = y.shape[:-2]
    shared = lead if kv_heads is None else (*lead[:-1], kv_heads)
    q, y, dy = (as_heads(x, lead) for x in (q, y, dy))
    k, v = as_heads(k, shared), as_heads(v, shared)
    b, h, t, d = q.shape
    g, s, e = v.shape[1:]
    if packed:
        whole = memory.empty((b, t, h + 2 * g, d), q.dtype).transpose(0, 2, 1, 3)
        parts: tuple[np.ndarray, ...] = whole[:, :h], whole[:, h : h + g], whole[:, h + g :]
    else:
        parts = tuple(memory.empty((b, n, m, c), q.dtype).transpose(0, 2, 1, 3)
                      for n, m, c in ((t, h, d), (s, g, d), (s, g, e)))
    kernels_for(q.dtype).attention_grad_f32(q, k, v, _scale(q), causal, y, rows, dy, *parts,
                                            threads_for(2 * b * h * t * s * (d + e)))
    if packed and kv_heads is None:
        return (whole.reshape(b, 3, h, t, d).swapaxes(0, 1).reshape(3, *lead, t, d),)
    if packed:
        return (whole.reshape(*lead[:-1], h + 2 * g, t, d),)
    return parts[0].reshape(*lead, t, d), parts[1].reshape(*shared, s, d), parts[2].reshape(*shared, s, e)
