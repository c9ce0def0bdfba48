"""Decoding token by token: a TinyGPT and its caches bound to one compiled step (_kernels/attention/decode.pyx)."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from ... import nn
from ..._kernels.dispatch import active, get_num_threads, threads_for
from ..._kernels.table import ACTIVATIONS
from ...errors import NonFiniteError
from ...nn.attention import angles
from ...tensors import Tensor
from .network import Transformer


def _linear(weight: Tensor, bias: Tensor | None = None) -> tuple[Any, ...]:
    """A product by rows of weights, or an embedding, as DecodeStep takes it."""
    scale = None
    if (q := weight.quantized) is not None:
        n = len(weight.array)
        scale = np.ascontiguousarray(q.scale if q.group else np.broadcast_to(q.scale, (n,)).reshape(n, 1))
    return (np.ascontiguousarray(weight.array), scale, weight.group or 0,
            None if bias is None else np.ascontiguousarray(bias.array))


def _norm(norm: nn.LayerNorm | nn.RMSNorm) -> tuple[Any, ...]:
    gamma = np.ascontiguousarray(cast(nn.Parameter, norm.weight).array)     # TinyGPT gives each norm one
    beta = getattr(norm, "bias", None)
    return gamma, np.zeros_like(gamma) if beta is None else np.ascontiguousarray(beta.array), norm.eps


def check_finite(logits: np.ndarray) -> None:
    """Raise NonFiniteError unless all logits are finite."""
    if not np.isfinite(logits).all():
        raise NonFiniteError(f"generate: expected finite logits, got {logits[~np.isfinite(logits)][0]}; look for NaN or "
                             "infinity in the weights, or, where the cache is float16, for what is beyond it")


class Decoder:
    """logits (B, V), best (B,) = decoder(ids (B,)): one position more in each row of the caches, by one call of a compiled
    function; best are the ids of the largest logits.

    For a model that `is_plain` (plain.py). It reads the weights as they lie in memory then;
    the next call overwrites the logits.

    Raises:
        NonFiniteError: logits that are not finite.
    """

    def __init__(self, model: Transformer, caches: list[nn.KeyValueCache]):
        c = model.config
        cos = sin = None
        if c.rotary:
            tables = angles(1 << max(c.context - 1, 0).bit_length(), c.dim // c.heads, c.theta)
            cos, sin = (np.ascontiguousarray(t[: c.context]) for t in tables)
        blocks = [{"norm1": _norm(b.norm1), "qkv": _linear(b.attention.qkv.weight, b.attention.qkv.bias),
                   "proj": _linear(b.attention.proj.weight, b.attention.proj.bias), "norm2": _norm(b.norm2),
                   "up": _linear(b.up.weight, b.up.bias), "down": _linear(b.down.weight, b.down.bias),
                   "gate": None if b.gate is None else _linear(b.gate.weight, b.gate.bias)} for b in model.blocks]
        # the gate of SwiGLU passes SiLU
        activation = ACTIVATIONS.index("silu" if c.activation == "swiglu" else c.activation)
        self._threads = get_num_threads()
        self._step = active.decode_step(
            c.heads, c.kv_heads, c.norm == "rms", activation, c.positions == "rotary_interleaved",
            _linear(model.tokens.weight), None if model.positions is None else _linear(model.positions.weight), cos, sin,
            blocks, _norm(model.norm), _linear(model.head.weight, model.head.bias),
            [(k.keys, k.values, k.key_scale, k.value_scale, k.lengths) for k in caches], self._threads)
        self._logits = np.empty((len(caches[0].lengths), c.vocab_size), np.float32)
        self._work = len(self._logits) * c.parameters

    def __call__(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        best = np.empty(len(ids), np.int64)
        if self._step(ids, self._logits, best, min(self._threads, threads_for(self._work))):
            check_finite(self._logits)
        return self._logits, best
