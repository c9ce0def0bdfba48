"""Gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ..errors import NonFiniteError, ShapeError
from ..tensor import Tensor
from ._checks import checked_parameters
from .optimizers import pieces


def clip_grad_norm_(parameters: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients by min(1, max_norm / (norm + 1e-6)), in place; the norm before (Pascanu et al. 2013).

    norm is the 2-norm of all gradients as one vector, summed in float64. `max_norm` may be infinite, to measure only.

    Raises:
        NonFiniteError: a gradient holds a NaN or an infinity; none is scaled then.
    """
    if not max_norm > 0:
        raise ShapeError(f"clip_grad_norm_: expected max_norm above 0, got {max_norm}")
    checked = checked_parameters("clip_grad_norm_", parameters)
    grads = [(i, p.grad.data) for i, p in enumerate(checked) if p.grad is not None]
    total = 0.0
    for i, grad in grads:
        square = sum(float(np.square(part, dtype=np.float64).sum()) for (part,) in pieces([grad]))
        if not math.isfinite(square):
            raise NonFiniteError(f"clip_grad_norm_: expected finite gradients, got one of norm {math.sqrt(square)} for "
                                 f"parameter {i} of shape {grad.shape}")
        total += square
    norm = math.sqrt(total)
    factor = max_norm / (norm + 1e-6)
    if factor < 1:
        for _, grad in grads:
            grad *= factor
    return norm
