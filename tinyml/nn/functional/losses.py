"""Losses: one number from predictions and targets."""

from __future__ import annotations

import sys

from ... import checks, ops
from ...errors import DtypeError
from ...tensors import Tensor, TensorLike, apply


def cross_entropy(input: TensorLike, target: TensorLike, weight: TensorLike | None = None, size_average: None = None,
                  ignore_index: int = -100, reduce: None = None, reduction: str = "mean",
                  label_smoothing: float = 0.0) -> Tensor:
    """Mean of -ln softmax(input)[target] over the targets.

    Args:
        input: logits (C,), (B, C) or (B, C, ...), the classes in dimension 1, as in PyTorch; models.next_token_loss has
            them last.
        target: class ids (), (B,) or (B, ...).
        weight: None; weights of classes are not there yet.
        size_average: None; PyTorch's old name of `reduction`.
        ignore_index: targets that do not count.
        reduce: None; PyTorch's old name of `reduction`.
        reduction: "mean"; others are not there yet.
        label_smoothing: the share of the target's probability that all classes get alike (Szegedy et al. 2016).

    Returns:
        A Tensor of one element; NaN where no target counts.

    Raises:
        ShapeError: shapes that do not fit, or a class id out of range; DtypeError: targets that are no integers, or an
            argument that is not there yet.

    Example:
        >>> F.cross_entropy([[2.0, 0.0]], [0])
        tensor(0.1269)
    """
    only_mean("cross_entropy", weight, size_average, reduce, reduction, "ignore_index")
    return apply(ops.losses.CrossEntropy, input, target,
                 ignore_index=checks.whole("cross_entropy", "ignore_index", ignore_index, -sys.maxsize),
                 label_smoothing=checks.probability("cross_entropy", "label_smoothing", label_smoothing))


def binary_cross_entropy_with_logits(input: TensorLike, target: TensorLike, weight: TensorLike | None = None,
                                     size_average: None = None, reduce: None = None, reduction: str = "mean",
                                     pos_weight: TensorLike | None = None) -> Tensor:
    """Mean of -w t ln(p) - (1 - t) ln(1 - p), p = sigmoid(input).

    Args:
        input: logits, any shape.
        target: t from 0 to 1, of the same shape.
        weight: None; weights of elements are not there yet.
        size_average: None; PyTorch's old name of `reduction`.
        reduce: None; PyTorch's old name of `reduction`.
        reduction: "mean"; others are not there yet.
        pos_weight: w, the weight of positive targets, which broadcasts to them; None: 1.

    Returns:
        A Tensor of one element.

    Raises:
        ShapeError: shapes that do not fit, or targets out of range; DtypeError: an argument that is not there yet.

    Example:
        >>> F.binary_cross_entropy_with_logits([0.0, 2.0], [1.0, 1.0])
        tensor(0.4100)
    """
    only_mean("binary_cross_entropy_with_logits", weight, size_average, reduce, reduction, "pos_weight")
    return apply(ops.losses.BCEWithLogits, input, target, pos_weight)


def mse_loss(input: TensorLike, target: TensorLike, size_average: None = None, reduce: None = None,
             reduction: str = "mean", weight: TensorLike | None = None) -> Tensor:
    """Mean of (input - target)^2.

    Args:
        input: any shape.
        target: of the same shape.
        size_average: None; PyTorch's old name of `reduction`.
        reduce: None; PyTorch's old name of `reduction`.
        reduction: "mean"; others are not there yet.
        weight: None; weights of elements are not there yet.

    Returns:
        A Tensor of one element.

    Raises:
        ShapeError: shapes that differ; DtypeError: an argument that is not there yet.

    Example:
        >>> F.mse_loss([1.0, 2.0], [1.0, 4.0])
        tensor(2.)
    """
    only_mean("mse_loss", weight, size_average, reduce, reduction)
    return apply(ops.losses.MSELoss, input, target)


def only_mean(name: str, weight: object, size_average: object, reduce: object, reduction: object, third: str = "") -> None:
    """Refuse PyTorch's arguments of losses that are not there yet; `third` was the third argument of version 0.1."""
    if weight is not None:
        hint = f"; if it is {third}, name it: {third}=..." if third else ""
        raise DtypeError(f"{name}: expected weight to be None, as weighted losses are not there yet, got "
                         f"{checks.described(weight)}{hint}")
    if size_average is not None or reduce is not None:
        raise DtypeError(f"{name}: size_average and reduce are PyTorch's old names; pass reduction")
    if not isinstance(reduction, str) or reduction != "mean":
        raise DtypeError(f"{name}: expected reduction 'mean', as others are not there yet, got "
                         f"{checks.described(reduction)}")
