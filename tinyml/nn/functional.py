"""Layers as functions: nn.functional, with PyTorch's names and argument orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import random
from ..errors import ShapeError
from ..ops import arithmetic, conv, losses, norm, pointwise, pooling
from ..ops import attention as attention_ops
from ..ops import dropout as dropout_ops
from ..ops import embedding as embedding_ops
from ..ops import linear as linear_ops
from ..ops import rotary as rotary_ops
from ..ops import shape as shape_ops
from ..tape import state
from ..tensor import Tensor, apply, as_tensor

Pair = int | tuple[int, int]


def pair(value: Any, name: str, least: int = 1) -> tuple[int, int]:
    """(v, v) from an int, or the pair given.

    Raises:
        ShapeError: not one or two whole numbers of at least `least`.
    """
    two = (value, value) if isinstance(value, (int, np.integer)) else tuple(value)
    if len(two) != 2 or any(not isinstance(v, (int, np.integer)) or v < least for v in two):
        raise ShapeError(f"{name}: expected one or two whole numbers of at least {least}, got {value!r}")
    return int(two[0]), int(two[1])


# The functions of ops.linear.ACTIVATIONS.
_ACTIVATIONS: dict[str, Callable] = {"relu": lambda y: relu(y), "gelu": lambda y: gelu(y),
                                     "gelu_tanh": lambda y: gelu(y, "tanh"), "silu": lambda y: silu(y)}


def linear(x: Any, weight: Any, bias: Any = None, scale: Any = None, zero_point: Any = None,
           activation: str | None = None) -> Tensor:
    """activation(x (..., K) @ weight (N, K)^T + bias (N)); activation None, "relu", "gelu", "gelu_tanh" or "silu".

    int8 operands run in integers; see ops.linear.Linear. With an activation it is one op, unless ops are recorded or x is
    int8: graphs, and integers, know the two.
    """
    extra = {} if scale is None else {"scale": scale, "zero_point": zero_point}
    if activation is None:
        return apply(linear_ops.Linear, x, weight, bias, **extra)
    if activation not in _ACTIVATIONS:
        raise ShapeError(f"linear: expected activation None or one of {', '.join(_ACTIVATIONS)}, got {activation!r}")
    if state.recorder is not None or (isinstance(x, Tensor) and x.quantized is not None):
        return _ACTIVATIONS[activation](apply(linear_ops.Linear, x, weight, bias, **extra))
    return apply(linear_ops.LinearActivation, x, weight, bias, activation=activation, **extra)


def matmul(a: Any, b: Any, scale: Any = None, zero_point: Any = None) -> Tensor:
    """a (..., M, K) @ b (..., K, N). int8 operands run in integers; see ops.linear.MatMul."""
    extra = {} if scale is None else {"scale": scale, "zero_point": zero_point}
    return apply(linear_ops.MatMul, a, b, **extra)


def conv2d(x: Any, weight: Any, bias: Any = None, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1,
           groups: int = 1, scale: Any = None, zero_point: Any = None) -> Tensor:
    """x (B, C, H, W) * weight (N, C/groups, kh, kw) + bias (N). int8 operands run in integers; see ops.conv.Conv2d."""
    extra = {} if scale is None else {"scale": scale, "zero_point": zero_point}
    return apply(conv.Conv2d, x, weight, bias, stride=pair(stride, "conv2d stride"),
                 padding=pair(padding, "conv2d padding", 0), dilation=pair(dilation, "conv2d dilation"),
                 groups=pair(groups, "conv2d groups")[0], **extra)


def relu(x: Any) -> Tensor:
    """max(x, 0)."""
    return apply(pointwise.ReLU, x)


def relu6(x: Any) -> Tensor:
    """min(max(x, 0), 6)."""
    return apply(pointwise.Clip, x, lo=0.0, hi=6.0)


def gelu(x: Any, approximate: str = "none") -> Tensor:
    """x * Phi(x); approximate="tanh" for its tanh form."""
    if approximate not in ("none", "tanh"):
        raise ShapeError(f"gelu: expected approximate 'none' or 'tanh', got {approximate!r}")
    return apply(pointwise.GELU, x, approximate=approximate)


def silu(x: Any) -> Tensor:
    """x * sigmoid(x)."""
    return apply(pointwise.SiLU, x)


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + e^-x)."""
    return apply(pointwise.Sigmoid, x)


def tanh(x: Any) -> Tensor:
    """Hyperbolic tangent."""
    return apply(pointwise.Tanh, x)


def softmax(x: Any, axis: int = -1) -> Tensor:
    """exp(x) / sum of exp(x) over `axis`."""
    return apply(norm.Softmax, x, axis=axis)


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """x - ln(sum of exp(x)) over `axis`."""
    return apply(norm.LogSoftmax, x, axis=axis)


