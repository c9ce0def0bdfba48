"""Decoding token by token: a TinyGPT and its caches bound to one compiled step (_kernels/decode.pyx)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import nn
from .._kernels.dispatch import active, get_num_threads, threads_for
from ..nn.attention import angles
from ..tensor import Tensor

if TYPE_CHECKING:
    from .gpt import TinyGPT

ACTIVATIONS = ("gelu", "gelu_tanh", "swiglu")       # as decode.pyx numbers them
PLAIN = {"Block", "Dropout", "Embedding", "GELU", "LayerNorm", "Linear", "ModuleList", "MultiHeadAttention", "RMSNorm",
         "Rotary", "SiLU", "TinyGPT"}


def is_plain(model: TinyGPT) -> bool:
    """Whether the compiled step computes what the model does: TinyGPT's own layers with nothing changed, in float32,
    float16 or symmetric int8, of the shapes that its config says."""
    c, kv = model.config, model.config.kv_heads * (model.config.dim // model.config.heads)
    for m in model.modules():
        if type(m).__name__ not in PLAIN or not type(m).__module__.startswith("tinyml.") or "forward" in vars(m):
            return False
    shapes = [(model.tokens.weight, (c.vocab_size, c.dim)), (model.head.weight, (c.vocab_size, c.dim))]
    if model.positions is not None:
        shapes.append((model.positions.weight, (c.context, c.dim)))
    for b in model.blocks:
        shapes += [(b.attention.qkv.weight, (c.dim + 2 * kv, c.dim)), (b.attention.proj.weight, (c.dim, c.dim)),
                   (b.up.weight, (c.hidden, c.dim)), (b.down.weight, (c.dim, c.hidden))]
        shapes += [] if b.gate is None else [(b.gate.weight, (c.hidden, c.dim))]
    stored = all(t.shape == shape and (t.quantized is not None or t.dtype in (np.float32, np.float16))
                 and (t.quantized is None or (t.axis in (None, 0) and not t.zero_point.any())) for t, shape in shapes)
    weights = {id(t) for t, _ in shapes}
    return stored and all(t.dtype == np.float32 for _, t in model.named_tensors() if id(t) not in weights)


def _linear(weight: Tensor, bias: Tensor | None = None) -> tuple:
    """A product by rows of weights, or an embedding, as DecodeStep takes it."""
    scale = None
    if weight.quantized is not None:
        n = len(weight.data)
        scale = np.ascontiguousarray(weight.scale if weight.group else np.broadcast_to(weight.scale, (n,)).reshape(n, 1))
    return (np.ascontiguousarray(weight.data), scale, weight.group or 0,
            None if bias is None else np.ascontiguousarray(bias.data))


def _norm(norm: nn.Module) -> tuple:
    gamma = np.ascontiguousarray(norm.weight.data)
    beta = getattr(norm, "bias", None)
    return gamma, np.zeros_like(gamma) if beta is None else np.ascontiguousarray(beta.data), norm.eps


class Decoder:
    """logits (B, V) = decoder(ids (B,)): one position more in each row of the caches, by one call of a compiled function.

    For a model that `is_plain`. It reads the weights as they lie in memory then; the next call overwrites the logits.
    """

    def __init__(self, model: TinyGPT, caches: list[nn.KeyValueCache]):
        c = model.config
        cos = sin = None
        if c.rotary:
            tables = angles(1 << max(c.context - 1, 0).bit_length(), c.dim // c.heads, c.theta)
            cos, sin = (np.ascontiguousarray(t[: c.context]) for t in tables)
        blocks = [{"norm1": _norm(b.norm1), "qkv": _linear(b.attention.qkv.weight, b.attention.qkv.bias),
                   "proj": _linear(b.attention.proj.weight, b.attention.proj.bias), "norm2": _norm(b.norm2),
                   "up": _linear(b.up.weight, b.up.bias), "down": _linear(b.down.weight, b.down.bias),
                   "gate": None if b.gate is None else _linear(b.gate.weight, b.gate.bias)} for b in model.blocks]
        self._threads = get_num_threads()
        self._step = active.decode_step(
            c.heads, c.kv_heads, c.norm == "rms", ACTIVATIONS.index(c.activation), c.positions == "rotary_interleaved",
            _linear(model.tokens.weight), None if model.positions is None else _linear(model.positions.weight), cos, sin,
            blocks, _norm(model.norm), _linear(model.head.weight, model.head.bias),
            [(k.keys, k.values, k.key_scale, k.value_scale, k.lengths) for k in caches], self._threads)
        self._logits = np.empty((len(caches[0].lengths), c.vocab_size), np.float32)
        self._work = len(self._logits) * c.parameters

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        self._step(ids, self._logits, min(self._threads, threads_for(self._work)))
        return self._logits
