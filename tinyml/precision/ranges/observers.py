"""Observers: the range of an activation, from the batches it was seen in.

MinMax and MovingAverage keep two numbers. The others keep one histogram of fixed size, however much data comes, and
choose from it a range that clips a few values to represent the many more finely.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import numpy as np

from ... import checks
from ..._kernels import fixed_point
from ...errors import DtypeError
from ...nn.module import is_inside

BINS = 8192     # eight or more a code over the range of the data: with two, the error of rounding is not seen


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
        self.c, self.lo, self.hi = checks.number("MovingAverage", "c", c, above=0, most=1), np.inf, -np.inf

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
    """Counts in BINS bins [k width, (k + 1) width), -BINS / 2 <= k < BINS / 2; base of the observers that clip.

    width is the power of two with max|x| / (BINS / 2) < width <= 2 max|x| / (BINS / 2). Where larger data comes, the width
    doubles and pairs of bins become one: memory is fixed, every value stays counted in the bin that holds it, and counts
    do not depend on how the data was split into batches. `range()` is that of the data.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS)
        self.width = 0.0
        self.lo, self.hi = np.inf, -np.inf

    def observe(self, x: np.ndarray) -> None:
        """Count the elements of x."""
        if not x.size:
            return
        self.lo, self.hi = min(self.lo, float(x.min())), max(self.hi, float(x.max()))
        _, exponent = math.frexp(max(abs(self.lo), abs(self.hi), float(np.finfo(np.float32).tiny)))
        width = math.ldexp(2 / BINS, exponent)
        self.width = self.width or width
        while self.width < width:
            self.counts = np.pad(self.counts.reshape(-1, 2).sum(axis=1), BINS // 4)
            self.width *= 2
        at = np.floor(x.astype(np.float64) / width) + BINS // 2
        self.counts += np.bincount(at.reshape(-1).astype(np.intp), minlength=BINS)

    def range(self) -> tuple[float, float]:
        """(smallest, largest)."""
        return self.lo, self.hi

    def centers(self) -> np.ndarray:
        """The middle of each bin, within the data's range."""
        return np.clip((np.arange(BINS) - BINS // 2 + 0.5) * self.width, self.lo, self.hi)


class Percentile(Histogram):
    """The range that leaves `clipped` percent of the values outside, half on each side (Wu et al. 2020, 3.3)."""

    def __init__(self, clipped: float = 0.01) -> None:
        super().__init__()
        self.clipped = checks.number("Percentile", "clipped", clipped, 0, below=100)

    def range(self) -> tuple[float, float]:
        """The range to the nearest bin."""
        total = self.counts.sum()
        if not total:
            return self.lo, self.hi
        below = np.cumsum(self.counts)
        outside = total * self.clipped / 200
        first = int(np.searchsorted(below, outside, side="right"))
        last = int(np.searchsorted(below, total - outside, side="left"))
        return (max(self.lo, (first - BINS // 2) * self.width), min(self.hi, (last + 1 - BINS // 2) * self.width))


def least(loss: Callable[[float, float], float], lo: float, hi: float) -> tuple[float, float]:
    """The range of least loss(lo, hi), of 64 shrunk ones on each side of 0; the wider where two are equal.

    The ends shrink in turn, from the data's range: the loss from one is nearly independent of the other's.
    """
    factors = [f / 64 for f in range(64, 0, -1)]
    hi = min([hi * f for f in factors] if hi > 0 else [hi], key=lambda h: loss(lo, h))
    lo = min([lo * f for f in factors] if lo < 0 else [lo], key=lambda v: loss(v, hi))
    return lo, hi


class MSE(Histogram):
    """The range whose codes represent the values with the least mean squared error, of those that `least` tries."""

    def range(self) -> tuple[float, float]:
        """The best range found."""
        return least(self.error, self.lo, self.hi) if self.counts.any() else (self.lo, self.hi)

    def error(self, lo: float, hi: float) -> float:
        """Sum of the squared errors that codes of the range [lo, hi] make."""
        used = self.counts > 0
        values, weights = self.centers()[used], self.counts[used]
        scale, zero = fixed_point.affine_parameters(lo, hi, "MSE")
        q = np.clip(np.rint(values / float(scale)) + zero, -128, 127)
        return float((weights * np.square((q - zero) * float(scale) - values)).sum())


class Entropy(Histogram):
    """The range whose codes lose the least information, of those that `least` tries: Kullback-Leibler divergence.

        D(P || Q) = sum_i P_i log(P_i / Q_i), over the bins i inside [lo, hi] where P_i > 0

    P counts the data clipped to [lo, hi]: its first and last bin hold what lies outside, too. Q counts only what lies
    inside, and knows of each bin only its code: the count of a code is spread evenly over the non-empty bins that have it.
    Both are divided by their sums. Clipping makes the ends of P and Q differ, coarse codes the rest.

    An end where only outliers are counted is empty in Q. It gets half a value there: a logarithm of 0 would forbid to clip
    one far outlier among millions. Exact zeros, as ReLU makes, are left out: every range represents them exactly, while
    their bin's code would seem to spread them. Migacz, "8-bit inference with TensorRT", 2017.
    """

    def __init__(self) -> None:
        super().__init__()
        self.zeros = 0

    def observe(self, x: np.ndarray) -> None:
        """Count the elements of x."""
        super().observe(x)
        self.zeros += x.size - np.count_nonzero(x)

    def range(self) -> tuple[float, float]:
        """The best range found."""
        counts = self.counts.copy()
        counts[BINS // 2] -= self.zeros
        used = np.flatnonzero(counts)
        if not used.size:
            return self.lo, self.hi
        span = slice(used[0], used[-1] + 1)
        counts, values = counts[span], self.centers()[span]

        def divergence(lo: float, hi: float) -> float:
            first, end = np.searchsorted(values, lo, "left"), np.searchsorted(values, hi, "right")
            inside = counts[first:end]
            if not inside.any():
                return np.inf
            scale, zero = fixed_point.affine_parameters(lo, hi, "Entropy")
            level = (np.clip(np.rint(values[first:end] / float(scale)) + zero, -128, 127) + 128).astype(np.intp)
            bins = np.bincount(level, inside > 0, 256)
            p, q = inside.copy(), np.where(inside > 0, (np.bincount(level, inside, 256) / np.maximum(bins, 1))[level], 0)
            p[0] += counts[:first].sum()
            p[-1] += counts[end:].sum()
            p, q = p[p > 0], np.maximum(q[p > 0], 0.5)
            p, q = p / p.sum(), q / q.sum()
            return float((p * np.log(p / q)).sum())

        return least(divergence, self.lo, self.hi)


OBSERVERS: dict[str, Callable[[], Observer]] = {
    "minmax": MinMax, "moving_average": MovingAverage, "percentile": Percentile, "entropy": Entropy, "mse": MSE,
}


def observer_factory(observer: Any, what: str = "observer") -> Callable[[], Observer]:
    """What makes an observer for each activation, from a name of OBSERVERS, a class, or a function without arguments.

    Raises:
        DtypeError: none of these, naming `what`.
    """
    if isinstance(observer, str) and observer in OBSERVERS:
        return OBSERVERS[observer]
    if callable(observer):
        return observer
    raise DtypeError(f"{what}: expected one of {', '.join(OBSERVERS)}, or what makes one, got {checks.described(observer)}")


def observer_for(observer: Any) -> Callable[[str], Callable[[], Observer]]:
    """layer name -> what makes the observers of that layer's activations.

    Args:
        observer: what observer_factory takes, for all layers; or a dict of these by layer name. A name stands for the
            layer and all layers inside it, the longest that matches counts; "" is for all others, else "minmax".

    Raises:
        DtypeError: no observer, or a key that is no name.
    """
    factories = {"": OBSERVERS["minmax"]}
    for name, chosen in (observer if isinstance(observer, Mapping) else {"": observer}).items():
        if not isinstance(name, str):
            raise DtypeError(f"observer: expected layer names as keys, got {name!r}")
        factories[name] = observer_factory(chosen, f"observer of layer {name!r}" if name else "observer")
    return lambda layer: factories[max((name for name in factories if is_inside(layer, name)), key=len)]


def find_unmatched(observer: Any, names: Collection[str]) -> list[str]:
    """The layer names among the keys of `observer` (see observer_for) that match none of the layers `names`."""
    keys = observer if isinstance(observer, Mapping) else ()
    return [key for key in keys if key and not any(is_inside(name, key) for name in names)]


def observer_name(observer: Any) -> str:
    """What to call an observer in a record: its name, the class it makes, or JSON of these by layer name."""
    if isinstance(observer, Mapping):
        return json.dumps({layer: observer_name(chosen) for layer, chosen in observer.items()})
    return observer if isinstance(observer, str) else type(observer_factory(observer)()).__name__