def layer_norm(x: Any, weight: Any, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """Normalise over the last dimension, then scale and, with a bias, shift."""
    return apply(norm.LayerNorm, x, weight, bias, eps=eps)


def rms_norm(x: Any, weight: Any, eps: float = 1e-5) -> Tensor:
    """Divide by the root of the mean square over the last dimension, then scale."""
    return apply(norm.RMSNorm, x, weight, eps=eps)


def max_pool2d(x: Any, size: Pair, stride: Pair | None = None, padding: Pair = 0) -> Tensor:
    """Largest of each window; stride None is the window's size."""
    return apply(pooling.MaxPool2d, x, **_pool("max_pool2d", size, stride, padding))


def avg_pool2d(x: Any, size: Pair, stride: Pair | None = None, padding: Pair = 0) -> Tensor:
    """Mean of each window, padding counted as zeros; stride None is the window's size."""
    return apply(pooling.AvgPool2d, x, **_pool("avg_pool2d", size, stride, padding))


def _pool(name: str, size: Pair, stride: Pair | None, padding: Pair) -> dict:
    two = pair(size, f"{name} size")
    return {"size": two, "stride": two if stride is None else pair(stride, f"{name} stride"),
            "padding": pair(padding, f"{name} padding", 0)}


def adaptive_avg_pool2d(x: Any, outputs: Pair) -> Tensor:
    """Mean of outputs[0] x outputs[1] windows that cover the image."""
    return apply(pooling.AdaptiveAvgPool2d, x, outputs=pair(outputs, "adaptive_avg_pool2d outputs"))


def embedding(ids: Any, weight: Any) -> Tensor:
    """Rows of weight (V, D) by ids (...)."""
    return apply(embedding_ops.Embedding, ids, weight)


def dropout(x: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Zero elements with probability p and scale the rest by 1 / (1 - p); nothing outside training."""
    if not 0 <= p <= 1:
        raise ShapeError(f"dropout: expected p in [0, 1], got {p}")
    if not training or p == 0:
        return as_tensor(x)
    return apply(dropout_ops.Dropout, x, p=p, key=int(random.generator().integers(2**64, dtype=np.uint64)))


def attention(q: Any, k: Any, v: Any, causal: bool = False, kv_heads: int | None = None) -> Tensor:
    """softmax(q k^T / sqrt(D)) v for q (..., T, D), k (..., S, D), v (..., S, E); causal: query t sees keys up to
    t + S - T (Vaswani et al. 2017). kv_heads: k and v have that many heads, each shared by heads of q in a row."""
    return apply(attention_ops.Attention, q, k, v, **_attention(causal, kv_heads))


def self_attention(qkv: Any, causal: bool = False, kv_heads: int | None = None) -> Tensor:
    """attention(*qkv, causal) of qkv (3, ..., T, D), or with kv_heads of qkv (..., H + 2 kv_heads, T, D), whose gradient
    then comes as one array."""
    return apply(attention_ops.Attention, qkv, **_attention(causal, kv_heads))


def _attention(causal: bool, kv_heads: int | None) -> dict:
    return {"causal": bool(causal)} | ({} if kv_heads is None else {"kv_heads": int(kv_heads)})


def rotary(x: Any, cos: Any, sin: Any, heads: int | None = None, interleaved: bool = False) -> Tensor:
    """x (..., T, D), pairs of elements turned by the angles of their position, whose cos and sin are (T, D/2)
    (Su et al. 2021). heads: only the first `heads` of the third dimension from the end are. See ops.rotary.Rotary."""
    return apply(rotary_ops.Rotary, x, cos, sin, heads=None if heads is None else int(heads), interleaved=bool(interleaved))


def cross_entropy(logits: Any, targets: Any, ignore_index: int = -100, label_smoothing: float = 0.0) -> Tensor:
    """Mean of -ln softmax(logits)[target]; logits (C,), (B, C) or (B, C, ...), targets (), (B,) or (B, ...) of class ids.

    The classes are dimension 1, as in PyTorch; models.next_token_loss has them last.
    """
    if not 0 <= label_smoothing <= 1:
        raise ShapeError(f"cross_entropy: expected label_smoothing in [0, 1], got {label_smoothing}")
    return apply(losses.CrossEntropy, logits, targets, ignore_index=ignore_index, label_smoothing=label_smoothing)


def binary_cross_entropy_with_logits(logits: Any, targets: Any, pos_weight: Any = None) -> Tensor:
    """Mean of -w t ln p - (1 - t) ln(1 - p), p = sigmoid(logits), for targets t in [0, 1]; w is pos_weight, or 1."""
    return apply(losses.BCEWithLogits, logits, targets, pos_weight)


def mse_loss(x: Any, target: Any) -> Tensor:
    """Mean of (x - target)^2."""
    return apply(losses.MSELoss, x, target)


def concat(tensors: Any, axis: int = 0) -> Tensor:
    """Tensors one after the other along `axis`."""
    return apply(shape_ops.Concat, *tensors, axis=axis)


def stack(tensors: Any, axis: int = 0) -> Tensor:
    """Tensors of one shape along a new dimension `axis`."""
    return concat([as_tensor(t).unsqueeze(axis) for t in tensors], axis)


def pad(x: Any, widths: Any, value: float = 0.0) -> Tensor:
    """A constant around x; widths is (before, after) for each dimension."""
    return apply(shape_ops.Pad, x, widths=tuple(tuple(int(n) for n in w) for w in widths), value=float(value))


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """a where the condition holds, else b."""
    return apply(arithmetic.Where, condition, a, b)


def maximum(a: Any, b: Any) -> Tensor:
    """Elementwise larger."""
    return apply(arithmetic.Maximum, a, b)


def minimum(a: Any, b: Any) -> Tensor:
    """Elementwise smaller."""
    return apply(arithmetic.Minimum, a, b)
