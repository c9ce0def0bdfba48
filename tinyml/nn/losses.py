"""Losses as modules."""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor, as_tensor
from . import functional as F
from .module import Module


class CrossEntropyLoss(Module):
    """Mean of -ln softmax(logits)[target]; logits (B, C) or (B, C, ...), targets (B,) or (B, ...) of class ids."""

    def __init__(self, ignore_index: int = -100, label_smoothing: float = 0.0):
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, logits: Any, targets: Any) -> Tensor:
        return F.cross_entropy(logits, targets, self.ignore_index, self.label_smoothing)


class BCEWithLogitsLoss(Module):
    """Mean of -w t ln p - (1 - t) ln(1 - p), p = sigmoid(logits), for targets t in [0, 1]; w weighs positive targets."""

    def __init__(self, pos_weight: Any = None):
        self.pos_weight = None if pos_weight is None else as_tensor(pos_weight)

    def forward(self, logits: Any, targets: Any) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, targets, self.pos_weight)


class MSELoss(Module):
    """Mean of (x - target)^2."""

    def forward(self, x: Any, target: Any) -> Tensor:
        return F.mse_loss(x, target)
