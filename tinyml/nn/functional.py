"""Layers as functions: nn.functional, with PyTorch's names and argument orders.

x stands for a Tensor, or what becomes one (an array, a number, nested lists). Shapes: B batch, T and S time, C channels, N
outputs, K inputs, H and W height and width, D and E sizes of a head, V entries of a table.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

from .. import checks, ops, random
from ..errors import DtypeError, ShapeError
from ..state import state
from ..tensor import Tensor, TensorLike, apply, as_tensor

__all__ = ["adaptive_avg_pool2d", "attention", "avg_pool2d", "binary_cross_entropy_with_logits", "concat", "conv2d",
           "cross_entropy", "dropout", "embedding", "gelu", "layer_norm", "linear", "log_softmax", "matmul", "max_pool2d",
           "maximum", "minimum", "mse_loss", "pad", "relu", "relu6", "rms_norm", "rotary", "self_attention", "sigmoid",
           "silu", "softmax", "stack", "tanh", "where"]

Pair: TypeAlias = int | tuple[int, int]     # rows and columns, or one number for both
APPROXIMATIONS = ("none", "tanh")           # of GELU


# The functions of ops.linear.ACTIVATIONS.
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda y: relu(y), "gelu": lambda y: gelu(y), "gelu_tanh": lambda y: gelu(y, "tanh"), "silu": lambda y: silu(y)}


def linear(x: TensorLike, weight: TensorLike, bias: TensorLike | None = None, scale: TensorLike | None = None,
           zero_point: TensorLike | None = None, activation: str | None = None) -> Tensor:
    """activation(x @ weight^T + bias).

    int8 operands are multiplied as integers, equations (4), (5) and (9). With an activation it is one op, unless ops are
    recorded or x is int8: graphs, and integers, know the two.

    Args:
        x: (..., K), float, or int8 with one scale.
        weight: (N, K), float, or int8 with one scale per row (or one for all).
        bias: (N,).
        scale: of an int8 result, for int8 x and weight; None for a float32 result.
        zero_point: of an int8 result.
        activation: None, "relu", "gelu", "gelu_tanh" or "silu".

    Returns:
        y (..., N).

    Raises:
        ShapeError: shapes that do not fit, or an unknown activation; DtypeError: dtypes that do not.

    Example:
        >>> F.linear([[1.0, 2.0]], [[1.0, 1.0], [0.5, -1.0]], activation="relu")
        Tensor([[3., 0.]], shape=(1, 2))
    """
    extra = _output(scale, zero_point)
    if activation is None:
        return apply(ops.linear.Linear, x, weight, bias, **extra)
    checks.choice("linear", "activation", activation, _ACTIVATIONS, optional=True)
    if state.recorder is not None or (isinstance(x, Tensor) and x.quantized is not None):
        return _ACTIVATIONS[activation](apply(ops.linear.Linear, x, weight, bias, **extra))
    return apply(ops.linear.LinearActivation, x, weight, bias, activation=activation, **extra)


def _output(scale: Any, zero_point: Any) -> dict[str, Any]:
    """How a product's result is quantized, if it is."""
    return {} if scale is None else {"scale": scale, "zero_point": zero_point}


def matmul(a: TensorLike, b: TensorLike, scale: TensorLike | None = None, zero_point: TensorLike | None = None) -> Tensor:
    """a @ b: the matrix product over the last dimension of a and the second to last of b.

    int8 operands are multiplied as integers, equations (4) and (5).

    Args:
        a: (..., M, K), or a vector (K,), which is one row.
        b: (..., K, N), or a vector (K,), which is one column. Leading dimensions of a and b broadcast.
        scale: of an int8 result, for int8 operands; None for a float32 result.
        zero_point: of an int8 result.

    Returns:
        y (..., M, N), without the dimension of a vector.

    Raises:
        ShapeError: shapes that do not fit; DtypeError: dtypes that do not.

    Example:
        >>> F.matmul([[1.0, 2.0]], [[3.0], [4.0]])
        Tensor([[11.]], shape=(1, 1))
    """
    return apply(ops.linear.MatMul, a, b, **_output(scale, zero_point))


