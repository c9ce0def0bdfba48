"""TinyGPT: a decoder-only transformer, GPT-2's (Radford et al. 2019) or the Llama family's (Touvron et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import checks, nn
from ..errors import ShapeError
from ..nn.module import in_turn
from ..tensor import Tensor, as_tensor
from .generation import Sampling, prompts, stream
from .gpt_config import PRESETS, TinyGPTConfig
from .next_token import next_token_loss
from .plain import layout, own
from .pretrained import Checkpoint


def norm(c: TinyGPTConfig) -> nn.Module:
    """A normalisation of the residual stream."""
    return nn.LayerNorm(c.dim, c.eps, c.bias) if c.norm == "layer" else nn.RMSNorm(c.dim, c.eps)


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(x)."""

    def __init__(self, c: TinyGPTConfig):
        rotary = nn.Rotary(c.dim // c.heads, c.theta, c.positions == "rotary_interleaved") if c.rotary else None
        self.norm1 = norm(c)
        self.attention = nn.MultiHeadAttention(c.dim, c.heads, True, c.bias, c.kv_heads, rotary)
        self.norm2 = norm(c)
        if c.activation == "swiglu":
            self.gate = nn.Linear(c.dim, c.hidden, c.bias)
            self.silu = nn.SiLU()
            self.up = nn.Linear(c.dim, c.hidden, c.bias)
        else:
            self.gate = None
            self.up = nn.Linear(c.dim, c.hidden, c.bias)
            self.gelu = nn.GELU("tanh" if c.activation == "gelu_tanh" else "none")
        self.down = nn.Linear(c.hidden, c.dim, c.bias)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, cache: nn.KeyValueCache | None = None) -> Tensor:     # (B, T, C)
        x = x + self.dropout(self.attention(self.norm1(x), cache))
        return x + self.dropout(self.feed_forward(x))

    def feed_forward(self, x: Tensor) -> Tensor:
        """down(gelu(up(norm(x)))), or with a gate down(silu(gate(norm(x))) * up(norm(x)))."""
        if self.gate is None:
            return in_turn([self.norm2, self.up, self.gelu, self.down], x)
        x = self.norm2(x)
        return self.down(in_turn([self.gate, self.silu], x) * self.up(x))


