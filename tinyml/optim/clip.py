"""Gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import checks
from .._kernels.dispatch import kernels_for, threads_for
from ..errors import NonFiniteError
from ..tensors import Tensor
from .optimizer import flat
from .parameters import checked_parameters


def grad_norm(parameters: Iterable[Tensor]) -> float:
    """The 2-norm of all gradients as one vector, summed in float64.

    `optimizer.step(scale=min(1, max_norm / (norm + 1e-6)))` clips by it without another pass over the gradients.

    Args:
        parameters: whose gradients; those without one count as 0.

    Returns:
        The norm.

    Raises:
        NonFiniteError: a gradient holds a NaN or an infinity; names the first parameter that has one.

    Example:
        >>> p = nn.Parameter([3.0, 4.0])
        >>> (p * p).sum().backward()
        >>> optim.grad_norm([p])
        10.0
    """
    return _norm("grad_norm", checked_parameters("grad_norm", parameters))


def clip_grad_norm_(parameters: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients by min(1, max_norm / (norm + 1e-6)), in place (Pascanu et al. 2013).

    Args:
        parameters: whose gradients.
        max_norm: the largest norm; infinite to measure only.

    Returns:
        The norm before, as `grad_norm` gives it.

    Raises:
        NonFiniteError: a gradient holds a NaN or an infinity; none is scaled then.
        ShapeError, DtypeError: no Parameters, a max_norm that is not above 0, or gradients that cannot be written.

    Example:
        >>> p = nn.Parameter([3.0, 4.0])
        >>> (p * p).sum().backward()
        >>> optim.clip_grad_norm_([p], max_norm=1.0), round(optim.grad_norm([p]), 4)
        (10.0, 1.0)
    """
    max_norm = checks.number("clip_grad_norm_", "max_norm", max_norm, above=0, infinite=True)
    checked = checked_parameters("clip_grad_norm_", parameters)
    norm = _norm("clip_grad_norm_", checked)
    factor = max_norm / (norm + 1e-6)
    if factor < 1:
        for p in checked:
            if p.grad is not None:
                checks.writable("clip_grad_norm_", f"the gradient of shape {p.shape}", p.grad.array)
                p.grad.array *= factor
    return norm


def _norm(name: str, parameters: list[Tensor]) -> float:
    squares = np.zeros(len(parameters))
    found: dict[np.dtype[Any], dict[int, np.ndarray]] = {}
    for i, p in enumerate(parameters):
        if p.grad is not None:
            found.setdefault(p.grad.dtype, {})[i] = flat(p.grad.array, p.grad.dtype)
    for dtype, grads in found.items():
        sums = np.empty(len(grads))
        kernels_for(dtype).square_sums_f32([*grads.values()], sums, threads_for(16 * sum(g.size for g in grads.values())))
        squares[[*grads]] = sums
    for i in np.flatnonzero(~np.isfinite(squares)).tolist():
        raise NonFiniteError(f"{name}: expected finite gradients, got one of norm {math.sqrt(squares[i])} for "
                             f"parameter {i} of shape {parameters[i].shape}")
    return math.sqrt(squares.sum())
