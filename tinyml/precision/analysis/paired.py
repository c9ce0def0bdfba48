"""Paired differences of two models over one test set: sums that grow batch by batch, and 95% intervals from them."""

from __future__ import annotations

import math

import numpy as np

Interval = tuple[float, float]
Z = 1.96            # standard errors on either side that hold 95% of a normal distribution


class Paired:
    """Scores of two models on the same targets, kept as float64 sums: memory does not grow with the data.

    Item i has n_i targets that count and the difference D_i = sum of b's scores - sum of a's scores. There are m items with
    n_i > 0.
    """

    def __init__(self) -> None:
        self.items = 0                      # m
        self.sums = np.zeros(3)             # of a's scores, b's scores, n_i
        self.products = np.zeros((2, 2))    # sums of the products of (D_i, n_i) with themselves

    # a model whose training diverged has infinite or NaN losses: they are shown, and no warning is given
    @np.errstate(over="ignore", invalid="ignore")
    def add(self, a: np.ndarray, b: np.ndarray, counted: np.ndarray | None = None) -> None:
        """Add a batch: both scores of each target, and which targets count (None for all of them), each (B, ...)."""
        counted = np.ones(a.shape, bool) if counted is None else counted
        a, b, n = (np.where(counted, v, 0).reshape(len(v), -1).sum(axis=1, dtype=np.float64) for v in (a, b, counted))
        pairs = np.stack([b - a, n])[:, n > 0]
        self.items += pairs.shape[1]
        self.sums += a.sum(), b.sum(), n.sum()
        self.products += pairs @ pairs.T

    def means(self) -> tuple[float, float]:
        """The mean scores of a and b over all targets that count."""
        a, b, n = self.sums
        return float(a / n), float(b / n)

    @np.errstate(over="ignore", invalid="ignore")
    def interval(self) -> Interval:
        """d +- 1.96 sqrt(m / (m - 1) sum (D_i - d n_i)^2) / sum n_i around the change of the mean, d = sum D_i / sum n_i.

        If all items have the same number of targets, this is the mean of m differences +- 1.96 sd / sqrt(m). Items are
        assumed to be independent; the targets of one item are not. The normal approximation needs some 30 items. A single
        item gives an interval without bounds, and differences that are all equal give one of width 0.
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
        """The interval for scores of 0 or 1 and one target per item: Agresti and Min 2005, Statistics in Medicine 24:729.

        l is the number of items that only a gets right, g the number that only b gets right. Half an item is added to each
        of the four cells of the table of pairs: n = m + 2, d = (g - l) / n, d +- 1.96 sqrt(l + g + 1 - (g - l)^2 / n) / n.
        Without these halves, two models that agree on a few items would be certain to agree on all.
        """
        change, discordant, n = self.sums[1] - self.sums[0], self.products[0, 0], self.items + 2    # g - l, g + l
        d, half = change / n, Z * np.sqrt(discordant + 1 - change ** 2 / n) / n
        return float(d - half), float(d + half)
