"""How a TinyGPT may generate: by the compiled step, if its layers are as they were made; layer by layer with keys and
values kept, if only layers that see one position at a time were replaced; else by whole passes, which are always right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import nn
from ...nn import functional
from .network import Transformer

OWN: dict[type, dict[str, Any]] = {}    # the layers that the step knows, with their methods as tinyml defines them
FRAME: set[type] = {nn.ModuleList, nn.SelfAttention, nn.Rotary}    # those of them that see several positions


def own(*classes: type[nn.Module], frame: bool = False) -> None:
    """Note that the compiled step knows these classes as they are now; `frame`: they see several positions."""
    OWN.update((cls, _methods(cls)) for cls in classes)
    FRAME.update(classes if frame else ())


def _methods(cls: type) -> dict[str, Any]:
    """What instances find by name: methods, properties and the like, of all its bases."""
    found = {name: value for base in reversed(cls.__mro__) for name, value in vars(base).items()}
    return {name: value for name, value in found.items() if callable(value) or hasattr(value, "__get__")}


own(nn.Dropout, nn.Embedding, nn.GELU, nn.LayerNorm, nn.Linear, nn.ModuleList, nn.SelfAttention, nn.RMSNorm, nn.Rotary,
    nn.SiLU)
FUNCTIONS = {name: value for name, value in vars(functional).items() if callable(value)}


@dataclass(frozen=True)
class Layout:
    """Name and class of each layer of a model, and its attributes: plain values as they are, of others the class. No tuple,
    as walks over the members of a module look into those."""

    layers: tuple[Any, ...]


def layout(model: Transformer) -> Layout:
    """The model's layers as they are. What dropout does in evaluation depends on none of its attributes."""
    def one(value: Any) -> Any:
        plain = value is None or isinstance(value, (bool, int, float, str, type(model.config)))
        return (type(value), value) if plain else type(value)

    return Layout(tuple((name, type(m), {} if type(m) is nn.Dropout else {
        k: one(v) for k, v in vars(m).items() if k[0] != "_"}) for name, m in model.named_modules()))


def is_plain(model: Transformer) -> bool:
    """Whether nothing that the compiled step computes was replaced since the model was made: classes of layers and their
    methods, methods and attributes of one layer, functions; and all is in float32, float16 or symmetric int8, of the shapes
    that its config says."""
    return all(type(m) in OWN for m in model.modules()) and _as_defined(model, tuple(OWN)) and _same(
        model._made.layers, layout(model).layers) and _stored(model)


def keeps_positions(model: Transformer) -> bool:
    """Whether what a position was computed from stays as it is when further ones come: layers that see several positions,
    and what is between them, are as they were made. The others may be any; subclasses may add to what they inherit."""
    made, now = ([(name, cls, {k: v for k, v in about.items() if isinstance(v, tuple)}) for name, cls, about in parts.layers
                  if issubclass(cls, tuple(FRAME))] for parts in (model._made, layout(model)))
    return _as_defined(model, tuple(FRAME)) and _same(made, now)


def _same(made: Sequence[tuple[Any, ...]], now: Sequence[tuple[Any, ...]]) -> bool:
    """Whether the same layers have the same attributes as when they were made; they may have more."""
    return len(made) == len(now) and all(
        a[:2] == b[:2] and all(v == b[2].get(k) for k, v in a[2].items()) for a, b in zip(made, now))


def _as_defined(model: Transformer, classes: tuple[type, ...]) -> bool:
    """Whether functions, and the methods of layers of these classes, are those that tinyml defines."""
    if any(vars(functional).get(name) is not value for name, value in FUNCTIONS.items()):
        return False
    methods: dict[type, dict[str, Any]] = {}
    for m in model.modules():
        base = next((cls for cls in type(m).__mro__ if cls in classes), None)
        if base is None:
            continue
        if type(m) not in methods:
            methods[type(m)] = _methods(type(m))
            if any(methods[type(m)].get(name) is not value for name, value in OWN[base].items() if name != "__init__"):
                return False
        if not vars(m).keys().isdisjoint(OWN[base]):
            return False
    return True


def _stored(model: Transformer) -> bool:
    """Whether weights have shapes and dtypes that the compiled step reads."""
    c, kv = model.config, model.config.kv_heads * (model.config.dim // model.config.heads)
    shapes = [(model.tokens.weight, (c.vocab_size, c.dim)), (model.head.weight, (c.vocab_size, c.dim))]
    vectors: list[tuple[Any, int]] = [(model.norm, c.dim)]
    if model.positions is not None:
        shapes.append((model.positions.weight, (c.context, c.dim)))
    for b in model.blocks:
        shapes += [(b.attention.qkv.weight, (c.dim + 2 * kv, c.dim)), (b.attention.proj.weight, (c.dim, c.dim)),
                   (b.up.weight, (c.hidden, c.dim)), (b.down.weight, (c.dim, c.hidden))]
        shapes += [] if b.gate is None else [(b.gate.weight, (c.hidden, c.dim))]
        vectors += [(b.norm1, c.dim), (b.norm2, c.dim), (b.attention.qkv, c.dim + 2 * kv), (b.attention.proj, c.dim),
                    (b.up, c.hidden), (b.down, c.dim)] + ([] if b.gate is None else [(b.gate, c.hidden)])
    stored = all(t.shape == shape and (t.quantized is not None or t.dtype in (np.float32, np.float16))
                 and (t.quantized is None or (t.axis in (None, 0) and not t.quantized.zero_point.any()))
                 for t, shape in shapes)
    weights = {id(t) for t, _ in shapes}
    rest = [t for _, t in model.named_tensors() if id(t) not in weights]
    return stored and all(t.dtype == np.float32 for t in rest) and all(
        t.shape == (n,) for layer, n in vectors for t in (layer.weight, getattr(layer, "bias", None))
        if t is not None and id(t) not in weights)