def conv2d(x: TensorLike, weight: TensorLike, bias: TensorLike | None = None, stride: Pair = 1, padding: Pair = 0,
           dilation: Pair = 1, groups: int = 1, scale: TensorLike | None = None,
           zero_point: TensorLike | None = None) -> Tensor:
    """Convolution (cross-correlation) of images: y[b, n] = bias[n] + sum over c, i, j of weight[n, c, i, j] x[b, c, ...].

    OH = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1, and OW likewise. int8 operands are multiplied as
    integers, equations (4), (5) and (9).

    Args:
        x: (B, C, H, W), float, or int8 with one scale.
        weight: (N, C / groups, kh, kw), float, or int8 with one scale per output channel (or one for all).
        bias: (N,).
        stride: pixels from one window to the next, as (down, across) or one number for both.
        padding: (rows, columns) of zeros on each side, or one number for both.
        dilation: pixels from one element of a window to the next, as (down, across) or one number for both.
        groups: into how many groups channels are divided; each of N / groups outputs reads C / groups inputs.
        scale: of an int8 result, for int8 x and weight; None for a float32 result.
        zero_point: of an int8 result.

    Returns:
        y (B, N, OH, OW).

    Raises:
        ShapeError: shapes or numbers that do not fit; DtypeError: dtypes that do not.

    Example:
        >>> F.conv2d(np.ones((1, 3, 8, 8), np.float32), np.ones((4, 3, 3, 3), np.float32), padding=1).shape
        (1, 4, 8, 8)
    """
    return apply(ops.conv.Conv2d, x, weight, bias, stride=checks.pair("conv2d", "stride", stride),
                 padding=checks.pair("conv2d", "padding", padding, 0), dilation=checks.pair("conv2d", "dilation", dilation),
                 groups=checks.whole("conv2d", "groups", groups, 1), **_output(scale, zero_point))


def relu(x: TensorLike) -> Tensor:
    """max(x, 0) of each element.

    Args:
        x: any shape.

    Returns:
        A Tensor of the same shape.

    Example:
        >>> F.relu([-1.0, 2.0])
        Tensor([0., 2.], shape=(2,))
    """
    return apply(ops.pointwise.ReLU, x)


def relu6(x: TensorLike) -> Tensor:
    """min(max(x, 0), 6) of each element.

    Args:
        x: any shape.

    Returns:
        A Tensor of the same shape.

    Example:
        >>> F.relu6([-1.0, 2.0, 9.0])
        Tensor([0., 2., 6.], shape=(3,))
    """
    return apply(ops.pointwise.Clip, x, lo=0.0, hi=6.0)


def gelu(x: TensorLike, approximate: str = "none") -> Tensor:
    """x Phi(x) of each element, Phi the normal distribution's cumulative function (Hendrycks & Gimpel 2016).

    Args:
        x: any shape.
        approximate: "none", or "tanh" for x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).

    Returns:
        A Tensor of the same shape.

    Raises:
        ShapeError: another name as `approximate`.

    Example:
        >>> F.gelu([-1.0, 0.0, 1.0])
        Tensor([-0.1587,  0.    ,  0.8413], shape=(3,))
    """
    return apply(ops.pointwise.GELU, x, approximate=checks.choice("gelu", "approximate", approximate, APPROXIMATIONS))


def silu(x: TensorLike) -> Tensor:
    """x sigmoid(x) of each element (Elfwing et al. 2017).

    Args:
        x: any shape.

    Returns:
        A Tensor of the same shape.

    Example:
        >>> F.silu([0.0, 1.0])
        Tensor([0.    , 0.7311], shape=(2,))
    """
    return apply(ops.pointwise.SiLU, x)


def sigmoid(x: TensorLike) -> Tensor:
    """1 / (1 + e^-x) of each element.

    Args:
        x: any shape.

    Returns:
        A Tensor of the same shape.

    Example:
        >>> F.sigmoid([0.0])
        Tensor([0.5], shape=(1,))
    """
    return apply(ops.pointwise.Sigmoid, x)


