"""Multi-head attention, and rotary positions for it."""

from __future__ import annotations

import functools

import numpy as np

from .. import checks
from ..errors import ShapeError
from ..tensors import Tensor, TensorLike, as_tensor
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

    The tables of angles are no parameters: layers share them, and no file has them.

    Args:
        dim: elements of a head, an even number.
        theta: base of the angles.
        interleaved: pair i is elements 2i and 2i + 1; else i and i + dim / 2, as in Llama.

    Raises:
        ShapeError, DtypeError: a number out of range, or that is none; an odd dim.

    Example:
        >>> nn.Rotary(8)(np.ones((2, 5, 8), np.float32), start=3).shape
        (2, 5, 8)
    """

    def __init__(self, dim: int, theta: float = 10000.0, interleaved: bool = False):
        self.dim, self.theta = checks.whole("Rotary", "dim", dim, 1), checks.number("Rotary", "theta", theta, 1)
        self.interleaved = checks.flag("Rotary", "interleaved", interleaved)
        if self.dim % 2:
            raise ShapeError(f"Rotary: expected an even dim, got {dim}")

    def forward(self, x: TensorLike, start: int = 0, heads: int | None = None) -> Tensor:
        """Turn the pairs.

        Args:
            x: (..., T, dim).
            start: the position of the first of the T.
            heads: only so many, the first, of the third dimension from the end are turned; None: all.

        Returns:
            A Tensor of the same shape.

        Raises:
            ShapeError: shapes or numbers that do not fit.
        """
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


class SelfAttention(Module):
    """Self-attention of x (B, T, C) in several heads of size C / heads (Vaswani et al. 2017).

    The layer `qkv` is one product for queries, keys and values; `proj` maps the heads' results back.

    Args:
        dim: C.
        heads: heads of queries, which divide C.
        causal: position t sees positions up to t only.
        bias: whether qkv and proj have one.
        kv_heads: heads of keys and values, each for heads / kv_heads heads of queries in a row (Ainslie et al. 2023);
            None: as many as `heads`.
        rotary: a Rotary(C / heads) that turns queries and keys; None for none.

    Raises:
        ShapeError, DtypeError: numbers out of range, or that do not divide each other.

    Example:
        >>> nn.SelfAttention(32, heads=4)(np.ones((2, 5, 32), np.float32)).shape
        (2, 5, 32)
    """

    def __init__(self, dim: int, heads: int, causal: bool = True, bias: bool = True, kv_heads: int | None = None,
                 rotary: Rotary | None = None):
        name = "SelfAttention"
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

    def forward(self, x: TensorLike, cache: KeyValueCache | None = None) -> Tensor:
        """Attend.

        Args:
            x: (B, T, C).
            cache: keys and values of the positions before x, to which those of x are added; x sees them all.

        Returns:
            A Tensor (B, T, C).

        Raises:
            ShapeError: another shape, or more positions than the cache has room for.
        """
        x = as_tensor(x)
        if x.ndim != 3:
            raise ShapeError(f"SelfAttention: expected x (B, T, C), got {x.shape}")
        b, t, c = x.shape
        qkv = self.qkv(x).reshape(b, t, self.heads + 2 * self.kv_heads, c // self.heads)
        qkv = qkv.permute(0, 2, 1, 3)                                   # (B, nh + 2 kv, T, hs)
        if self.rotary is not None:
            start = 0 if cache is None else cache.length
            qkv = self.rotary(qkv, start, self.heads + self.kv_heads)   # values stay
        if cache is None:
            y = F.self_attention(qkv, self.causal, self.kv_heads)       # (B, nh, T, hs)
        else:
            checks.instance("SelfAttention", "cache", cache, KeyValueCache)
            h, g = self.heads, self.kv_heads
            y = F.attention(qkv[:, :h], *cache.append(qkv[:, h : h + g], qkv[:, h + g :]), self.causal, g)
        return self.proj(y.permute(0, 2, 1, 3).reshape(b, t, c))

    def describe(self) -> str:
        shared = f", kv_heads={self.kv_heads}" if self.kv_heads != self.heads else ""
        return f"heads={self.heads}, causal={self.causal}{shared}"
