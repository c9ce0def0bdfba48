"""The network of a TinyGPT: its blocks, and logits from ids."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ... import checks, nn
from ...errors import ShapeError
from ...nn.containers import in_turn
from ...tensors import Tensor, TensorLike, as_tensor
from .config import TinyGPTConfig


def norm(c: TinyGPTConfig) -> nn.LayerNorm | nn.RMSNorm:
    """A normalisation of the residual stream."""
    return nn.LayerNorm(c.dim, c.eps, bias=c.bias) if c.norm == "layer" else nn.RMSNorm(c.dim, c.eps)


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(x)."""

    def __init__(self, c: TinyGPTConfig):
        rotary = nn.Rotary(c.dim // c.heads, c.theta, c.positions == "rotary_interleaved") if c.rotary else None
        self.norm1 = norm(c)
        self.attention = nn.SelfAttention(c.dim, c.heads, True, c.bias, c.kv_heads, rotary)
        self.norm2 = norm(c)
        self.gate: nn.Linear | None = None
        if c.activation == "swiglu":
            self.gate = nn.Linear(c.dim, c.hidden, c.bias)
            self.silu = nn.SiLU()
            self.up = nn.Linear(c.dim, c.hidden, c.bias)
        else:
            self.up = nn.Linear(c.dim, c.hidden, c.bias)
            self.gelu = nn.GELU("tanh" if c.activation == "gelu_tanh" else "none")
        self.down = nn.Linear(c.hidden, c.dim, c.bias)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, cache: nn.KeyValueCache | None = None) -> Tensor:     # (B, T, C)
        x = x + self.dropout(self.attention(self.norm1(x), cache))
        return x + self.dropout(self.feed_forward(x))

    def feed_forward(self, x: Tensor) -> Tensor:
        """down(gelu(up(norm(x)))), or with a gate down(silu(gate(norm(x))) * up(norm(x))).

        Args:
            x: (B, T, C).

        Returns:
            A Tensor (B, T, C).
        """
        if self.gate is None:
            y: Tensor = in_turn([self.norm2, self.up, self.gelu, self.down], x)
            return y
        x = self.norm2(x)
        return self.down(in_turn([self.gate, self.silu], x) * self.up(x))


class Transformer(nn.Module):
    """Logits (B, T, vocab_size) from ids (B, T), T up to `context`; position t predicts the id at t + 1."""

    _made: Any      # its layers as they were made (plain.py)

    def __init__(self, config: TinyGPTConfig):
        c = self.config = config
        nn.init.check(c.parameters + 8 * c.layers * nn.init.OVERHEAD, "TinyGPT")    # before blocks are made one by one
        self.context = c.context
        self.tokens = nn.Embedding(c.vocab_size, c.dim, std=0.02)
        self.positions = None if c.rotary else nn.Embedding(c.context, c.dim, std=0.02)
        self.dropout = nn.Dropout(c.dropout)
        self.blocks: nn.ModuleList[Block] = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.norm = norm(c)
        self.head = nn.Linear(c.dim, c.vocab_size, bias=False)
        if c.tied:
            self.head.weight = self.tokens.weight
        else:
            self.head.weight.array = nn.init.normal((c.vocab_size, c.dim), 0.02)
        for block in self.blocks:
            a = block.attention
            for linear in (a.qkv, a.proj, *([] if block.gate is None else [block.gate]), block.up, block.down):
                # projections into the residual stream are scaled down by their number, as GPT-2
                into = linear is a.proj or linear is block.down
                linear.weight.array = nn.init.normal(linear.weight.shape, 0.02 / (math.sqrt(2 * c.layers) if into else 1))
                if linear.bias is not None:
                    linear.bias.array[...] = 0

    def forward(self, ids: TensorLike, caches: list[nn.KeyValueCache] | None = None) -> Tensor:
        """Logits of the id that follows each position.

        Args:
            ids: (B, T).
            caches: keys and values of the ids before these (see `caches`), to which those of these are added.

        Returns:
            A Tensor (B, T, vocab_size).

        Raises:
            ShapeError: another shape, more ids than the context has left, or caches that do not fit.
        """
        return self.head(self.states(ids, caches))

    def last(self, ids: TensorLike, caches: list[nn.KeyValueCache] | None = None) -> Tensor:
        """Logits of the last position only: what generation needs of a long prompt.

        Args:
            ids: (B, T).
            caches: as in `forward`.

        Returns:
            A Tensor (B, vocab_size).
        """
        return self.head(self.states(ids, caches)[:, -1])

    def states(self, ids: TensorLike, caches: list[nn.KeyValueCache] | None = None) -> Tensor:
        """What the head reads.

        Args:
            ids: (B, T).
            caches: as in `forward`.

        Returns:
            A Tensor (B, T, C).

        Raises:
            ShapeError: another shape, more ids than the context has left, or caches that do not fit.
        """
        ids = as_tensor(ids)
        if caches is not None and (not isinstance(caches, (list, tuple)) or len(caches) != len(self.blocks)):
            raise ShapeError(f"TinyGPT: expected a cache for each of {len(self.blocks)} blocks, see caches(), got "
                             f"{checks.described(caches)}")
        start = checks.instance("TinyGPT", "caches[0]", caches[0], nn.KeyValueCache).length if caches else 0
        if ids.ndim != 2 or not 1 <= ids.shape[1] <= self.context - start:
            raise ShapeError(f"TinyGPT: expected ids (B, T) with T from 1 to {self.context - start}, got {ids.shape}")
        x = self.tokens(ids)                                                  # (B, T, C)
        if self.positions is not None:
            x = x + self.positions(np.arange(start, start + ids.shape[1]))
        x = self.dropout(x)
        for i, block in enumerate(self.blocks):
            x = block(x, caches[i] if caches else None)
        return self.norm(x)

    def caches(self, batch: int, stored: str = "float32") -> list[nn.KeyValueCache]:
        """An empty cache for each block.

        Args:
            batch: rows, of up to `context` positions each.
            stored: "float32", "float16" or "int8" (one scale for each head and position).

        Returns:
            The caches, in the order of the blocks.

        Raises:
            ShapeError, DtypeError: arguments out of range; OutOfMemoryError: more than this machine has.
        """
        c, batch = self.config, checks.whole("TinyGPT.caches", "batch", batch)
        return [nn.KeyValueCache(batch, c.kv_heads, c.context, c.dim // c.heads, stored) for _ in self.blocks]