def tanh(x: TensorLike) -> Tensor:
    """Hyperbolic tangent of each element.

    Args:
        x: any shape.

    Returns:
        A Tensor of the same shape.

    Example:
        >>> F.tanh([0.0, 1.0])
        Tensor([0.    , 0.7616], shape=(2,))
    """
    return apply(ops.pointwise.Tanh, x)


def softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """exp(x) / sum of exp(x) over the dimension `axis`.

    Args:
        x: any shape.
        axis: the dimension whose elements sum to 1 afterwards.

    Returns:
        A Tensor of the same shape.

    Raises:
        ShapeError: a dimension that there is not.

    Example:
        >>> F.softmax([0.0, 0.0])
        Tensor([0.5, 0.5], shape=(2,))
    """
    return apply(ops.norm.Softmax, x, axis=checks.axis("softmax", axis))


def log_softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """x - ln(sum of exp(x)) over the dimension `axis`: the logarithm of softmax.

    Args:
        x: any shape.
        axis: the dimension whose elements' exponentials sum to 1 afterwards.

    Returns:
        A Tensor of the same shape.

    Raises:
        ShapeError: a dimension that there is not.

    Example:
        >>> F.log_softmax([0.0, 0.0])
        Tensor([-0.6931, -0.6931], shape=(2,))
    """
    return apply(ops.norm.LogSoftmax, x, axis=checks.axis("log_softmax", axis))


