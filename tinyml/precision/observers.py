"""Observers: the range of an activation, from the batches it was seen in.

MinMax and MovingAverage keep two numbers. The others keep one histogram of fixed size, however much data comes, and
choose from it a range that clips a few values to represent the many more finely.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from .._kernels import fixed_point
from ..errors import DtypeError, QuantizationError

BINS = 8192     # some eight bins a code over the range of the data: with two, the error of rounding is not seen


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


class MovingAverage:
    """Smallest and largest of each batch, averaged: lo = (1 - c) lo + c min(batch), and so hi (Jacob et al. 2018, 3.1)."""

    def __init__(self, c: float = 0.1) -> None:
        if not 0 < c <= 1:
            raise QuantizationError(f"MovingAverage: expected c in (0, 1], got {c}")
        self.c, self.lo, self.hi = c, np.inf, -np.inf

    def observe(self, x: np.ndarray) -> None:
        """Move the range towards that of x."""
        if x.size:
            lo, hi = float(x.min()), float(x.max())
            first = self.lo > self.hi
            self.lo = lo if first else (1 - self.c) * self.lo + self.c * lo
            self.hi = hi if first else (1 - self.c) * self.hi + self.c * hi

    def range(self) -> tuple[float, float]:
        """The averaged (lo, hi)."""
        return self.lo, self.hi


class Histogram:
    """Counts in BINS bins [k width, (k + 1) width), k = first, first + 1, ...; base of the observers that clip.

    Where data falls outside, the width doubles and pairs of bins become one: memory is fixed, and as the width is a power
    of two, every value stays counted in the bin that holds it. `range()` is that of the data.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS)
        self.first, self.width = 0, 0.0
        self.lo, self.hi = np.inf, -np.inf

    def observe(self, x: np.ndarray) -> None:
        """Count the elements of x."""
        if not x.size:
            return
        lo, hi = float(x.min()), float(x.max())
        self.lo, self.hi = min(self.lo, lo), max(self.hi, hi)
        if not self.width:
            # half the bins are left to grow into
            span = max(hi - lo, abs(lo), abs(hi), float(np.finfo(np.float32).tiny))
            self.width = float(2.0 ** np.ceil(np.log2(2 * span / BINS)))
            self.first = int(np.floor(lo / self.width)) - BINS // 4
        while lo < self.first * self.width or hi >= (self.first + BINS) * self.width:
            self._grow(down=lo < self.first * self.width)
        at = np.floor(x.astype(np.float64) / self.width) - self.first
        self.counts += np.bincount(at.reshape(-1).astype(np.intp), minlength=BINS)

    def _grow(self, down: bool) -> None:
        odd = np.zeros(self.first % 2)      # pairs start at even bins
        merged = np.concatenate([odd, self.counts, odd]).reshape(-1, 2).sum(axis=1)
        room = np.zeros(BINS - merged.size)
        self.counts = np.concatenate([room, merged] if down else [merged, room])
        self.first = self.first // 2 - (room.size if down else 0)
        self.width *= 2

    def range(self) -> tuple[float, float]:
        """(smallest, largest)."""
        return self.lo, self.hi

    def centers(self) -> np.ndarray:
        """The middle of each bin, within the data's range."""
        return np.clip((self.first + np.arange(BINS) + 0.5) * self.width, self.lo, self.hi)


class Percentile(Histogram):
    """The range that leaves `clipped` percent of the values outside, half on each side (Wu et al. 2020, 3.3)."""

    def __init__(self, clipped: float = 0.01) -> None:
        super().__init__()
        if not 0 <= clipped < 100:
            raise QuantizationError(f"Percentile: expected clipped in [0, 100) percent, got {clipped}")
        self.clipped = clipped

    def range(self) -> tuple[float, float]:
        """The range to the nearest bin."""
        total = self.counts.sum()
        if not total:
            return self.lo, self.hi
        below = np.cumsum(self.counts)
        outside = total * self.clipped / 200
        first = int(np.searchsorted(below, outside, side="right"))
        last = int(np.searchsorted(below, total - outside, side="left"))
        return (max(self.lo, (self.first + first) * self.width), min(self.hi, (self.first + last + 1) * self.width))


class MSE(Histogram):
    """The range whose codes represent the values with the least mean squared error, of 64 shrunk ones on each side.

    Both ends shrink in turn, from the data's range: the error of one is nearly independent of the other's.
    """

    def range(self) -> tuple[float, float]:
        """The best range found."""
        if not self.counts.any():
            return self.lo, self.hi
        used = self.counts > 0
        values, weights = self.centers()[used], self.counts[used]

        def error(lo: float, hi: float) -> float:
            scale, zero = fixed_point.affine_parameters(lo, hi, "MSE")
            q = np.clip(np.rint(values / float(scale)) + zero, -128, 127)
            return float((weights * np.square((q - zero) * float(scale) - values)).sum())

        lo, hi = self.lo, self.hi
        shrink = np.linspace(1, 1 / 64, 64)
        hi = min((hi * f if hi > 0 else hi for f in shrink), key=lambda h: error(lo, h))
        lo = min((lo * f if lo < 0 else lo for f in shrink), key=lambda v: error(v, hi))
        return lo, hi


OBSERVERS: dict[str, Callable[[], Observer]] = {
    "minmax": MinMax, "moving_average": MovingAverage, "percentile": Percentile, "mse": MSE,
}


def observer_factory(observer: Any) -> Callable[[], Observer]:
    """What makes an observer for each activation, from a name of OBSERVERS, a class, or a function without arguments.

    Raises:
        DtypeError: none of these.
    """
    if isinstance(observer, str) and observer in OBSERVERS:
        return OBSERVERS[observer]
    if callable(observer):
        return observer
    raise DtypeError(f"observer: expected one of {', '.join(OBSERVERS)}, or what makes one, got {observer!r}")
