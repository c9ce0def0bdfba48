"""Losses as modules."""

from __future__ import annotations

from ..tensor import Tensor, TensorLike, as_tensor
from . import functional as F
from .module import Module


class CrossEntropyLoss(Module):
    """Mean of -ln softmax(logits)[target]; logits (B, C) or (B, C, ...), targets (B,) or (B, ...) of class ids.

    Args:
        ignore_index: targets that do not count.
        label_smoothing: the share of the target's probability that all classes get alike (Szegedy et al. 2016).

    Example:
        >>> nn.CrossEntropyLoss()([[2.0, 0.0]], [0])
        Tensor(0.1269, shape=())
    """

    def __init__(self, ignore_index: int = -100, label_smoothing: float = 0.0):
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, logits: TensorLike, targets: TensorLike) -> Tensor:
        return F.cross_entropy(logits, targets, self.ignore_index, self.label_smoothing)


class BCEWithLogitsLoss(Module):
    """Mean of -w t ln(p) - (1 - t) ln(1 - p), p = sigmoid(logits), for targets t from 0 to 1.

    Args:
        pos_weight: w, the weight of positive targets, which broadcasts to them; None: 1.

    Example:
        >>> nn.BCEWithLogitsLoss()([0.0, 2.0], [1.0, 1.0])
        Tensor(0.41, shape=())
    """

    def __init__(self, pos_weight: TensorLike | None = None):
        self.pos_weight = None if pos_weight is None else as_tensor(pos_weight)

    def forward(self, logits: TensorLike, targets: TensorLike) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, targets, self.pos_weight)


class MSELoss(Module):
    """Mean of (x - target)^2.

    Example:
        >>> nn.MSELoss()([1.0, 2.0], [1.0, 4.0])
        Tensor(2., shape=())
    """

    def forward(self, x: TensorLike, target: TensorLike) -> Tensor:
        return F.mse_loss(x, target)
