"""Linear layers, matrix products, convolutions and tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from ... import checks, ops
from ...state import state
from ...tensors import Tensor, TensorLike, apply
from .activations import gelu, relu, silu

Pair: TypeAlias = int | tuple[int, int]     # rows and columns, or one number for both
# The functions of ops.linear.ACTIVATIONS.
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": relu, "gelu": gelu, "gelu_tanh": lambda y: gelu(y, "tanh"), "silu": silu}


def linear(input: TensorLike, weight: TensorLike, bias: TensorLike | None = None, scale: TensorLike | None = None,
           zero_point: TensorLike | None = None, activation: str | None = None) -> Tensor:
    """activation(x @ weight^T + bias).

    int8 operands are multiplied as integers, equations (4), (5) and (9). With an activation it is one op, unless ops are
    recorded or the input is int8: graphs, and integers, know the two.

    Args:
        input: (..., K), float, or int8 with one scale.
        weight: (N, K), float, or int8 with one scale per row (or one for all).
        bias: (N,).
        scale: of an int8 result, for int8 input and weight; None for a float32 result.
        zero_point: of an int8 result.
        activation: None, "relu", "gelu", "gelu_tanh" or "silu".

    Returns:
        y (..., N).

    Raises:
        ShapeError: shapes that do not fit, or an unknown activation; DtypeError: dtypes that do not.

    Example:
        >>> F.linear([[1.0, 2.0]], [[1.0, 1.0], [0.5, -1.0]], activation="relu")
        tensor([[3., 0.]])
    """
    extra = _output(scale, zero_point)
    if activation is None:
        return apply(ops.linear.Linear, input, weight, bias, **extra)
    checks.choice("linear", "activation", activation, _ACTIVATIONS, optional=True)
    if state.recorder is not None or (isinstance(input, Tensor) and input.quantized is not None):
        return _ACTIVATIONS[activation](apply(ops.linear.Linear, input, weight, bias, **extra))
    return apply(ops.linear.LinearActivation, input, weight, bias, activation=activation, **extra)


def _output(scale: Any, zero_point: Any) -> dict[str, Any]:
    """How a product's result is quantized, if it is."""
    return {} if scale is None else {"scale": scale, "zero_point": zero_point}


def matmul(input: TensorLike, other: TensorLike, scale: TensorLike | None = None,
           zero_point: TensorLike | None = None) -> Tensor:
    """input @ other: the matrix product over the last dimension of `input` and the second to last of `other`.

    int8 operands are multiplied as integers, equations (4) and (5).

    Args:
        input: (..., M, K), or a vector (K,), which is one row.
        other: (..., K, N), or a vector (K,), which is one column. Leading dimensions of both broadcast.
        scale: of an int8 result, for int8 operands; None for a float32 result.
        zero_point: of an int8 result.

    Returns:
        y (..., M, N), without the dimension of a vector.

    Raises:
        ShapeError: shapes that do not fit; DtypeError: dtypes that do not.

    Example:
        >>> F.matmul([[1.0, 2.0]], [[3.0], [4.0]])
        tensor([[11.]])
    """
    return apply(ops.linear.MatMul, input, other, **_output(scale, zero_point))


def conv2d(input: TensorLike, weight: TensorLike, bias: TensorLike | None = None, stride: Pair = 1, padding: Pair = 0,
           dilation: Pair = 1, groups: int = 1, scale: TensorLike | None = None,
           zero_point: TensorLike | None = None) -> Tensor:
    """Convolution (cross-correlation) of images: y[b, n] = bias[n] + sum over c, i, j of weight[n, c, i, j] x[b, c, ...].

    OH = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1, and OW likewise. int8 operands are multiplied as
    integers, equations (4), (5) and (9).

    Args:
        input: (B, C, H, W), float, or int8 with one scale.
        weight: (N, C / groups, kh, kw), float, or int8 with one scale per output channel (or one for all).
        bias: (N,).
        stride: pixels from one window to the next, as (down, across) or one number for both.
        padding: (rows, columns) of zeros on each side, or one number for both.
        dilation: pixels from one element of a window to the next, as (down, across) or one number for both.
        groups: into how many groups channels are divided; each of N / groups outputs reads C / groups inputs.
        scale: of an int8 result, for int8 input and weight; None for a float32 result.
        zero_point: of an int8 result.

    Returns:
        y (B, N, OH, OW).

    Raises:
        ShapeError: shapes or numbers that do not fit; DtypeError: dtypes that do not.

    Example:
        >>> F.conv2d(np.ones((1, 3, 8, 8), np.float32), np.ones((4, 3, 3, 3), np.float32), padding=1).shape
        (1, 4, 8, 8)
    """
    return apply(ops.conv.Conv2d, input, weight, bias, stride=checks.pair("conv2d", "stride", stride),
                 padding=checks.pair("conv2d", "padding", padding, 0), dilation=checks.pair("conv2d", "dilation", dilation),
                 groups=checks.whole("conv2d", "groups", groups, 1), **_output(scale, zero_point))


def embedding(input: TensorLike, weight: TensorLike) -> Tensor:
    """weight[input]: the rows of a table.

    Args:
        input: ids (...), integers from 0 to V - 1.
        weight: (V, D), float, float16 or int8.

    Returns:
        A Tensor (..., D).

    Raises:
        ShapeError: an id out of range; DtypeError: ids that are no integers.

    Example:
        >>> F.embedding([1, 1], [[0.0, 1.0], [2.0, 3.0]])
        tensor([[2., 3.],
                [2., 3.]])
    """
    return apply(ops.embedding.Embedding, input, weight)
