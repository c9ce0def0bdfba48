"""Attention, and rotary positions for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import checks, ops
from ...errors import DtypeError, ShapeError
from ...tensors import Tensor, TensorLike, apply, as_tensor
from .activations import dropout, softmax
from .joining import cat, where


def attention(q: TensorLike, k: TensorLike, v: TensorLike, causal: bool = False, kv_heads: int | None = None) -> Tensor:
    """softmax(q k^T / sqrt(D)) v (Vaswani et al. 2017).

    Args:
        q: queries (..., T, D).
        k: keys (..., S, D).
        v: values (..., S, E).
        causal: query t sees keys up to t + S - T only.
        kv_heads: how many heads k and v have in the third dimension from the end, each of which is shared by as many
            heads of q in a row (Ainslie et al. 2023); None: as many as q.

    Returns:
        A Tensor (..., T, E).

    Raises:
        ShapeError: shapes that do not fit, or heads that do not divide.

    Example:
        >>> q, k, v = np.random.default_rng(0).standard_normal((3, 2, 4, 5, 8))
        >>> F.attention(q, k, v, causal=True).shape
        (2, 4, 5, 8)
    """
    return apply(ops.attention.Attention, q, k, v, **_attention(causal, kv_heads))


def self_attention(qkv: TensorLike, causal: bool = False, kv_heads: int | None = None) -> Tensor:
    """attention(*qkv, causal), the gradient of which comes as one array.

    Args:
        qkv: (3, ..., T, D): queries, keys and values; with `kv_heads` (..., H + 2 kv_heads, T, D), the heads of queries
            before those of keys and of values.
        causal: position t sees positions up to t only.
        kv_heads: how many heads of keys and values there are.

    Returns:
        A Tensor (..., T, D).

    Raises:
        ShapeError: shapes that do not fit, or heads that do not divide.

    Example:
        >>> F.self_attention(np.zeros((2, 4 + 2 * 2, 5, 8), np.float32), causal=True, kv_heads=2).shape
        (2, 4, 5, 8)
    """
    return apply(ops.attention.Attention, qkv, **_attention(causal, kv_heads))


def _attention(causal: bool, kv_heads: int | None) -> dict[str, Any]:
    found: dict[str, Any] = {"causal": checks.flag("attention", "causal", causal)}
    return found if kv_heads is None else found | {"kv_heads": checks.whole("attention", "kv_heads", kv_heads, 1)}


def scaled_dot_product_attention(query: TensorLike, key: TensorLike, value: TensorLike, attn_mask: TensorLike | None = None,
                                 dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
                                 enable_gqa: bool = False) -> Tensor:
    """softmax(q k^T scale + mask) v (Vaswani et al. 2017).

    Without a mask and dropout it is `attention`, whose scores are never in memory. `attention(causal=True)` lets the last
    query see all keys, as a cache needs it; `is_causal` lets the first query see the first key only.

    Args:
        query: (..., T, D).
        key: (..., S, D).
        value: (..., S, E).
        attn_mask: broadcasts to (..., T, S): True where a query sees a key, or floats that are added to the scores.
        dropout_p: the probability with which each weight of a key is zeroed, here and now: pass 0 for evaluation.
        is_causal: query t sees keys up to t only.
        scale: what the scores are multiplied by; None: 1 / sqrt(D).
        enable_gqa: key and value have fewer heads, their third dimension from the end, each of which is shared by as many
            heads of the query in a row (Ainslie et al. 2023).

    Returns:
        A Tensor (..., T, E). A query that sees no key gives zeros.

    Raises:
        ShapeError: shapes that do not fit, or a mask besides `is_causal`; DtypeError: a mask of integers.

    Example:
        >>> q, k, v = np.random.default_rng(0).standard_normal((3, 2, 4, 5, 8))
        >>> F.scaled_dot_product_attention(q, k, v, is_causal=True).shape
        (2, 4, 5, 8)
    """
    name = "scaled_dot_product_attention"
    q, k, v = as_tensor(query), as_tensor(key), as_tensor(value)
    dropout_p = checks.probability(name, "dropout_p", dropout_p)
    causal, shared = checks.flag(name, "is_causal", is_causal), checks.flag(name, "enable_gqa", enable_gqa)
    if min(q.ndim, k.ndim, v.ndim) < 2 + shared or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ShapeError(f"{name}: expected query (..., T, D), key (..., S, D) and value (..., S, E), got {q.shape}, "
                         f"{k.shape} and {v.shape}")
    if causal and attn_mask is not None:
        raise ShapeError(f"{name}: expected attn_mask or is_causal, got both")
    usual = max(q.shape[-1], 1) ** -0.5
    scale = usual if scale is None else checks.number(name, "scale", scale)
    if scale != usual:
        q = q * (scale / usual)
    heads = k.shape[-3] if shared else None
    if attn_mask is None and dropout_p == 0:
        return _top_left(q, k, v, heads) if causal else attention(q, k, v, kv_heads=heads)
    if heads is not None:
        each = np.repeat(np.arange(heads), q.shape[-3] // max(heads, 1))
        k, v = k[..., each, :, :], v[..., each, :, :]
    scores = q @ k.mT * usual
    mask = as_tensor(np.tri(*scores.shape[-2:], dtype=bool) if attn_mask is None and causal else
                     True if attn_mask is None else attn_mask)
    if mask.dtype.kind not in "bf":
        raise DtypeError(f"{name}: expected attn_mask of booleans or floats, got {mask.dtype}")
    seen = mask
    if mask.dtype.kind == "f":
        seen, scores = mask > -np.inf, scores + mask
    weights = softmax(where(seen, scores, np.finfo(np.float32).min), -1)
    return dropout(where(seen, weights, 0.0), dropout_p) @ v        # without `where` no key would count as all of them


def _top_left(q: Tensor, k: Tensor, v: Tensor, heads: int | None) -> Tensor:
    """Attention of query t to keys up to t; those behind the last key see all."""
    t, s = q.shape[-2], k.shape[-2]
    n = min(t, s)
    first = attention(q[..., :n, :], k[..., :n, :], v[..., :n, :], True, heads)
    return first if t == n else cat([first, attention(q[..., n:, :], k, v, False, heads)], -2)


def rotary(input: TensorLike, cos: TensorLike, sin: TensorLike, heads: int | None = None,
           interleaved: bool = False) -> Tensor:
    """Pairs (a, b) of elements turned by an angle: (a cos - b sin, a sin + b cos) (Su et al. 2021).

    Args:
        input: (..., T, D).
        cos: (T, D / 2), of the angle of each position and pair.
        sin: (T, D / 2).
        heads: only so many, the first, of the third dimension from the end are turned; None: all.
        interleaved: pair i is elements 2i and 2i + 1; else i and i + D / 2, as in Llama.

    Returns:
        A Tensor of the same shape.

    Raises:
        ShapeError: shapes or heads that do not fit.

    Example:
        >>> F.rotary([[1.0, 0.0]], cos=[[0.0]], sin=[[1.0]])
        tensor([[0., 1.]])
    """
    return apply(ops.rotary.Rotary, input, cos, sin, interleaved=checks.flag("rotary", "interleaved", interleaved),
                 heads=None if heads is None else checks.whole("rotary", "heads", heads))
