"""What outputs are worth on the targets of a batch: which targets count, which are right, the loss of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import DtypeError, ShapeError
from .nests import count_samples
from .tensors import FLOATS, INTEGERS, Tensor

Loss = Callable[[Any, Any], Tensor]
IGNORED = -100      # the class id that does not count unless a loss names another: cross_entropy's default


def ignore_index(loss: Loss) -> int:
    """The class id that does not count for `loss`."""
    return getattr(loss, "ignore_index", IGNORED)


def count_mask(loss: Loss, targets: Any) -> np.ndarray:
    """Which targets the mean of `loss` is over: class ids other than its ignore_index; of other targets all samples."""
    if not isinstance(targets, Tensor) or targets.dtype.kind not in "iu":
        return np.ones(count_samples(targets), bool)
    return np.asarray(targets.array != ignore_index(loss))


def class_axis(loss: Loss | None, outputs: tuple[int, ...], targets: tuple[int, ...]) -> int | None:
    """The dimension of outputs that has the classes of the targets, or None if the two shapes do not fit together.

    It is dimension 1, as in PyTorch, unless the loss has a `class_axis`. Where no loss is known it may also be the last
    dimension, if only that one fits.
    """
    for axis in (1, -1) if loss is None else (getattr(loss, "class_axis", 1),):
        at = axis % max(len(outputs), 1)
        if len(outputs) > 1 and outputs[:at] + outputs[at + 1 :] == targets and outputs[at]:
            return at
    return None


def mark_right(loss: Loss | None, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray | None:
    """Whether the likeliest class is the target, for each target; None if the targets are no classes of these outputs."""
    axis = class_axis(loss, outputs.shape, targets.shape) if targets.dtype.kind in "iu" else None
    return None if axis is None else outputs.argmax(axis) == targets


@np.errstate(over="ignore", invalid="ignore")       # a model gone bad has infinite or NaN losses: figures to show
def cross_entropies(logits: np.ndarray, targets: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """-ln softmax(logits)[target] of each target that counts, in float64; the values of others mean nothing.

    Args:
        logits: (B, ..., C).
        targets: (B, ...), class ids.
        counted: (B, ...), which targets count.

    Raises:
        ShapeError: A target that counts is no class.
    """
    wrong = targets[counted & ((targets < 0) | (targets >= logits.shape[-1]))]
    if wrong.size:
        raise ShapeError(f"cross_entropy: expected targets in [0, {logits.shape[-1]}) (or {IGNORED}, which does not "
                         f"count), got {wrong[0]}")
    x = logits.astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    of_target = np.take_along_axis(x, np.where(counted, targets, 0)[..., None], axis=-1)[..., 0]
    return np.asarray(np.log(np.exp(x).sum(axis=-1)) - of_target)


@np.errstate(over="ignore", invalid="ignore")
def squared_errors(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(output - target)^2 of each element, in float64.

    Raises:
        ShapeError: The shapes differ.
    """
    if outputs.shape != targets.shape:
        raise ShapeError(f"mse_loss: expected targets of the outputs' shape {outputs.shape}, got {targets.shape}")
    return np.asarray(np.square(outputs.astype(np.float64) - targets))


def output_array(what: str, output: Any) -> np.ndarray:
    """The only output (B, ...) of a model as an ndarray.

    Raises:
        ShapeError: The model has several outputs, or one without dimensions; the message begins with `what`.
    """
    if not isinstance(output, Tensor) or not output.ndim:
        got = f"shape {output.shape}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise ShapeError(f"{what}: expected a single output of shape (batch, ...) from each model, got {got}")
    return output.dequantize().array


def target_kind(what: str, targets: Any) -> str:
    """ "no targets", "class targets" or "float targets".

    Raises:
        ShapeError: There are several arrays of targets; the message begins with `what`.
        DtypeError: The targets are neither integers nor floats.
    """
    if targets is None:
        return "no targets"
    if not isinstance(targets, Tensor):
        raise ShapeError(f"{what}: expected one array of targets, got a {type(targets).__name__} of several")
    if targets.dtype not in (*INTEGERS, *FLOATS):
        raise DtypeError(f"{what}: expected integer or float targets, got {targets.dtype}")
    return "class targets" if targets.dtype in INTEGERS else "float targets"


@dataclass(frozen=True)
class Scores:
    """What the outputs of one model or several are worth on a batch; each list has one array per model.

    kind: "no targets", "class targets" or "float targets".
    classes: The likeliest class, (B, ...).
    losses: Cross entropies (B, ...) of class targets, squared errors of float targets; empty without targets.
    right: Whether the class is the target, (B, ...); only for class targets.
    counted: Which of the class targets count, (B, ...); None if everything counts.
    """

    kind: str
    classes: list[np.ndarray]
    losses: list[np.ndarray]
    right: list[np.ndarray]
    counted: np.ndarray | None

    def select(self, figures: np.ndarray) -> np.ndarray:
        """`figures`, one per target, of the targets that count."""
        return figures if self.counted is None else figures[self.counted]


def score_targets(what: str, loss: Loss | None, outputs: Sequence[np.ndarray], targets: Any) -> Scores:
    """The scores of outputs of one shape, one array per model, on the targets of their batch.

    Args:
        loss: The models' default loss, which may have a `class_axis`.
        targets: A Tensor of class ids or floats, or None.

    Raises:
        ShapeError: The targets do not fit the outputs.
        DtypeError: The targets are neither integers nor floats.
    """
    kind = target_kind(what, targets)
    if kind == "float targets":
        return Scores(kind, [out.argmax(axis=-1) for out in outputs],
                      [squared_errors(out, targets.array) for out in outputs], [], None)
    shape = outputs[0].shape
    axis = (class_axis(loss, shape, targets.shape) if targets is not None else
            getattr(loss, "class_axis", 1) if len(shape) > 1 else -1)
    if axis is None:
        raise ShapeError(f"{what}: cross_entropy: expected targets of shape {shape[:1] + shape[2:]} for logits {shape} "
                         f"(B, classes, ...), got {targets.shape}")
    classes = [out.argmax(axis) for out in outputs]
    if targets is None:
        return Scores(kind, classes, [], [], None)
    ids = targets.array.astype(np.int64)
    counted = ids != IGNORED
    losses = [cross_entropies(np.moveaxis(out, axis, -1), ids, counted) for out in outputs]
    return Scores(kind, classes, losses, [c == ids for c in classes], counted)
