"""Observers: the range of an activation, from the batches it was seen in."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Observer(Protocol):
    """Sees the arrays of one activation and tells its range."""

    def observe(self, x: np.ndarray) -> None: ...

    def range(self) -> tuple[float, float]: ...


class MinMax:
    """The smallest and the largest value seen."""

    def __init__(self) -> None:
        self.lo, self.hi = np.inf, -np.inf

    def observe(self, x: np.ndarray) -> None:
        """Widen the range by the elements of x."""
        if x.size:
            self.lo, self.hi = min(self.lo, float(x.min())), max(self.hi, float(x.max()))

    def range(self) -> tuple[float, float]:
        """(smallest, largest)."""
        return self.lo, self.hi
