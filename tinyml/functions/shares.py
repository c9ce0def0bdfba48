"""Softmax and its logarithm."""

from __future__ import annotations

from numpy.typing import DTypeLike

from .. import checks
from ..engine import numpy_names
from .reductions import cast
from .types import OPS, Tensor, apply


@numpy_names
def softmax(input: Tensor, dim: int = -1, dtype: DTypeLike | None = None) -> Tensor:
    """exp(x) / sum of exp(x) over the dimension `dim`.

    Args:
        dim: the dimension whose elements sum to 1 afterwards.
        dtype: the float dtype that the elements are converted to first.

    Returns:
        A Tensor of the same shape.

    Raises:
        ShapeError: a dimension that there is not.

    Example:
        >>> Tensor([0.0, 0.0]).softmax()
        tensor([0.5000, 0.5000])
    """
    return _shares("softmax", input, dim, dtype)


@numpy_names
def log_softmax(input: Tensor, dim: int = -1, dtype: DTypeLike | None = None) -> Tensor:
    """x - ln(sum of exp(x)) over the dimension `dim`: the logarithm of softmax.

    Args:
        dim: the dimension whose elements sum to 1 in softmax.
        dtype: the float dtype that the elements are converted to first.

    Returns:
        A Tensor of the same shape.

    Raises:
        ShapeError: a dimension that there is not.

    Example:
        >>> Tensor([0.0, 0.0]).log_softmax()
        tensor([-0.6931, -0.6931])
    """
    return _shares("log_softmax", input, dim, dtype)


def _shares(name: str, input: Tensor, dim: int, dtype: DTypeLike | None) -> Tensor:
    x, at = cast(input, dtype), checks.axis(name, dim)
    return apply(OPS[name], x, axis=at) if x.ndim else apply(OPS[name], x.reshape(1), axis=at).reshape()
