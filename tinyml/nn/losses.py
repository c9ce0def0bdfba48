"""Losses as modules."""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor
from . import functional as F
from .module import Module


class CrossEntropyLoss(Module):
    """Mean of -ln softmax(logits)[target]; logits (..., C), targets (...) of class ids."""

    def __init__(self, ignore_index: int = -100, label_smoothing: float = 0.0):
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, logits: Any, targets: Any) -> Tensor:
        return F.cross_entropy(logits, targets, self.ignore_index, self.label_smoothing)


class MSELoss(Module):
    """Mean of (x - target)^2."""

    def forward(self, x: Any, target: Any) -> Tensor:
        return F.mse_loss(x, target)
