"""TinyGPT: a decoder-only transformer, GPT-2's (Radford et al. 2019) or the Llama family's (Touvron et al. 2023)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ... import checks, nn
from ...tensors import Tensor
from .config import PRESETS, TinyGPTConfig
from .generation import Sampling, prompts, stream
from .network import Block, Transformer
from .next_token import next_token_loss
from .plain import layout, own
from .pretrained import Checkpoint


class TinyGPT(Transformer):
    """Logits (B, T, vocab_size) from ids (B, T), T up to `context`; position t predicts the id at t + 1.

    The arguments are the fields of TinyGPTConfig; `config` has them all. The defaults make it GPT-2's architecture.

    Args:
        vocab_size: how many ids there are.
        context: how many positions at most.
        layers: blocks.
        heads: heads of queries in each block, of size dim / heads.
        dim: width of the residual stream.
        dropout: of the embedding and of what each half of a block adds.
        tied: whether the output projection is the token embedding (Press & Wolf 2017).
        kv_heads: heads of keys and values (Ainslie et al. 2023); None: as many as `heads`.
        hidden: width of the feed-forward; None: 4 dim.
        norm: "layer" (Ba et al. 2016) or "rms" (Zhang & Sennrich 2019).
        eps: the number below the norm's root.
        positions: "learned", an embedding; "rotary" (Su et al. 2021), pairs half a head apart, as Llama has them; or
            "rotary_interleaved", pairs of neighbours.
        theta: base of the rotary angles.
        activation: "gelu"; "gelu_tanh", its tanh form, GPT-2's; or "swiglu" (Shazeer 2020).
        bias: whether linear layers (but the output projection) and layer norms have one.
        characters: of a model of characters, that of each id; see TinyGPTConfig.

    Raises:
        ShapeError, DtypeError: as TinyGPTConfig does.

    Example:
        >>> model = models.TinyGPT(vocab_size=65, context=16, layers=2, heads=2, dim=32)
        >>> model(np.zeros((1, 5), np.int64)).shape
        (1, 5, 65)
        >>> model.generate([1, 2, 3], max_new_tokens=4, seed=0).shape
        (7,)
    """

    default_loss = staticmethod(next_token_loss)

    def __init__(self, vocab_size: int, context: int, layers: int, heads: int, dim: int, dropout: float = 0.0,
                 tied: bool = True, kv_heads: int | None = None, hidden: int | None = None, norm: str = "layer",
                 eps: float = 1e-5, positions: str = "learned", theta: float = 10000.0, activation: str = "gelu",
                 bias: bool = True, characters: str | None = None):
        super().__init__(TinyGPTConfig(
            vocab_size, context, layers, heads, dim, dropout, tied, kv_heads, hidden,       # type: ignore[arg-type]
            norm, eps, positions, theta, activation, bias, characters))
        self._made = layout(self)       # by which generation sees whether something was replaced since

    @classmethod
    def from_config(cls, config: TinyGPTConfig) -> TinyGPT:
        """A model with fresh parameters.

        Args:
            config: its sizes and parts.

        Returns:
            The model.

        Raises:
            DtypeError: `config` is no TinyGPTConfig.

        Example:
            >>> models.TinyGPT.from_config(models.TinyGPTConfig(65, 16, 2, 2, 32)).context
            16
        """
        return cls(**checks.instance("TinyGPT.from_config", "config", config, TinyGPTConfig).as_dict())

    @classmethod
    def preset(cls, name: str, vocab_size: int | None = None, context: int | None = None, layers: int | None = None,
               heads: int | None = None, dim: int | None = None, dropout: float | None = None, tied: bool | None = None,
               kv_heads: int | None = None, hidden: int | None = None, norm: str | None = None, eps: float | None = None,
               positions: str | None = None, theta: float | None = None, activation: str | None = None,
               bias: bool | None = None, characters: str | None = None) -> TinyGPT:
        """A model of a known shape with fresh parameters.

        All arguments but the name are fields of TinyGPTConfig, which says more of them; those that are None are the
        preset's.

        Args:
            name: "char", "gpt2" (124M parameters) or "smollm2-135m".
            vocab_size: how many ids there are.
            context: how many positions at most.
            layers: blocks.
            heads: heads of queries in each block.
            dim: width of the residual stream.
            dropout: of the embedding and of what each half of a block adds.
            tied: whether the output projection is the token embedding.
            kv_heads: heads of keys and values.
            hidden: width of the feed-forward.
            norm: "layer" or "rms".
            eps: the number below the norm's root.
            positions: "learned", "rotary" or "rotary_interleaved".
            theta: base of the rotary angles.
            activation: "gelu", "gelu_tanh" or "swiglu".
            bias: whether linear layers and layer norms have one.
            characters: of a model of characters, that of each id.

        Returns:
            The model.

        Raises:
            ShapeError: another name, or fields that do not fit.

        Example:
            >>> models.TinyGPT.preset("char", layers=2).config.layers
            2
        """
        fields = PRESETS[checks.choice("TinyGPT.preset", "name", name, PRESETS)].as_dict()
        given = (vocab_size, context, layers, heads, dim, dropout, tied, kv_heads, hidden, norm, eps, positions, theta,
                 activation, bias, characters)      # in the order of the fields
        changes = {field: value for field, value in zip(fields, given, strict=True) if value is not None}
        return cls(**fields | changes)

    @classmethod
    def from_pretrained(cls, path: str | PathLike[str]) -> TinyGPT:
        """The model in a Hugging Face folder: config.json of model_type "gpt2" or "llama" (SmolLM2 is one), and
        model.safetensors, or its shards and their index, in F32, F16 or BF16.

        All sizes are checked before anything is allocated; tensors are read one by one.

        Args:
            path: the folder.

        Returns:
            The model in evaluation mode, in float32.

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
        """A text continued by sampled ids, in evaluation mode.

        The prompt goes through the model once, then one id at a time, with the keys and values of those before kept.

        Args:
            ids: (T,) or (B, T), or a list of rows of unequal lengths.
            max_new_tokens: how many to add at most.
            temperature: divides the logits; 0 takes the most likely id.
            top_k: only the k most likely ids count; None: all.
            seed: of the draws; None: tinyml's generator.
            top_p: only the most likely ids count that have this much probability together (Holtzman et al. 2020).
            repetition_penalty: logits of ids that were there already are divided by it where positive, else multiplied
                (Keskar et al. 2019); 1 changes nothing.
            stop: an id, or several, after which a row is done.
            cache: how keys and values are stored: "float32", "float16" or "int8". None are, and each id costs a whole pass,
                where blocks, attention, or their methods were replaced.
            full: what happens once there are `context` ids: "slide" forgets the first of them, and each id costs a whole
                pass; "stop" ends the row.

        Returns:
            The prompt and what was added, int64: (T + n,) or (B, T + n), or a list of rows where lengths are unequal. A row
            that is done repeats its last id until all are.

        Raises:
            DtypeError, ShapeError: ids that are no integers, empty, more than the context, or outside the vocabulary;
                options out of range.
            NonFiniteError: logits that are NaN or infinite.

        Example:
            >>> model = models.TinyGPT.preset("char", layers=1)
            >>> model.generate([[1, 2], [3, 4]], max_new_tokens=3, temperature=0).shape
            (2, 5)
        """
        count = checks.whole("generate", "max_new_tokens", max_new_tokens)
        sampling = Sampling(temperature, top_k, top_p, repetition_penalty)
        rows = prompts(ids, self.context, self.config.vocab_size)
        checks.room("generate", "the ids", (len(rows), count), 8)
        drawn = list(stream(self, ids, count, sampling, seed, stop, cache, full))
        out = [np.concatenate([row, [ids[b] for ids in drawn]]).astype(np.int64) for b, row in enumerate(rows)]
        if len({len(row) for row in rows}) > 1:
            return out
        return out[0] if np.ndim(ids.array if isinstance(ids, Tensor) else ids) == 1 else np.stack(out)

    def stream(self, ids: Any, max_new_tokens: int | None = None, temperature: float = 1.0, top_k: int | None = None,
               seed: int | None = None, top_p: float = 1.0, repetition_penalty: float = 1.0,
               stop: int | Collection[int] = (), cache: str = "float32", full: str = "slide") -> Iterator[np.ndarray]:
        """The ids that `generate` would add, as they are drawn.

        Args:
            ids: (T,) or (B, T), or a list of rows of unequal lengths.
            max_new_tokens: how many to add at most; None: no end.
            temperature: divides the logits; 0 takes the most likely id.
            top_k: only the k most likely ids count; None: all.
            seed: of the draws; None: tinyml's generator.
            top_p: only the most likely ids count that have this much probability together (Holtzman et al. 2020).
            repetition_penalty: logits of ids that were there already are divided by it where positive, else multiplied
                (Keskar et al. 2019); 1 changes nothing.
            stop: an id, or several, after which a row is done.
            cache: how keys and values are stored: "float32", "float16" or "int8". None are, and each id costs a whole pass,
                where blocks, attention, or their methods were replaced.
            full: what happens once there are `context` ids: "slide" forgets the first of them, and each id costs a whole
                pass; "stop" ends the row.

        Returns:
            An iterator of ids (B,), int64.

        Raises:
            DtypeError, ShapeError, NonFiniteError: as `generate` does.

        Example:
            >>> model = models.TinyGPT.preset("char", layers=1)
            >>> len([ids for ids in model.stream([1, 2, 3], max_new_tokens=4)])
            4
        """
        return stream(self, ids, max_new_tokens, Sampling(temperature, top_k, top_p, repetition_penalty), seed, stop, cache,
                      full)


own(Block, Transformer, TinyGPT, frame=True)
