"""Paired differences of two models over one test set: scores, streaming sums, 95% intervals."""

from __future__ import annotations

import math

import numpy as np

from ...errors import ShapeError
from ...evaluation import Loss, class_axis

Interval = tuple[float, float]
Z = 1.96            # standard errors on either side that hold 95% of a normal distribution
IGNORED = -100      # the target that does not count, as for cross_entropy


class Paired:
    """Scores of two models on the same targets, kept as float64 sums: memory does not grow with the data.

    Item i has n_i targets that count and a difference D_i = sum of b's scores - sum of a's. m items have n_i > 0.
    """

    def __init__(self) -> None:
        self.items = 0                      # m
        self.sums = np.zeros(3)             # of a's scores, b's scores, n_i
        self.products = np.zeros((2, 2))    # sums of the products of (D_i, n_i) with themselves

    # a model gone bad has infinite or NaN losses: a figure to show, no reason to stop
    @np.errstate(over="ignore", invalid="ignore")
    def add(self, a: np.ndarray, b: np.ndarray, counted: np.ndarray) -> None:
        """Add a batch: scores of each target, and which targets count; all (B, ...)."""
        a, b, n = (np.where(counted, v, 0).reshape(len(v), -1).sum(axis=1, dtype=np.float64) for v in (a, b, counted))
        pairs = np.stack([b - a, n])[:, n > 0]
        self.items += pairs.shape[1]
        self.sums += a.sum(), b.sum(), n.sum()
        self.products += pairs @ pairs.T

    def means(self) -> tuple[float, float]:
        """Mean scores of a and b over all targets that count."""
        a, b, n = self.sums
        return float(a / n), float(b / n)

    @np.errstate(over="ignore", invalid="ignore")
    def interval(self) -> Interval:
        """d +- 1.96 sqrt(m / (m - 1) sum (D_i - d n_i)^2) / sum n_i around the change of the mean, d = sum D_i / sum n_i.

        With as many targets in every item this is the mean of m differences +- 1.96 sd / sqrt(m). Items are taken as
        independent, the targets of one item are not. The normal approximation wants some 30 items; one gives no bounds,
        and differences that are all the same give no width.
        """
        if self.items == 1:
            return -math.inf, math.inf
        a, b, n = self.sums
        d = (b - a) / n
        residual = np.array([1, -d])
        squares = np.maximum(residual @ self.products @ residual, 0)    # rounding can leave less than 0
        half = Z * np.sqrt(self.items / (self.items - 1) * squares) / n
        return float(d - half), float(d + half)

    def matched_interval(self) -> Interval:
        """The interval for scores 0 or 1 of one target an item: Agresti and Min 2005, Statistics in Medicine 24:729.

        With l the items that only a gets right, g those that only b does, half an item is added to each of the four cells
        of the table of pairs: n = m + 2, d = (g - l) / n, d +- 1.96 sqrt(l + g + 1 - (g - l)^2 / n) / n. Without these,
        models that never disagree on a few items would be certain never to.
        """
        change, discordant, n = self.sums[1] - self.sums[0], self.products[0, 0], self.items + 2    # g - l, g + l
        d, half = change / n, Z * np.sqrt(discordant + 1 - change ** 2 / n) / n
        return float(d - half), float(d + half)


def classes_last(loss: Loss | None, outputs: list[np.ndarray], targets: np.ndarray | None) -> list[np.ndarray]:
    """Outputs of one shape as views whose last dimension has the classes.

    loss: the models' default_loss, which may say where they are; otherwise it is dimension 1, or the last one where class
    targets fit only that.

    Raises:
        ShapeError: class targets that fit neither.
    """
    shape = outputs[0].shape
    if targets is None or targets.dtype.kind == "f":
        axis = getattr(loss, "class_axis", 1) if len(shape) > 1 else -1
    else:
        axis = class_axis(loss, shape, targets.shape)
        if axis is None:
            raise ShapeError(f"compare: cross_entropy: expected targets of shape {shape[:1] + shape[2:]} for logits "
                             f"{shape} (B, classes, ...), got {targets.shape}")
    return [np.moveaxis(out, axis, -1) for out in outputs]


@np.errstate(over="ignore", invalid="ignore")
def cross_entropies(logits: np.ndarray, targets: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """-ln softmax(logits)[target] of each target in float64, anything where it does not count; (B, ..., C), (B, ...)."""
    wrong = targets[counted & ((targets < 0) | (targets >= logits.shape[-1]))]
    if wrong.size:
        raise ShapeError(f"compare: cross_entropy: expected targets in [0, {logits.shape[-1]}) (or {IGNORED}, which does "
                         f"not count), got {wrong[0]}")
    x = logits.astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    of_target = np.take_along_axis(x, np.where(counted, targets, 0)[..., None], axis=-1)[..., 0]
    return np.log(np.exp(x).sum(axis=-1)) - of_target


@np.errstate(over="ignore", invalid="ignore")
def squared_errors(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(output - target)^2 of each element, in float64."""
    if outputs.shape != targets.shape:
        raise ShapeError(f"compare: mse_loss: expected targets of the outputs' shape {outputs.shape}, got {targets.shape}")
    return np.square(outputs.astype(np.float64) - targets)
