"""The loss of a language model."""

from __future__ import annotations

from ...errors import ShapeError
from ...nn import functional as F
from ...tensors import Tensor, TensorLike, as_tensor


def next_token_loss(logits: TensorLike, targets: TensorLike, ignore_index: int = -100) -> Tensor:
    """Mean of -ln softmax(logits)[target], the classes being the last dimension: cross_entropy of all positions as rows.

    Args:
        logits: (B, T, V), or (..., V).
        targets: (B, T) of ids, or (...).
        ignore_index: targets that do not count.

    Returns:
        A Tensor of one element.

    Raises:
        ShapeError: shapes do not fit, or a target is no id.

    Example:
        >>> tinyml.models.next_token_loss(np.zeros((2, 3, 5), np.float32), np.zeros((2, 3), int))
        tensor(1.6094)
    """
    logits, targets = as_tensor(logits), as_tensor(targets)
    if not logits.ndim or logits.shape[:-1] != targets.shape:
        raise ShapeError(f"next_token_loss: expected targets {logits.shape[:-1]} for logits {logits.shape} (..., V), got "
                         f"{targets.shape}")
    return F.cross_entropy(logits.reshape(targets.numel(), logits.shape[-1]), targets.reshape(-1),
                           ignore_index=ignore_index)


next_token_loss.class_axis = -1     # type: ignore[attr-defined]   # where `evaluate` looks for classes; they are dimension 1 of other losses
