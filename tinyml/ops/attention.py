"""Attention as one op, whose scores are never in memory."""

from __future__ import annotations

import numpy as np

from .._kernels import attention
from ..errors import ShapeError
from .op import Op, normal, sample


class Attention(Op):
    """y = softmax(q k^T / sqrt(D)) v of q (..., T, D), k (..., S, D), v (..., S, E) (Vaswani et al. 2017).

    One operand (3, ..., T, D) is q, k and v in one array. causal: query t sees keys up to t + S - T. Leading dimensions
    broadcast. Computed block by block (FlashAttention, Dao et al. 2022), the scores again in backward.

    Raises:
        ShapeError: shapes do not fit, or causal with fewer keys than queries, of which the first would see none.
    """

    name = "attention"

    @staticmethod
    def forward(ctx, *qkv, causal=False):
        q, k, v = _parts(qkv)
        _check(q, k, v, causal)
        y, ctx.rows = attention.attention(q, k, v, causal)
        ctx.qkv, ctx.causal, ctx.y = qkv, causal, y
        return y

    @staticmethod
    def backward(ctx, grad):
        return attention.attention_grad(*_parts(ctx.qkv), ctx.causal, ctx.y, ctx.rows, grad, len(ctx.qkv) == 1)

    @staticmethod
    def samples(rng):
        yield sample(normal(rng, 3, 4), normal(rng, 5, 4), normal(rng, 5, 2))
        yield sample(normal(rng, 2, 3, 4), normal(rng, 2, 3, 4), normal(rng, 2, 3, 4), causal=True)
        yield sample(normal(rng, 2, 1, 3, 4), normal(rng, 3, 5, 4), normal(rng, 1, 1, 5, 4))
        yield sample(normal(rng, 3, 2, 2, 5, 3), causal=True)
        yield sample(normal(rng, 5, 2, 3, 2, 3).transpose(2, 1, 3, 0, 4), causal=False)
        yield sample(normal(rng, 2, 0, 4), normal(rng, 2, 3, 4), normal(rng, 2, 3, 4))
        yield sample(normal(rng, 3, 0, 2, 3, 4), causal=True)

    @staticmethod
    def parity(torch, *qkv, causal=False):
        q, k, v = _parts(qkv)
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)


def _parts(qkv):
    """q, k and v of the operands."""
    if len(qkv) == 3:
        return qkv
    if len(qkv) != 1 or qkv[0].shape[:1] != (3,):
        raise ShapeError("attention: expected (3, ..., T, D) or three operands, got "
                         f"{', '.join(str(tuple(x.shape)) for x in qkv)}")
    return tuple(qkv[0])


def _check(q, k, v, causal):
    shapes = f"got q {q.shape}, k {k.shape}, v {v.shape}"
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ShapeError(f"attention: expected q (..., T, D), k (..., S, D) and v (..., S, E), {shapes}")
    if causal and q.shape[-2] > k.shape[-2]:
        raise ShapeError(f"attention: causal expects at least as many keys as queries, {shapes}")
    try:
        np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    except ValueError:
        raise ShapeError(f"attention: leading dimensions do not broadcast, {shapes}") from None
