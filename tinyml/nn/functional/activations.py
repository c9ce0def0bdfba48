"""Functions of each element, softmax, and dropout."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from ... import checks, ops, random
from ...engine import numpy_names
from ...errors import ShapeError
from ...tensors import Tensor, TensorLike, apply, as_tensor

APPROXIMATIONS = ("none", "tanh")           # of GELU


def relu(input: TensorLike) -> Tensor:
    """max(x, 0) of each element.

    Args:
        input: any shape.

    Returns:
        A Tensor of the same shape.

    Example:
        >>> F.relu([-1.0, 2.0])
        tensor([0., 2.])
    """
    return apply(ops.pointwise.ReLU, input)


def relu6(input: TensorLike) -> Tensor:
    """min(max(x, 0), 6) of each element.

    Args:
        input: any shape.

    Returns:
        A Tensor of the same shape.

    Example:
        >>> F.relu6([-1.0, 2.0, 9.0])
        tensor([0., 2., 6.])
    """
    return apply(ops.pointwise.Clip, input, lo=0.0, hi=6.0)


def gelu(input: TensorLike, approximate: str = "none") -> Tensor:
    """x Phi(x) of each element, Phi the normal distribution's cumulative function (Hendrycks & Gimpel 2016).

    Args:
        input: any shape.
        approximate: "none", or "tanh" for x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).

    Returns:
        A Tensor of the same shape.

    Raises:
        ShapeError: another name as `approximate`.

    Example:
        >>> F.gelu([-1.0, 0.0, 1.0])
        tensor([-0.1587,  0.0000,  0.8413])
    """
    return apply(ops.pointwise.GELU, input,
                 approximate=checks.choice("gelu", "approximate", approximate, APPROXIMATIONS))


def silu(input: TensorLike) -> Tensor:
    """x sigmoid(x) of each element (Elfwing et al. 2017).

    Args:
        input: any shape.

    Returns:
        A Tensor of the same shape.

    Example:
        >>> F.silu([0.0, 1.0])
        tensor([0.0000, 0.7311])
    """
    return apply(ops.pointwise.SiLU, input)


def sigmoid(input: TensorLike) -> Tensor:
    """1 / (1 + e^-x) of each element.

    Args:
        input: any shape.

    Returns:
        A Tensor of the same shape.

    Example:
        >>> F.sigmoid([0.0])
        tensor([0.5000])
    """
    return apply(ops.pointwise.Sigmoid, input)


def tanh(input: TensorLike) -> Tensor:
    """Hyperbolic tangent of each element.

    Args:
        input: any shape.

    Returns:
        A Tensor of the same shape.

    Example:
        >>> F.tanh([0.0, 1.0])
        tensor([0.0000, 0.7616])
    """
    return apply(ops.pointwise.Tanh, input)


@numpy_names
def softmax(input: TensorLike, dim: int | None = None, dtype: DTypeLike | None = None) -> Tensor:
    """exp(x) / sum of exp(x) over the dimension `dim`.

    Args:
        input: any shape.
        dim: the dimension whose elements sum to 1 afterwards; None: the last of up to two dimensions.
        dtype: what the input becomes before; None: it stays.

    Returns:
        A Tensor of the same shape.

    Raises:
        ShapeError: a dimension that there is not, or none named for an input of more than two.

    Example:
        >>> F.softmax([0.0, 0.0])
        tensor([0.5000, 0.5000])
    """
    return _softmax(ops.norm.Softmax, input, dim, dtype)


@numpy_names
def log_softmax(input: TensorLike, dim: int | None = None, dtype: DTypeLike | None = None) -> Tensor:
    """x - ln(sum of exp(x)) over the dimension `dim`: the logarithm of softmax.

    Args:
        input: any shape.
        dim: the dimension whose elements' exponentials sum to 1 afterwards; None: the last of up to two dimensions.
        dtype: what the input becomes before; None: it stays.

    Returns:
        A Tensor of the same shape.

    Raises:
        ShapeError: a dimension that there is not, or none named for an input of more than two.

    Example:
        >>> F.log_softmax([0.0, 0.0])
        tensor([-0.6931, -0.6931])
    """
    return _softmax(ops.norm.LogSoftmax, input, dim, dtype)


def _softmax(op: type[ops.norm.Softmax], input: TensorLike, dim: int | None, dtype: DTypeLike | None) -> Tensor:
    x = as_tensor(input)
    if dim is None and x.ndim > 2:      # PyTorch takes dimension 0 of three, and 1 of four
        raise ShapeError(f"{op.name}: expected dim for an input of more than two dimensions, got shape {x.shape}; dim=-1 "
                         "is the last one")
    return apply(op, x if dtype is None else x.to(dtype), axis=-1 if dim is None else checks.axis(op.name, dim))


def dropout(input: TensorLike, p: float = 0.5, training: bool = True) -> Tensor:
    """Zero each element with probability p, and scale the others by 1 / (1 - p) (Srivastava et al. 2014).

    Args:
        input: any shape.
        p: from 0 to 1.
        training: False: the input stays as it is.

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
        return as_tensor(input)
    return apply(ops.dropout.Dropout, input, p=p, key=int(random.generator().integers(2**64, dtype=np.uint64)))
