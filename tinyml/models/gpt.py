"""TinyGPT: a decoder-only transformer of GPT-2's shape (Radford et al. 2019)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import nn, random
from ..errors import DtypeError, ShapeError
from ..nn.module import in_turn
from ..tape import no_grad
from ..tensor import INTEGERS, Tensor, as_tensor


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), the MLP four times as wide inside."""

    def __init__(self, dim: int, heads: int, dropout: float):
        self.norm1 = nn.LayerNorm(dim)
        self.attention = nn.MultiHeadAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, 4 * dim)
        self.gelu = nn.GELU()
        self.down = nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:     # (B, T, C)
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(in_turn([self.norm2, self.up, self.gelu, self.down], x))


class TinyGPT(nn.Module):
    """Logits (B, T, vocab_size) from ids (B, T), T up to `context`; position t predicts the id at t + 1.

    tied: the output projection is the token embedding (Press & Wolf 2017).
    """

    def __init__(self, vocab_size: int, context: int, layers: int, heads: int, dim: int, dropout: float = 0.0,
                 tied: bool = True):
        self.context = context
        self.tokens = nn.Embedding(vocab_size, dim, std=0.02)
        self.positions = nn.Embedding(context, dim, std=0.02)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, vocab_size, bias=False)
        if tied:
            self.head.weight = self.tokens.weight
        else:
            self.head.weight.data[...] = nn.init.normal((vocab_size, dim), 0.02)
        for block in self.blocks:
            for linear in (block.attention.qkv, block.attention.proj, block.up, block.down):
                # projections into the residual stream are scaled down by their number, as GPT-2
                into = linear is block.attention.proj or linear is block.down
                linear.weight.data[...] = nn.init.normal(linear.weight.shape, 0.02 / (math.sqrt(2 * layers) if into else 1))
                linear.bias.data[...] = 0

    def forward(self, ids: Any) -> Tensor:
        ids = as_tensor(ids)
        if ids.ndim != 2 or not 1 <= ids.shape[1] <= self.context:
            raise ShapeError(f"TinyGPT: expected ids (B, T) with T from 1 to {self.context}, got {ids.shape}")
        x = self.tokens(ids) + self.positions(np.arange(ids.shape[1]))        # (B, T, C)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    def generate(self, ids: Any, max_new_tokens: int, temperature: float = 1.0, top_k: int | None = None,
                 seed: int | None = None) -> np.ndarray:
        """ids (T,) or (B, T) continued by `max_new_tokens` sampled ids, in evaluation mode.

        temperature 0 takes the most likely id; top_k samples among the k most likely. The context slides once it is full.

        Raises:
            DtypeError, ShapeError: ids that are no integers, empty, or outside the vocabulary; options out of range.
        """
        given = np.asarray(ids.data if isinstance(ids, Tensor) else ids)
        out = given[None] if given.ndim == 1 else given
        if out.ndim != 2 or out.shape[1] == 0:
            raise ShapeError(f"generate: expected a prompt (T,) or (B, T) of at least one id, got shape {given.shape}")
        if given.dtype not in INTEGERS or given.dtype == np.bool_:
            raise DtypeError(f"generate: expected integer ids, got {given.dtype}")
        if not temperature >= 0 or max_new_tokens < 0 or (top_k is not None and top_k < 1):
            raise ShapeError(f"generate: expected temperature and max_new_tokens of at least 0 and top_k of at least 1, "
                             f"got {temperature}, {max_new_tokens}, {top_k}")
        rng = random.generator() if seed is None else np.random.default_rng(seed)
        training = self.training
        self.eval()
        try:
            for _ in range(max_new_tokens):
                with no_grad():
                    logits = self(out[:, -self.context :]).numpy()[:, -1].astype(np.float64)      # (B, vocab)
                out = np.concatenate([out, sample(logits, temperature, top_k, rng)[:, None]], axis=1)
        finally:
            self.train(training)
        return out[0] if given.ndim == 1 else out


def sample(logits: np.ndarray, temperature: float, top_k: int | None, rng: np.random.Generator) -> np.ndarray:
    """One id a row of logits (B, V)."""
    if temperature == 0:
        return logits.argmax(axis=1)
    logits = logits / temperature
    if top_k is not None and top_k < logits.shape[1]:
        least = np.partition(logits, -top_k, axis=1)[:, -top_k, None]
        logits = np.where(logits < least, -np.inf, logits)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    up_to = p.cumsum(axis=1)
    # the last is exactly 1 and a draw is below 1, so an id of probability 0 never comes
    return (up_to / up_to[:, -1:] <= rng.random((len(p), 1))).sum(axis=1)