class TinyGPT(nn.Module):
    """Logits (B, T, vocab_size) from ids (B, T), T up to `context`; position t predicts the id at t + 1.

    The arguments are the fields of TinyGPTConfig, which documents them; `parts` are those that are not named here. Without
    them it has GPT-2's shape. `config` has them all.
    """

    default_loss = staticmethod(next_token_loss)

    def __init__(self, vocab_size: int, context: int, layers: int, heads: int, dim: int, dropout: float = 0.0,
                 tied: bool = True, **parts: Any):
        c = self.config = TinyGPTConfig(vocab_size, context, layers, heads, dim, dropout, tied, **parts)
        nn.init.check(c.parameters + 8 * c.layers * nn.init.OVERHEAD, "TinyGPT")    # before blocks are made one by one
        self.context = c.context
        self.tokens = nn.Embedding(c.vocab_size, c.dim, std=0.02)
        self.positions = None if c.rotary else nn.Embedding(c.context, c.dim, std=0.02)
        self.dropout = nn.Dropout(c.dropout)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.norm = norm(c)
        self.head = nn.Linear(c.dim, c.vocab_size, bias=False)
        if c.tied:
            self.head.weight = self.tokens.weight
        else:
            self.head.weight.data = nn.init.normal((c.vocab_size, c.dim), 0.02)
        for block in self.blocks:
            a = block.attention
            for linear in (a.qkv, a.proj, *([] if block.gate is None else [block.gate]), block.up, block.down):
                # projections into the residual stream are scaled down by their number, as GPT-2
                into = linear is a.proj or linear is block.down
                linear.weight.data = nn.init.normal(linear.weight.shape, 0.02 / (math.sqrt(2 * c.layers) if into else 1))
                if linear.bias is not None:
                    linear.bias.data[...] = 0
        self._made = layout(self)       # by which generation sees whether something was replaced since

    @classmethod
    def from_config(cls, config: TinyGPTConfig) -> TinyGPT:
        """A model with fresh parameters."""
        return cls(**checks.instance("TinyGPT.from_config", "config", config, TinyGPTConfig).as_dict())

    @classmethod
    def preset(cls, name: str, **changes: Any) -> TinyGPT:
        """A model of a known shape with fresh parameters: "char", "gpt2" (124M), "smollm2-135m"; `changes` replace fields.

        Raises:
            ShapeError: another name, or fields that do not fit.
        """
        return cls(**PRESETS[checks.choice("TinyGPT.preset", "name", name, PRESETS)].as_dict() | changes)

    @classmethod
    def from_pretrained(cls, path: Any) -> TinyGPT:
        """The model in a Hugging Face folder: config.json of model_type "gpt2" or "llama" (SmolLM2 is one), and
        model.safetensors, or its shards and their index, in F32, F16 or BF16. In evaluation mode, float32.

        All sizes are checked before anything is allocated, tensors are read one by one.

        Raises:
            FileError: naming the folder and what does not fit: a part TinyGPT has not, a tensor that is missing, left over
                or misshapen, a file that is cut or damaged.
        """
        checkpoint = Checkpoint(Path(checks.path("TinyGPT.from_pretrained", path)))
        with nn.init.blank():
            model = cls.from_config(checkpoint.config)
        checkpoint.fill(model)
        return model.eval()

    def forward(self, ids: Any, caches: list[nn.KeyValueCache] | None = None) -> Tensor:
        """Logits; with `caches` (see there) of ids that follow those which the caches have seen."""
        return self.head(self.states(ids, caches))

    def last(self, ids: Any, caches: list[nn.KeyValueCache] | None = None) -> Tensor:
        """Logits (B, vocab_size) of the last position only: what generation needs of a long prompt."""
        return self.head(self.states(ids, caches)[:, -1])

    def states(self, ids: Any, caches: list[nn.KeyValueCache] | None = None) -> Tensor:
        """What the head reads, (B, T, C)."""
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
        for block, cache in zip(self.blocks, caches or [None] * len(self.blocks)):
            x = block(x, cache)
        return self.norm(x)

    def caches(self, batch: int, stored: str = "float32") -> list[nn.KeyValueCache]:
        """An empty cache for each block, for `batch` rows of up to `context` positions, stored as "float32", "float16" or
        "int8" (a scale for each head and position)."""
        c, batch = self.config, checks.whole("TinyGPT.caches", "batch", batch)
        return [nn.KeyValueCache(batch, c.kv_heads, c.context, c.dim // c.heads, stored) for _ in self.blocks]

    def generate(self, ids: Any, max_new_tokens: int, temperature: float = 1.0, top_k: int | None = None,
                 seed: int | None = None, top_p: float = 1.0, repetition_penalty: float = 1.0,
                 stop: int | Collection[int] = (), cache: str = "float32", full: str = "slide"
                 ) -> np.ndarray | list[np.ndarray]:
        """ids (T,) or (B, T) continued by up to `max_new_tokens` sampled ids, in evaluation mode.

        The prompt goes through the model once, then one id at a time, with the keys and values of those before kept.
        Prompts may be a list of rows of unequal lengths: the result is a list too then. A row that is done repeats its last
        id until all are.

        Args:
            temperature, top_k, top_p, repetition_penalty: see Sampling.
            stop: an id, or several, after which a row is done.
            cache: how keys and values are stored, see `caches`. None are, and each id costs a whole pass, where blocks,
                attention, or their methods were replaced.
            full: "slide", once there are `context` ids the first of them is forgotten, and each id costs a whole pass; or
                "stop", the row is done then.

        Raises:
            DtypeError, ShapeError: ids that are no integers, empty, more than the context, or outside the vocabulary;
                options out of range. NonFiniteError: logits that are NaN.
        """
        count = checks.whole("generate", "max_new_tokens", max_new_tokens)
        sampling = Sampling(temperature, top_k, top_p, repetition_penalty)
        rows = prompts(ids, self.context, self.config.vocab_size)
        checks.room("generate", "the ids", (len(rows), count), 8)
        drawn = list(stream(self, ids, count, sampling, seed, stop, cache, full))
        out = [np.concatenate([row, [ids[b] for ids in drawn]]).astype(np.int64) for b, row in enumerate(rows)]
        if len({len(row) for row in rows}) > 1:
            return out
        return out[0] if np.ndim(ids.data if isinstance(ids, Tensor) else ids) == 1 else np.stack(out)

    def stream(self, ids: Any, max_new_tokens: int | None = None, temperature: float = 1.0, top_k: int | None = None,
               seed: int | None = None, top_p: float = 1.0, repetition_penalty: float = 1.0,
               stop: int | Collection[int] = (), cache: str = "float32", full: str = "slide") -> Iterator[np.ndarray]:
        """The ids that `generate` would add, (B,) at a time, as they are drawn; without max_new_tokens it does not end."""
        return stream(self, ids, max_new_tokens, Sampling(temperature, top_k, top_p, repetition_penalty), seed, stop, cache,
                      full)


own(Block, TinyGPT, frame=True)
