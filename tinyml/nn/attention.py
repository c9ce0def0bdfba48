"""Multi-head attention, and rotary positions for it."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .. import checks
from ..errors import ShapeError
from ..tensor import Tensor, as_tensor
from . import functional as F
from .cache import KeyValueCache
from .layers import Linear
from .module import Module


@functools.lru_cache(maxsize=8)
def angles(length: int, dim: int, theta: float) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin (length, dim/2) of position * theta^(-2i/dim), computed in double, float32, read-only."""
    turns = np.outer(np.arange(length), theta ** (-np.arange(0, dim, 2) / dim))
    tables = np.cos(turns).astype(np.float32), np.sin(turns).astype(np.float32)
    for table in tables:
        table.flags.writeable = False
    return tables


class Rotary(Module):
    """x (..., T, dim) with pair i of its elements turned by position * theta^(-2i/dim) (Su et al. 2021).

    A pair is elements 2i and 2i + 1 if interleaved, else i and i + dim/2, as in Llama. The tables are no parameters: layers
    share them, and no file has them.
    """

    def __init__(self, dim: int, theta: float = 10000.0, interleaved: bool = False):
        self.dim, self.theta = checks.whole("Rotary", "dim", dim, 1), checks.number("Rotary", "theta", theta, 1)
        self.interleaved = checks.flag("Rotary", "interleaved", interleaved)
        if self.dim % 2:
            raise ShapeError(f"Rotary: expected an even dim, got {dim}")

    def forward(self, x: Any, start: int = 0, heads: int | None = None) -> Tensor:
        """start: the position of the first of the T; heads: see functional.rotary."""
        x, start = as_tensor(x), checks.whole("Rotary", "start", start)
        if x.ndim < 2 or x.shape[-1] != self.dim:
            raise ShapeError(f"Rotary: expected x (..., T, {self.dim}), got {x.shape}")
        end = start + x.shape[-2]
        checks.room("Rotary", "its tables", (6 * end, self.dim))       # twice the length at most, a double and its float32
        # in powers of two, so that texts of many lengths share few tables
        cos, sin = angles(1 << max(end - 1, 0).bit_length(), self.dim, self.theta)
        return F.rotary(x, cos[start:end], sin[start:end], heads, self.interleaved)

    def describe(self) -> str:
        return f"{self.dim}, theta={self.theta}, interleaved={self.interleaved}"


class MultiHeadAttention(Module):
    """Self-attention of x (B, T, C) in `heads` heads of size C / heads (Vaswani et al. 2017).

    qkv is one product for queries, keys and values; proj maps the heads' results back. causal: position t sees positions up
    to t. kv_heads: how many heads of keys and values there are, each for heads / kv_heads heads of queries in a row
    (Ainslie et al. 2023); None: as many as `heads`. rotary: a Rotary(C / heads) that turns queries and keys.
    """

    def __init__(self, dim: int, heads: int, causal: bool = True, bias: bool = True, kv_heads: int | None = None,
                 rotary: Rotary | None = None):
        name = "MultiHeadAttention"
        dim, heads, kv_heads = checks.sizes(name, dim=dim, heads=heads, kv_heads=heads if kv_heads is None else kv_heads)
        causal, bias = checks.flag(name, "causal", causal), checks.flag(name, "bias", bias)
        if dim % heads:
            raise ShapeError(f"{name}: heads must divide dim, got {heads} and {dim}")
        if heads % kv_heads:
            raise ShapeError(f"{name}: kv_heads must divide heads, got {kv_heads} and {heads}")
        if rotary is not None and checks.instance(name, "rotary", rotary, Rotary).dim != dim // heads:
            raise ShapeError(f"{name}: expected rotary of dim / heads, {dim // heads}, got {rotary.dim}")
        self.heads, self.kv_heads, self.causal = heads, kv_heads, causal
        self.qkv = Linear(dim, dim + 2 * kv_heads * (dim // heads), bias)
        self.rotary = rotary
        self.proj = Linear(dim, dim, bias)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """cache: keys and values of the positions before x, to which those of x are added; x sees them all."""
        x = as_tensor(x)
        if x.ndim != 3:
            raise ShapeError(f"MultiHeadAttention: expected x (B, T, C), got {x.shape}")
        b, t, c = x.shape
        qkv = self.qkv(x).reshape(b, t, self.heads + 2 * self.kv_heads, c // self.heads)
        qkv = qkv.permute(0, 2, 1, 3)                                   # (B, nh + 2 kv, T, hs)
        if self.rotary is not None:
            start = 0 if cache is None else cache.length
            qkv = self.rotary(qkv, start, self.heads + self.kv_heads)   # values stay
        if cache is None:
            y = F.self_attention(qkv, self.causal, self.kv_heads)       # (B, nh, T, hs)
        else:
            checks.instance("MultiHeadAttention", "cache", cache, KeyValueCache)
            h, g = self.heads, self.kv_heads
            y = F.attention(qkv[:, :h], *cache.append(qkv[:, h : h + g], qkv[:, h + g :]), self.causal, g)
        return self.proj(y.permute(0, 2, 1, 3).reshape(b, t, c))

    def describe(self) -> str:
        shared = f", kv_heads={self.kv_heads}" if self.kv_heads != self.heads else ""
        return f"heads={self.heads}, causal={self.causal}{shared}"
