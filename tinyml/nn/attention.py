"""Multi-head attention."""

from __future__ import annotations

from ..errors import ShapeError
from ..tensor import Tensor
from . import functional as F
from .layers import Linear
from .module import Module


class MultiHeadAttention(Module):
    """Self-attention of x (B, T, C) in `heads` heads of size C / heads (Vaswani et al. 2017).

    qkv maps C to 3C, one product for queries, keys and values; proj maps the heads' results back. causal: position t
    sees positions up to t.
    """

    def __init__(self, dim: int, heads: int, causal: bool = True, bias: bool = True):
        if heads < 1 or dim % heads:
            raise ShapeError(f"MultiHeadAttention: heads must divide dim, got {heads} and {dim}")
        self.heads, self.causal = heads, causal
        self.qkv = Linear(dim, 3 * dim, bias)
        self.proj = Linear(dim, dim, bias)

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        qkv = self.qkv(x).reshape(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)     # (3, B, nh, T, hs)
        y = F.self_attention(qkv, self.causal)                                                     # (B, nh, T, hs)
        return self.proj(y.permute(0, 2, 1, 3).reshape(b, t, c))

    def describe(self) -> str:
        return f"heads={self.heads}, causal={self.causal}"
