"""TinyGPT: a decoder-only transformer, GPT-2's (Radford et al. 2019) or the Llama family's (Touvron et al. 2023)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ... import checks, nn
from ...tensor import Tensor
from .config import PRESETS, TinyGPTConfig
from .generation import Sampling, prompts, stream
from .network import Block, Transformer
from .next_token import next_token_loss
from .plain import layout, own
from .pretrained import Checkpoint


class TinyGPT(Transformer):
    """Logits (B, T, vocab_size) from ids (B, T), T up to `context`; position t predicts the id at t + 1.

    The arguments are the fields of TinyGPTConfig, which documents them; `parts` are those that are not named here. Without
    them it has GPT-2's shape. `config` has them all.
    """

    default_loss = staticmethod(next_token_loss)

    def __init__(self, vocab_size: int, context: int, layers: int, heads: int, dim: int, dropout: float = 0.0,
                 tied: bool = True, **parts: Any):
        super().__init__(TinyGPTConfig(vocab_size, context, layers, heads, dim, dropout, tied, **parts))
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


own(Block, Transformer, TinyGPT, frame=True)
