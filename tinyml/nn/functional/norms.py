"""Normalisation over the last dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import checks, ops
from ...errors import DtypeError, ShapeError
from ...tensors import FLOATS, Tensor, TensorLike, apply, as_tensor

# float16 is computed in float32
EPS = {np.dtype(np.float16): 2.0**-23, np.dtype(np.float32): 2.0**-23, np.dtype(np.float64): 2.0**-52}


def layer_norm(input: TensorLike, normalized_shape: int | Sequence[int], weight: TensorLike | None = None,
               bias: TensorLike | None = None, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias, moments over the last dimensions (Ba et al. 2016).

    Args:
        input: (..., *normalized_shape).
        normalized_shape: the sizes of the dimensions that the moments are over, such as (C,).
        weight: of this shape; None: 1.
        bias: of this shape; None: 0.
        eps: what is added to the variance.

    Returns:
        A Tensor of the shape of the input.

    Raises:
        ShapeError: shapes that do not fit, or a negative eps; DtypeError: a `normalized_shape` that is none.

    Example:
        >>> F.layer_norm([[1.0, 3.0]], (2,))
        tensor([[-1.0000,  1.0000]])
    """
    eps = checks.number("layer_norm", "eps", eps, 0)
    return _norm(ops.norm.LayerNorm, as_tensor(input), normalized_shape, weight, bias, eps=eps)


def rms_norm(input: TensorLike, normalized_shape: int | Sequence[int], weight: TensorLike | None = None,
             eps: float | None = None) -> Tensor:
    """x / sqrt(mean of x^2 + eps) * weight, the mean over the last dimensions (Zhang & Sennrich 2019).

    Args:
        input: (..., *normalized_shape).
        normalized_shape: the sizes of the dimensions that the mean is over, such as (C,).
        weight: of this shape; None: 1.
        eps: what is added to the mean square; None: `finfo.eps` of the dtype that it is computed in.

    Returns:
        A Tensor of the shape of the input.

    Raises:
        ShapeError: shapes that do not fit, or a negative eps; DtypeError: a `normalized_shape` that is none.

    Example:
        >>> F.rms_norm([[1.0, -1.0]], (2,), [2.0, 2.0])
        tensor([[ 2.0000, -2.0000]])
    """
    x = as_tensor(input)
    eps = EPS.get(x.dtype, EPS[np.dtype(np.float32)]) if eps is None else eps
    return _norm(ops.norm.RMSNorm, x, normalized_shape, weight, eps=checks.number("rms_norm", "eps", eps, 0))


def _norm(op: type[ops.Op], x: Tensor, normalized_shape: Any, weight: TensorLike | None, *bias: TensorLike | None,
          eps: float) -> Tensor:
    """The op over the last dimensions as one."""
    shape = normalized_shape
    if type(shape) is not tuple or shape != x.shape[-1:]:       # of what most calls pass nothing is left to check
        shape = _checked(op.name, x, normalized_shape)
    if weight is None:
        weight = np.ones(shape, x.dtype if x.dtype in FLOATS else np.float32)
    if len(shape) == 1:
        return apply(op, x, weight, *bias, eps=eps)
    given = [None if p is None else as_tensor(p) for p in (weight, *bias)]
    if any(p is not None and p.shape != shape for p in given):
        raise ShapeError(f"{op.name}: expected parameters of shape {shape}, got "
                         f"{', '.join(str(p.shape) for p in given if p is not None)}")
    rows = apply(op, x.flatten(-len(shape)), *(None if p is None else p.flatten() for p in given), eps=eps)
    return rows.reshape(x.shape)


def _checked(name: str, x: Tensor, normalized_shape: Any) -> tuple[int, ...]:
    """The sizes of the last dimensions of x."""
    if isinstance(normalized_shape, (Tensor, np.ndarray)):
        raise DtypeError(f"{name}: expected normalized_shape as whole numbers, such as (C,), got "
                         f"{checks.described(normalized_shape)}; the weight is the third operand of {name}(input, "
                         "normalized_shape, weight)")
    shape = checks.several(name, "normalized_shape", normalized_shape, 0)
    if not shape or x.shape[-len(shape):] != shape:
        raise ShapeError(f"{name}: expected input (..., {', '.join(map(str, shape))}) for normalized_shape {shape}, got "
                         f"{x.shape}")
    return shape