def layer_norm(x: TensorLike, weight: TensorLike, bias: TensorLike | None = None, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias, moments over the last dimension (Ba et al. 2016).

    Args:
        x: (..., C).
        weight: (C,).
        bias: (C,), or None.
        eps: what is added to the variance.

    Returns:
        A Tensor (..., C).

    Raises:
        ShapeError: shapes that do not fit, or a negative eps.

    Example:
        >>> F.layer_norm([[1.0, 3.0]], [1.0, 1.0])
        Tensor([[-1.,  1.]], shape=(1, 2))
    """
    return apply(ops.norm.LayerNorm, x, weight, bias, eps=checks.number("layer_norm", "eps", eps, 0))


def rms_norm(x: TensorLike, weight: TensorLike, eps: float = 1e-5) -> Tensor:
    """x / sqrt(mean of x^2 + eps) * weight, the mean over the last dimension (Zhang & Sennrich 2019).

    Args:
        x: (..., C).
        weight: (C,).
        eps: what is added to the mean square.

    Returns:
        A Tensor (..., C).

    Raises:
        ShapeError: shapes that do not fit, or a negative eps.

    Example:
        >>> F.rms_norm([[1.0, -1.0]], [2.0, 2.0])
        Tensor([[ 2., -2.]], shape=(1, 2))
    """
    return apply(ops.norm.RMSNorm, x, weight, eps=checks.number("rms_norm", "eps", eps, 0))


def max_pool2d(x: TensorLike, size: Pair, stride: Pair | None = None, padding: Pair = 0) -> Tensor:
    """Largest element of each window.

    Args:
        x: (B, C, H, W).
        size: (rows, columns) of a window, or one number for both.
        stride: pixels from one window to the next; None: the window's size.
        padding: rows and columns on each side, which are never the largest.

    Returns:
        A Tensor (B, C, OH, OW), OH = floor((H + 2 padding - rows) / stride) + 1.

    Raises:
        ShapeError: shapes or numbers that do not fit.

    Example:
        >>> F.max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2).numpy().ravel().tolist()
        [5.0, 7.0, 13.0, 15.0]
    """
    return apply(ops.pooling.MaxPool2d, x, **_pool("max_pool2d", size, stride, padding))


def avg_pool2d(x: TensorLike, size: Pair, stride: Pair | None = None, padding: Pair = 0) -> Tensor:
    """Mean of each window; padding counts as zeros.

    Args:
        x: (B, C, H, W).
        size: (rows, columns) of a window, or one number for both.
        stride: pixels from one window to the next; None: the window's size.
        padding: rows and columns of zeros on each side.

    Returns:
        A Tensor (B, C, OH, OW), OH = floor((H + 2 padding - rows) / stride) + 1.

    Raises:
        ShapeError: shapes or numbers that do not fit.

    Example:
        >>> F.avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2).numpy().ravel().tolist()
        [2.5, 4.5, 10.5, 12.5]
    """
    return apply(ops.pooling.AvgPool2d, x, **_pool("avg_pool2d", size, stride, padding))


def _pool(name: str, size: Pair, stride: Pair | None, padding: Pair) -> dict[str, Any]:
    two = checks.pair(name, "size", size)
    return {"size": two, "stride": two if stride is None else checks.pair(name, "stride", stride),
            "padding": checks.pair(name, "padding", padding, 0)}


def adaptive_avg_pool2d(x: TensorLike, outputs: Pair) -> Tensor:
    """Mean of each of outputs[0] x outputs[1] windows, which cover the image.

    Args:
        x: (B, C, H, W).
        outputs: how many windows there are, as (rows, columns) or one number for both.

    Returns:
        A Tensor (B, C, outputs[0], outputs[1]).

    Raises:
        ShapeError: shapes or numbers that do not fit.

    Example:
        >>> F.adaptive_avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 1).item()
        7.5
    """
    return apply(ops.pooling.AdaptiveAvgPool2d, x, outputs=checks.pair("adaptive_avg_pool2d", "outputs", outputs))


def embedding(ids: TensorLike, weight: TensorLike) -> Tensor:
    """weight[ids]: the rows of a table.

    Args:
        ids: (...), integers from 0 to V - 1.
        weight: (V, D), float, float16 or int8.

    Returns:
        A Tensor (..., D).

    Raises:
        ShapeError: an id out of range; DtypeError: ids that are no integers.

    Example:
        >>> F.embedding([1, 1], [[0.0, 1.0], [2.0, 3.0]])
        Tensor([[2., 3.],
         [2., 3.]], shape=(2, 2))
    """
    return apply(ops.embedding.Embedding, ids, weight)


def dropout(x: TensorLike, p: float = 0.5, training: bool = True) -> Tensor:
    """Zero each element with probability p, and scale the others by 1 / (1 - p) (Srivastava et al. 2014).

    Args:
        x: any shape.
        p: from 0 to 1.
        training: False: x stays as it is.

    Returns:
        A Tensor of the same shape. Which elements are zero is drawn from tinyml's generator (`tinyml.manual_seed`).

    Raises:
        ShapeError: p out of range.

    Example:
        >>> F.dropout(np.ones(1000, np.float32), 0.5).max().item()
        2.0
    """
    p = checks.probability("dropout", "p", p)
    if not checks.flag("dropout", "training", training) or p == 0:
        return as_tensor(x)
    return apply(ops.dropout.Dropout, x, p=p, key=int(random.generator().integers(2**64, dtype=np.uint64)))


def attention(q: TensorLike, k: TensorLike, v: TensorLike, causal: bool = False, kv_heads: int | None = None) -> Tensor:
    """softmax(q k^T / sqrt(D)) v (Vaswani et al. 2017).

    Args:
        q: queries (..., T, D).
        k: keys (..., S, D).
        v: values (..., S, E).
        causal: query t sees keys up to t + S - T only.
        kv_heads: how many heads k and v have in the third dimension from the end, each of which is shared by as many
            heads of q in a row (Ainslie et al. 2023); None: as many as q.

    Returns:
        A Tensor (..., T, E).

    Raises:
        ShapeError: shapes that do not fit, or heads that do not divide.

    Example:
        >>> q, k, v = np.random.default_rng(0).standard_normal((3, 2, 4, 5, 8))
        >>> F.attention(q, k, v, causal=True).shape
        (2, 4, 5, 8)
    """
    return apply(ops.attention.Attention, q, k, v, **_attention(causal, kv_heads))


def self_attention(qkv: TensorLike, causal: bool = False, kv_heads: int | None = None) -> Tensor:
    """attention(*qkv, causal), the gradient of which comes as one array.

    Args:
        qkv: (3, ..., T, D): queries, keys and values; with `kv_heads` (..., H + 2 kv_heads, T, D), the heads of queries
            before those of keys and of values.
        causal: position t sees positions up to t only.
        kv_heads: how many heads of keys and values there are.

    Returns:
        A Tensor (..., T, D).

    Raises:
        ShapeError: shapes that do not fit, or heads that do not divide.

    Example:
        >>> F.self_attention(np.zeros((2, 4 + 2 * 2, 5, 8), np.float32), causal=True, kv_heads=2).shape
        (2, 4, 5, 8)
    """
    return apply(ops.attention.Attention, qkv, **_attention(causal, kv_heads))


def _attention(causal: bool, kv_heads: int | None) -> dict[str, Any]:
    found: dict[str, Any] = {"causal": checks.flag("attention", "causal", causal)}
    return found if kv_heads is None else found | {"kv_heads": checks.whole("attention", "kv_heads", kv_heads, 1)}


def rotary(x: TensorLike, cos: TensorLike, sin: TensorLike, heads: int | None = None, interleaved: bool = False) -> Tensor:
    """Pairs (a, b) of elements turned by an angle: (a cos - b sin, a sin + b cos) (Su et al. 2021).

    Args:
        x: (..., T, D).
        cos: (T, D / 2), of the angle of each position and pair.
        sin: (T, D / 2).
        heads: only so many, the first, of the third dimension from the end are turned; None: all.
        interleaved: pair i is elements 2i and 2i + 1; else i and i + D / 2, as in Llama.

    Returns:
        A Tensor of the same shape.

    Raises:
        ShapeError: shapes or heads that do not fit.

    Example:
        >>> F.rotary([[1.0, 0.0]], cos=[[0.0]], sin=[[1.0]])
        Tensor([[0., 1.]], shape=(1, 2))
    """
    return apply(ops.rotary.Rotary, x, cos, sin, interleaved=checks.flag("rotary", "interleaved", interleaved),
                 heads=None if heads is None else checks.whole("rotary", "heads", heads))


def cross_entropy(logits: TensorLike, targets: TensorLike, ignore_index: int = -100,
                  label_smoothing: float = 0.0) -> Tensor:
    """Mean of -ln softmax(logits)[target] over the targets.

    Args:
        logits: (C,), (B, C) or (B, C, ...), the classes in dimension 1, as in PyTorch; models.next_token_loss has them
            last.
        targets: class ids (), (B,) or (B, ...).
        ignore_index: targets that do not count.
        label_smoothing: the share of the target's probability that all classes get alike (Szegedy et al. 2016).

    Returns:
        A Tensor of one element; NaN where no target counts.

    Raises:
        ShapeError: shapes that do not fit, or a class id out of range; DtypeError: targets that are no integers.

    Example:
        >>> F.cross_entropy([[2.0, 0.0]], [0])
        Tensor(0.1269, shape=())
    """
    return apply(ops.losses.CrossEntropy, logits, targets,
                 ignore_index=checks.whole("cross_entropy", "ignore_index", ignore_index, -sys.maxsize),
                 label_smoothing=checks.probability("cross_entropy", "label_smoothing", label_smoothing))


def binary_cross_entropy_with_logits(logits: TensorLike, targets: TensorLike,
                                     pos_weight: TensorLike | None = None) -> Tensor:
    """Mean of -w t ln(p) - (1 - t) ln(1 - p), p = sigmoid(logits).

    Args:
        logits: any shape.
        targets: t from 0 to 1, of the same shape.
        pos_weight: w, the weight of positive targets, which broadcasts to them; None: 1.

    Returns:
        A Tensor of one element.

    Raises:
        ShapeError: shapes that do not fit, or targets out of range.

    Example:
        >>> F.binary_cross_entropy_with_logits([0.0, 2.0], [1.0, 1.0])
        Tensor(0.41, shape=())
    """
    return apply(ops.losses.BCEWithLogits, logits, targets, pos_weight)


def mse_loss(x: TensorLike, target: TensorLike) -> Tensor:
    """Mean of (x - target)^2.

    Args:
        x: any shape.
        target: of the same shape.

    Returns:
        A Tensor of one element.

    Raises:
        ShapeError: shapes that differ.

    Example:
        >>> F.mse_loss([1.0, 2.0], [1.0, 4.0])
        Tensor(2., shape=())
    """
    return apply(ops.losses.MSELoss, x, target)


def concat(tensors: Iterable[TensorLike], axis: int = 0) -> Tensor:
    """Tensors one after the other along a dimension.

    Args:
        tensors: whose shapes differ in the dimension `axis` only.
        axis: the dimension.

    Returns:
        A Tensor, as long along `axis` as they are together.

    Raises:
        ShapeError: shapes that do not fit, or no Tensors; DtypeError: `tensors` is no list.

    Example:
        >>> F.concat([[1.0, 2.0], [3.0]])
        Tensor([1., 2., 3.], shape=(3,))
    """
    return apply(ops.shape.Concat, *_row("concat", tensors), axis=checks.axis("concat", axis))


def stack(tensors: Iterable[TensorLike], axis: int = 0) -> Tensor:
    """Tensors of one shape along a new dimension.

    Args:
        tensors: of one shape.
        axis: the new dimension of the result.

    Returns:
        A Tensor of one dimension more.

    Raises:
        ShapeError: shapes that differ, or no Tensors; DtypeError: `tensors` is no list.

    Example:
        >>> F.stack([[1.0, 2.0], [3.0, 4.0]], axis=1)
        Tensor([[1., 3.],
         [2., 4.]], shape=(2, 2))
    """
    axis = checks.axis("stack", axis)
    return concat([t.unsqueeze(axis) for t in _row("stack", tensors)], axis)


def _row(name: str, tensors: Any) -> list[Tensor]:
    return [as_tensor(t) for t in checks.rows(name, "tensors", tensors, "Tensors")]


def pad(x: TensorLike, widths: Sequence[int] | Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """A constant around x.

    Args:
        x: any shape.
        widths: (before, after) for each dimension of x; or PyTorch's form, numbers in a row: before and after of the last
            dimension, then of the one before it, ..., those not named being left alone.
        value: the constant.

    Returns:
        A Tensor that is larger by the widths.

    Raises:
        ShapeError: widths that do not fit; DtypeError: widths that are no whole numbers.

    Example:
        >>> F.pad([[1.0]], (1, 2))
        Tensor([[0., 1., 0., 0.]], shape=(1, 4))
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
        pairs: list[tuple[int, ...]] = [*zip(flat[::2], flat[1::2])]
        pairs += [(0, 0)] * (x.ndim - len(pairs))
        pairs.reverse()
    else:
        pairs = [checks.several("pad", "widths", w, 0) for w in widths]
    return apply(ops.shape.Pad, x, widths=tuple(pairs), value=checks.number("pad", "value", value, infinite=True))


