"""Losses as modules."""

from __future__ import annotations

from ..tensors import Tensor, TensorLike, as_tensor
from . import functional as F
from .functional.losses import only_mean
from .module import Module


class CrossEntropyLoss(Module):
    """Mean of -ln softmax(input)[target]; logits (B, C) or (B, C, ...), targets (B,) or (B, ...) of class ids.

    Args:
        weight: None; weights of classes are not there yet.
        size_average: None; PyTorch's old name of `reduction`.
        ignore_index: targets that do not count.
        reduce: None; PyTorch's old name of `reduction`.
        reduction: "mean"; others are not there yet.
        label_smoothing: the share of the target's probability that all classes get alike (Szegedy et al. 2016).

    Example:
        >>> nn.CrossEntropyLoss()([[2.0, 0.0]], [0])
        tensor(0.1269)
    """

    def __init__(self, weight: TensorLike | None = None, size_average: None = None, ignore_index: int = -100,
                 reduce: None = None, reduction: str = "mean", label_smoothing: float = 0.0):
        only_mean("CrossEntropyLoss", weight, size_average, reduce, reduction, "ignore_index")
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input: TensorLike, target: TensorLike) -> Tensor:
        return F.cross_entropy(input, target, ignore_index=self.ignore_index, label_smoothing=self.label_smoothing)


class BCEWithLogitsLoss(Module):
    """Mean of -w t ln(p) - (1 - t) ln(1 - p), p = sigmoid(input), for targets t from 0 to 1.

    Args:
        weight: None; weights of elements are not there yet.
        size_average: None; PyTorch's old name of `reduction`.
        reduce: None; PyTorch's old name of `reduction`.
        reduction: "mean"; others are not there yet.
        pos_weight: w, the weight of positive targets, which broadcasts to them; None: 1.

    Example:
        >>> nn.BCEWithLogitsLoss()([0.0, 2.0], [1.0, 1.0])
        tensor(0.4100)
    """

    def __init__(self, weight: TensorLike | None = None, size_average: None = None, reduce: None = None,
                 reduction: str = "mean", pos_weight: TensorLike | None = None):
        only_mean("BCEWithLogitsLoss", weight, size_average, reduce, reduction, "pos_weight")
        self.pos_weight = None if pos_weight is None else as_tensor(pos_weight)

    def forward(self, input: TensorLike, target: TensorLike) -> Tensor:
        return F.binary_cross_entropy_with_logits(input, target, pos_weight=self.pos_weight)


class MSELoss(Module):
    """Mean of (input - target)^2.

    Args:
        size_average: None; PyTorch's old name of `reduction`.
        reduce: None; PyTorch's old name of `reduction`.
        reduction: "mean"; others are not there yet.

    Example:
        >>> nn.MSELoss()([1.0, 2.0], [1.0, 4.0])
        tensor(2.)
    """

    def __init__(self, size_average: None = None, reduce: None = None, reduction: str = "mean"):
        only_mean("MSELoss", None, size_average, reduce, reduction)

    def forward(self, input: TensorLike, target: TensorLike) -> Tensor:
        return F.mse_loss(input, target)
