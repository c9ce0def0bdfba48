"""Observers: each sees the batches of one activation and chooses the range that its codes represent.

MinMax and MovingAverage keep two numbers. The others keep one histogram, whose size does not grow with the data, and
choose a range from it that clips a few values so that the many others have finer codes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import numpy as np

from ... import checks
from ..._kernels.products import fixed_point
from ...errors import DtypeError
from ...nn.module import is_inside

BINS = 8192     # at least eight bins per code over the range of the data: two would not show the error of rounding


class Observer(Protocol):
    """The two methods that calibration calls; any class that has them is an observer.

    Example:
        >>> import numpy as np
        >>> from tinyml import nn
        >>> class Fixed:
        ...     def observe(self, x): ...
        ...     def range(self): return -1.0, 1.0
        >>> plan = nn.Sequential(nn.ReLU()).to_int8(calibration=np.ones((2, 3), np.float32), observer=Fixed)
        >>> plan.info.calibration.observer
        'Fixed'
    """

    def observe(self, x: np.ndarray) -> None:
        """Take account of one batch of the activation.

        Args:
            x: the values, a float array of any shape.
        """

    def range(self) -> tuple[float, float]:
        """The range (lo, hi) that the codes should have."""


class MinMax:
    """The range from the smallest to the largest value seen: lo = min x, hi = max x.

    Example:
        >>> import numpy as np
        >>> from tinyml.precision import MinMax
        >>> observer = MinMax()
        >>> observer.observe(np.array([0.5, -2.0]))
        >>> observer.range()
        (-2.0, 0.5)
    """

    def __init__(self) -> None:
        self.lo, self.hi = np.inf, -np.inf

    def observe(self, x: np.ndarray) -> None:
        """Widen the range by the elements of x."""
        if x.size:
            self.lo, self.hi = min(self.lo, float(x.min())), max(self.hi, float(x.max()))

    def range(self) -> tuple[float, float]:
        """The smallest and the largest value; (inf, -inf) where none was seen."""
        return self.lo, self.hi


class MovingAverage:
    """The moving average of the ranges of the batches.

        lo = (1 - c) lo + c min(batch),    hi = (1 - c) hi + c max(batch),    from the range of the first batch

    Args:
        c: the weight of a batch, above 0 and at most 1.

    Raises:
        ShapeError: c is out of range.

    Source: Jacob et al. 2018, section 3.1.

    Example:
        >>> import numpy as np
        >>> from tinyml.precision import MovingAverage
        >>> observer = MovingAverage(c=0.5)
        >>> observer.observe(np.array([0.0, 1.0]))
        >>> observer.observe(np.array([0.0, 3.0]))
        >>> observer.range()
        (0.0, 2.0)
    """

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
    """Counts of values in BINS bins [k width, (k + 1) width), -BINS / 2 <= k < BINS / 2; the base of observers that clip.

    The width is the power of two with max|x| / (BINS / 2) < width <= 2 max|x| / (BINS / 2). Where larger values come, the
    width doubles and pairs of bins become one. So memory is fixed, every value stays counted in the bin that holds it, and
    counts do not depend on how the data was split into batches. The range is that of the data, as for MinMax.

    Attributes:
        counts: (BINS), how many values are in each bin.
        width: the width of a bin; 0 while no value was seen.
        lo, hi: the smallest and the largest value.

    Example:
        >>> import numpy as np
        >>> from tinyml.precision import Histogram
        >>> observer = Histogram()
        >>> observer.observe(np.array([0.1, 0.1, -4.0]))
        >>> observer.width, int(observer.counts.max()), observer.range()
        (0.001953125, 2, (-4.0, 0.1))
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
        """The smallest and the largest value; (inf, -inf) where none was seen."""
        return self.lo, self.hi

    def centers(self) -> np.ndarray:
        """The middle of each bin, (BINS), clipped to the range of the data."""
        middles: np.ndarray = np.clip((np.arange(BINS) - BINS // 2 + 0.5) * self.width, self.lo, self.hi)
        return middles


class Percentile(Histogram):
    """The range that leaves some percent of the values outside, half of them on each side.

    Args:
        clipped: how many percent, from 0 to below 100.

    Raises:
        ShapeError: `clipped` is out of range.

    Source: Wu et al. 2020, section 3.3.

    Example:
        >>> import numpy as np
        >>> from tinyml.precision import Percentile
        >>> observer = Percentile(clipped=2)
        >>> observer.observe(np.append(np.linspace(0, 1, 990), np.full(10, 100.0)))
        >>> observer.range()[1] < 1.1
        True
    """

    def __init__(self, clipped: float = 0.01) -> None:
        super().__init__()
        self.clipped = checks.number("Percentile", "clipped", clipped, 0, below=100)

    def range(self) -> tuple[float, float]:
        """The range, rounded outwards to whole bins."""
        total = self.counts.sum()
        if not total:
            return self.lo, self.hi
        below = np.cumsum(self.counts)
        outside = total * self.clipped / 200
        first = int(np.searchsorted(below, outside, side="right"))
        last = int(np.searchsorted(below, total - outside, side="left"))
        return (max(self.lo, (first - BINS // 2) * self.width), min(self.hi, (last + 1 - BINS // 2) * self.width))


def find_least(loss: Callable[[float, float], float], lo: float, hi: float) -> tuple[float, float]:
    """The range with the least loss(lo, hi), if each end may shrink in 64 steps towards 0; of equal ones the wider one.

    The search begins with the range (lo, hi) of the data, and shrinks the high end before the low end: the loss from one
    end hardly depends on the other.
    """
    factors = [f / 64 for f in range(64, 0, -1)]
    hi = min([hi * f for f in factors] if hi > 0 else [hi], key=lambda h: loss(lo, h))
    lo = min([lo * f for f in factors] if lo < 0 else [lo], key=lambda v: loss(v, hi))
    return lo, hi


class MSE(Histogram):
    """The range whose codes represent the values with the least mean squared error.

        argmin over (lo, hi) of sum_i n_i (scale (q(x_i) - z) - x_i)^2,    over the bins of a Histogram

    where n_i is the count of bin i, and x_i its middle; scale and z follow from the range by equation (6). Each end is one
    of 64 candidates, from the end of the data towards 0.

    Example:
        >>> import numpy as np
        >>> from tinyml.precision import MSE
        >>> observer = MSE()
        >>> observer.observe(np.append(np.random.default_rng(0).standard_normal(1_000_000), 20))
        >>> observer.range()[1] < 10            # one outlier among a million is clipped
        True
    """

    def range(self) -> tuple[float, float]:
        """The best range found; (inf, -inf) if no value was seen."""
        return find_least(self.error, self.lo, self.hi) if self.counts.any() else (self.lo, self.hi)

    def error(self, lo: float, hi: float) -> float:
        """The sum of the squared errors of the codes of a range, over the bins.

        Args:
            lo: the low end of the range.
            hi: the high end of the range.

        Returns:
            The sum, in squared units of the activation.
        """
        used = self.counts > 0
        values, weights = self.centers()[used], self.counts[used]
        scale, zero = fixed_point.affine_parameters(lo, hi, "MSE")
        q = np.clip(np.rint(values / float(scale)) + zero, -128, 127)
        return float((weights * np.square((q - zero) * float(scale) - values)).sum())


class Entropy(Histogram):
    """The range whose codes lose the least information, by the Kullback-Leibler divergence.

        argmin over (lo, hi) of D(P || Q) = sum_i P_i log(P_i / Q_i),    over the bins i in [lo, hi] where P_i > 0

    P counts the data clipped to [lo, hi], so its first and last bin also count what lies outside. Q counts only what lies
    inside, and knows only the code of each bin: the count of a code is spread evenly over the non-empty bins that have it.
    Both are divided by their sums. Clipping makes P and Q differ at the ends, and coarse codes make them differ
    elsewhere. Each end of the range is one of 64 candidates, from the end of the data towards 0.

    Where Q is 0 at an end, because P counts only outliers there, it is set to half a value: otherwise the divergence would
    be infinite, and a single far outlier among millions could not be clipped. Exact zeros, as ReLU makes them, are left
    out: every range represents them exactly, and their large count would be spread over the bins that share their code.

    Source: Migacz, "8-bit inference with TensorRT", 2017.

    Example:
        >>> import numpy as np
        >>> from tinyml.precision import Entropy
        >>> observer = Entropy()
        >>> observer.observe(np.append(np.random.default_rng(0).standard_normal(100_000), 50))
        >>> observer.range()[1] < 10            # one outlier among many is clipped
        True
    """

    def __init__(self) -> None:
        super().__init__()
        self.zeros = 0

    def observe(self, x: np.ndarray) -> None:
        """Count the elements of x."""
        super().observe(x)
        self.zeros += x.size - int(np.count_nonzero(x))

    def range(self) -> tuple[float, float]:
        """The best range found; that of the data where all values are 0, or none was seen."""
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

        return find_least(divergence, self.lo, self.hi)


OBSERVERS: dict[str, Callable[[], Observer]] = {
    "minmax": MinMax, "moving_average": MovingAverage, "percentile": Percentile, "entropy": Entropy, "mse": MSE}


def observer_factory(observer: Any, what: str = "observer") -> Callable[[], Observer]:
    """The class, or the function without arguments, that makes the observer of an activation.

    Args:
        observer: one of these, or a name of OBSERVERS.
        what: the name of the option in errors.

    Raises:
        DtypeError: `observer` is none of these.
    """
    if isinstance(observer, str) and observer in OBSERVERS:
        return OBSERVERS[observer]
    if callable(observer):
        made: Callable[[], Observer] = observer
        return made
    raise DtypeError(f"{what}: expected one of {', '.join(OBSERVERS)}, or a class or function that makes an observer, got "
                     f"{checks.described(observer)}")


def observer_for(observer: Any) -> Callable[[str], Callable[[], Observer]]:
    """A function from a layer's name to the factory of the observers of its activations.

    Args:
        observer: an argument of `observer_factory`, for all layers; or a dict of these by layer. A name stands for the
            layer and all layers inside it, and the longest name that matches counts. "" stands for all other layers, whose
            default is "minmax".

    Raises:
        DtypeError: a value is not an observer, or a key is not a name.
    """
    factories = {"": OBSERVERS["minmax"]}
    for name, chosen in (observer if isinstance(observer, Mapping) else {"": observer}).items():
        if not isinstance(name, str):
            raise DtypeError(f"observer: expected layer names as keys, got {name!r}")
        factories[name] = observer_factory(chosen, f"observer of layer {name!r}" if name else "observer")
    return lambda layer: factories[max((name for name in factories if is_inside(layer, name)), key=len)]


def find_unmatched(observer: Any, names: Collection[str]) -> list[str]:
    """The keys of `observer`, as `observer_for` takes it, that match none of the layers `names`."""
    keys = observer if isinstance(observer, Mapping) else ()
    return [key for key in keys if key and not any(is_inside(name, key) for name in names)]


def observer_name(observer: Any) -> str:
    """The name of an observer in records: its name in OBSERVERS or that of its class, or JSON of these by layer."""
    if isinstance(observer, Mapping):
        return json.dumps({layer: observer_name(chosen) for layer, chosen in observer.items()})
    return observer if isinstance(observer, str) else type(observer_factory(observer)()).__name__