def where(condition: TensorLike, a: TensorLike, b: TensorLike) -> Tensor:
    """a where the condition holds, else b, elementwise.

    Args:
        condition: booleans.
        a: values for True; shapes broadcast.
        b: values for False.

    Returns:
        A Tensor of the shape that all three broadcast to.

    Raises:
        ShapeError: shapes that do not broadcast; DtypeError: a condition that is not of booleans or integers.

    Example:
        >>> F.where([True, False], [1.0, 2.0], 0.0)
        Tensor([1., 0.], shape=(2,))
    """
    return apply(ops.arithmetic.Where, condition, a, b)


def maximum(a: TensorLike, b: TensorLike) -> Tensor:
    """The larger of a and b, elementwise.

    Args:
        a: any shape.
        b: a shape that broadcasts with it.

    Returns:
        A Tensor of the shape that both broadcast to.

    Raises:
        ShapeError: shapes that do not broadcast.

    Example:
        >>> F.maximum([1.0, 5.0], 3.0)
        Tensor([3., 5.], shape=(2,))
    """
    return apply(ops.arithmetic.Maximum, a, b)


def minimum(a: TensorLike, b: TensorLike) -> Tensor:
    """The smaller of a and b, elementwise.

    Args:
        a: any shape.
        b: a shape that broadcasts with it.

    Returns:
        A Tensor of the shape that both broadcast to.

    Raises:
        ShapeError: shapes that do not broadcast.

    Example:
        >>> F.minimum([1.0, 5.0], 3.0)
        Tensor([1., 3.], shape=(2,))
    """
    return apply(ops.arithmetic.Minimum, a, b)
