"""Attention as one op, whose matrix of scores is never in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .._kernels.attention.attention import attention, attention_grad
from ..errors import ShapeError
from ..tape import Context
from .op import Gradients, Op, Sample, normal, sample


class Attention(Op):
    """Scaled dot-product attention: y = softmax(q k^T / sqrt(D)) v (Vaswani et al. 2017).

    Operands q (..., T, D), k (..., S, D), v (..., S, E), whose leading dimensions broadcast, or one operand (3, ..., T, D)
    that has q, k and v in one array; y (..., T, E). It is computed block by block (FlashAttention, Dao et al. 2022), and
    backward computes the scores again.

    Attributes:
        causal: query t sees the keys up to t + S - T only.
        kv_heads: k and v have that many heads (their third dimension from the end) and q has H heads, a multiple; each
            H / kv_heads heads of q in a row share one of k and v (grouped-query attention, Ainslie et al. 2023). One
            operand is then (..., H + 2 kv_heads, T, D). None: as many heads in all.

    Raises:
        ShapeError: shapes do not fit, or causal with fewer keys than queries, of which the first would see none.
    """

    name = "attention"

    @staticmethod
    def forward(ctx: Context, *qkv: np.ndarray, causal: bool = False, kv_heads: int | None = None) -> np.ndarray:
        q, k, v = split_qkv(qkv, kv_heads)
        _check(q, k, v, causal, kv_heads)
        y, ctx.rows = attention(q, k, v, causal, kv_heads)
        ctx.qkv, ctx.causal, ctx.kv_heads, ctx.y = qkv, causal, kv_heads, y
        return y

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        q, k, v = split_qkv(ctx.qkv, ctx.kv_heads)
        return attention_grad(q, k, v, ctx.causal, ctx.y, ctx.rows, grad, len(ctx.qkv) == 1, ctx.kv_heads)

    @staticmethod
    def flops(y: np.ndarray, *qkv: np.ndarray, causal: bool = False, kv_heads: int | None = None) -> float:
        q, k, v = split_qkv(qkv, kv_heads)
        t, s = q.shape[-2], k.shape[-2]
        pairs = t * s - (t * (t - 1) // 2 if causal else 0)
        return float(2 * math.prod(y.shape[:-2]) * pairs * (q.shape[-1] + v.shape[-1]))

    @staticmethod
    def backward_flops(needs: list[bool]) -> float:
        return 2.5      # two products forward; the scores again and four products backward

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 4), normal(rng, 5, 4), normal(rng, 5, 2))
        yield sample(normal(rng, 2, 3, 4), normal(rng, 2, 3, 4), normal(rng, 2, 3, 4), causal=True)
        yield sample(normal(rng, 2, 1, 3, 4), normal(rng, 3, 5, 4), normal(rng, 1, 1, 5, 4))
        yield sample(normal(rng, 3, 2, 2, 5, 3), causal=True)
        yield sample(normal(rng, 5, 2, 3, 2, 3).transpose(2, 1, 3, 0, 4), causal=False)
        yield sample(normal(rng, 2, 0, 4), normal(rng, 2, 3, 4), normal(rng, 2, 3, 4))
        yield sample(normal(rng, 3, 0, 2, 3, 4), causal=True)
        yield sample(normal(rng, 2, 4, 3, 2), normal(rng, 2, 2, 3, 2), normal(rng, 2, 2, 3, 4), causal=True, kv_heads=2)
        yield sample(normal(rng, 3, 4, 2), normal(rng, 1, 5, 2), normal(rng, 1, 5, 3), kv_heads=1)
        yield sample(normal(rng, 2, 3, 8, 2).transpose(0, 2, 1, 3), causal=True, kv_heads=2)
        yield sample(normal(rng, 0, 3, 2, 2), causal=True, kv_heads=1)

    @staticmethod
    def parity(torch: Any, *qkv: Any, causal: Any = False, kv_heads: Any = None) -> Any:
        q, k, v = split_qkv(qkv, kv_heads)
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=kv_heads is not None)


def split_qkv(qkv: tuple[Any, ...], kv_heads: int | None = None) -> tuple[Any, Any, Any]:
    """q, k and v from the operands of an Attention, one or three: arrays, or PyTorch's tensors.

    Raises:
        ShapeError: another number of operands, or one of another shape.
    """
    if len(qkv) == 3:
        q, k, v = qkv
        return q, k, v
    if kv_heads is not None:
        if len(qkv) != 1 or qkv[0].ndim < 3 or not 0 < kv_heads <= qkv[0].shape[-3] // 3:
            raise ShapeError(f"attention: expected (..., H + 2 kv_heads, T, D) with H a multiple of kv_heads, {kv_heads}, "
                             f"or three operands, got {', '.join(str(tuple(x.shape)) for x in qkv)}")
        x, q_heads = qkv[0], qkv[0].shape[-3] - 2 * kv_heads
        return x[..., :q_heads, :, :], x[..., q_heads:-kv_heads, :, :], x[..., -kv_heads:, :, :]
    if len(qkv) != 1 or qkv[0].shape[:1] != (3,):
        raise ShapeError("attention: expected (3, ..., T, D) or three operands, got "
                         f"{', '.join(str(tuple(x.shape)) for x in qkv)}")
    q, k, v = qkv[0]
    return q, k, v


def _check(q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool, kv_heads: int | None) -> None:
    shapes = f"got q {q.shape}, k {k.shape}, v {v.shape}"
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ShapeError(f"attention: expected q (..., T, D), k (..., S, D) and v (..., S, E), {shapes}")
    if causal and q.shape[-2] > k.shape[-2]:
        raise ShapeError(f"attention: causal expects at least as many keys as queries, {shapes}")
    inner = 2       # dimensions that do not broadcast
    if kv_heads is not None:
        inner = 3
        if min(q.ndim, k.ndim, v.ndim) < 3 or kv_heads < 1 or not k.shape[-3] == v.shape[-3] == kv_heads or (
                q.shape[-3] < kv_heads or q.shape[-3] % kv_heads):
            raise ShapeError(f"attention: expected k and v with {kv_heads} heads and q with a multiple of them, {shapes}")
    try:
        np.broadcast_shapes(q.shape[:-inner], k.shape[:-inner], v.shape[:-inner])
    except ValueError:
        raise ShapeError(f"attention: leading dimensions do not broadcast, {shapes}") from None
