"""The loss of a language model."""

from __future__ import annotations

from typing import Any

from ...errors import ShapeError
from ...nn import functional as F
from ...tensor import Tensor, as_tensor


def next_token_loss(logits: Any, targets: Any, ignore_index: int = -100) -> Tensor:
    """Mean of -ln softmax(logits)[target], the classes being the last dimension: cross_entropy of all positions as rows.

    >>> import numpy as np
    >>> round(next_token_loss(np.zeros((2, 3, 5), np.float32), np.zeros((2, 3), int)).item(), 4)     # ln 5
    1.6094

    Args:
        logits: (B, T, V), or (..., V).
        targets: (B, T) of ids, or (...); `ignore_index` does not count.

    Raises:
        ShapeError: shapes do not fit, or a target is no id.
    """
    logits, targets = as_tensor(logits), as_tensor(targets)
    if not logits.ndim or logits.shape[:-1] != targets.shape:
        raise ShapeError(f"next_token_loss: expected targets {logits.shape[:-1]} for logits {logits.shape} (..., V), got "
                         f"{targets.shape}")
    return F.cross_entropy(logits.reshape(targets.size, logits.shape[-1]), targets.reshape(-1), ignore_index)


next_token_loss.class_axis = -1     # where `evaluate` looks for classes; they are dimension 1 of other losses
