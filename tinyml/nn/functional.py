"""Layers as functions: nn.functional, with PyTorch's names and argument orders."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import checks, random
from ..errors import DtypeError, ShapeError
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
APPROXIMATIONS = ("none", "tanh")       # of GELU


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
    checks.choice("linear", "activation", activation, _ACTIVATIONS, optional=True)
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
    return apply(conv.Conv2d, x, weight, bias, stride=checks.pair("conv2d", "stride", stride),
                 padding=checks.pair("conv2d", "padding", padding, 0), dilation=checks.pair("conv2d", "dilation", dilation),
                 groups=checks.whole("conv2d", "groups", groups, 1), **extra)


def relu(x: Any) -> Tensor:
    """max(x, 0)."""
    return apply(pointwise.ReLU, x)


def relu6(x: Any) -> Tensor:
    """min(max(x, 0), 6)."""
    return apply(pointwise.Clip, x, lo=0.0, hi=6.0)


def gelu(x: Any, approximate: str = "none") -> Tensor:
    """x * Phi(x); approximate="tanh" for its tanh form."""
    return apply(pointwise.GELU, x, approximate=checks.choice("gelu", "approximate", approximate, APPROXIMATIONS))


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
    return apply(norm.Softmax, x, axis=checks.axis("softmax", axis))


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """x - ln(sum of exp(x)) over `axis`."""
    return apply(norm.LogSoftmax, x, axis=checks.axis("log_softmax", axis))


def layer_norm(x: Any, weight: Any, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """Normalise over the last dimension, then scale and, with a bias, shift."""
    return apply(norm.LayerNorm, x, weight, bias, eps=checks.number("layer_norm", "eps", eps, 0))


def rms_norm(x: Any, weight: Any, eps: float = 1e-5) -> Tensor:
    """Divide by the root of the mean square over the last dimension, then scale."""
    return apply(norm.RMSNorm, x, weight, eps=checks.number("rms_norm", "eps", eps, 0))


def max_pool2d(x: Any, size: Pair, stride: Pair | None = None, padding: Pair = 0) -> Tensor:
    """Largest of each window; stride None is the window's size."""
    return apply(pooling.MaxPool2d, x, **_pool("max_pool2d", size, stride, padding))


def avg_pool2d(x: Any, size: Pair, stride: Pair | None = None, padding: Pair = 0) -> Tensor:
    """Mean of each window, padding counted as zeros; stride None is the window's size."""
    return apply(pooling.AvgPool2d, x, **_pool("avg_pool2d", size, stride, padding))


def _pool(name: str, size: Pair, stride: Pair | None, padding: Pair) -> dict:
    two = checks.pair(name, "size", size)
    return {"size": two, "stride": two if stride is None else checks.pair(name, "stride", stride),
            "padding": checks.pair(name, "padding", padding, 0)}


def adaptive_avg_pool2d(x: Any, outputs: Pair) -> Tensor:
    """Mean of outputs[0] x outputs[1] windows that cover the image."""
    return apply(pooling.AdaptiveAvgPool2d, x, outputs=checks.pair("adaptive_avg_pool2d", "outputs", outputs))


def embedding(ids: Any, weight: Any) -> Tensor:
    """Rows of weight (V, D) by ids (...)."""
    return apply(embedding_ops.Embedding, ids, weight)


def dropout(x: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Zero elements with probability p and scale the rest by 1 / (1 - p); nothing outside training."""
    p = checks.probability("dropout", "p", p)
    if not checks.flag("dropout", "training", training) or p == 0:
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
    found = {"causal": checks.flag("attention", "causal", causal)}
    return found if kv_heads is None else found | {"kv_heads": checks.whole("attention", "kv_heads", kv_heads, 1)}


def rotary(x: Any, cos: Any, sin: Any, heads: int | None = None, interleaved: bool = False) -> Tensor:
    """x (..., T, D), pairs of elements turned by the angles of their position, whose cos and sin are (T, D/2)
    (Su et al. 2021). heads: only the first `heads` of the third dimension from the end are. See ops.rotary.Rotary."""
    return apply(rotary_ops.Rotary, x, cos, sin, interleaved=checks.flag("rotary", "interleaved", interleaved),
                 heads=None if heads is None else checks.whole("rotary", "heads", heads))


def cross_entropy(logits: Any, targets: Any, ignore_index: int = -100, label_smoothing: float = 0.0) -> Tensor:
    """Mean of -ln softmax(logits)[target]; logits (C,), (B, C) or (B, C, ...), targets (), (B,) or (B, ...) of class ids.

    The classes are dimension 1, as in PyTorch; models.next_token_loss has them last.
    """
    return apply(losses.CrossEntropy, logits, targets,
                 ignore_index=checks.whole("cross_entropy", "ignore_index", ignore_index, -sys.maxsize),
                 label_smoothing=checks.probability("cross_entropy", "label_smoothing", label_smoothing))


def binary_cross_entropy_with_logits(logits: Any, targets: Any, pos_weight: Any = None) -> Tensor:
    """Mean of -w t ln p - (1 - t) ln(1 - p), p = sigmoid(logits), for targets t in [0, 1]; w is pos_weight, or 1."""
    return apply(losses.BCEWithLogits, logits, targets, pos_weight)


def mse_loss(x: Any, target: Any) -> Tensor:
    """Mean of (x - target)^2."""
    return apply(losses.MSELoss, x, target)


def concat(tensors: Any, axis: int = 0) -> Tensor:
    """Tensors one after the other along `axis`."""
    return apply(shape_ops.Concat, *_row("concat", tensors), axis=checks.axis("concat", axis))


def stack(tensors: Any, axis: int = 0) -> Tensor:
    """Tensors of one shape along a new dimension `axis`."""
    axis = checks.axis("stack", axis)
    return concat([t.unsqueeze(axis) for t in _row("stack", tensors)], axis)


def _row(name: str, tensors: Any) -> list[Tensor]:
    return [as_tensor(t) for t in checks.rows(name, "tensors", tensors, "Tensors")]


def pad(x: Any, widths: Any, value: float = 0.0) -> Tensor:
    """A constant around x.

    widths: (before, after) for each dimension of x; or PyTorch's form, numbers in a row, before and after of the last
    dimension, then of the one before it, ..., those not named being left alone.
    """
    x = as_tensor(x)
    if isinstance(widths, np.ndarray):
        widths = widths.tolist()
    if not isinstance(widths, (tuple, list)):
        raise DtypeError(f"pad: expected widths to be (before, after) for each dimension, got {checks.described(widths)}")
    if widths and checks.is_whole(widths[0]):
        flat = checks.several("pad", "widths", widths, 0)
        if len(flat) % 2 or len(flat) > 2 * x.ndim:
            raise ShapeError(f"pad: expected widths to be before and after of up to {x.ndim} dimensions, got {flat}")
        pairs = [*zip(flat[::2], flat[1::2])]
        pairs += [(0, 0)] * (x.ndim - len(pairs))
        pairs.reverse()
    else:
        pairs = [checks.several("pad", "widths", w, 0) for w in widths]
    return apply(shape_ops.Pad, x, widths=tuple(pairs), value=checks.number("pad", "value", value, infinite=True))


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """a where the condition holds, else b."""
    return apply(arithmetic.Where, condition, a, b)


def maximum(a: Any, b: Any) -> Tensor:
    """Elementwise larger."""
    return apply(arithmetic.Maximum, a, b)


def minimum(a: Any, b: Any) -> Tensor:
    """Elementwise smaller."""
    return apply(arithmetic.Minimum, a, b)
