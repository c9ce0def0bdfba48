"""Where elements are: the places of extremes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from .. import checks
from ..errors import ShapeError
from ..state import Context
from .op import Gradients, Op, Sample, normal, sample


class _Arg(Op):
    """Base of the places of extremes along `axis`, or in the flattened x; of several, the first.

    Attributes:
        function: NumPy's function that finds them.

    Raises:
        ShapeError: there are no elements.
    """

    any_dtype = True
    differentiable = False
    function: ClassVar[Callable[..., Any]]

    @classmethod
    def forward(cls, ctx: Context, x: np.ndarray, *, axis: int | None, keepdims: bool) -> np.ndarray:
        checks.fits(cls.name, axis, x.ndim)
        if not (x.size if axis is None else x.shape[axis]):
            raise ShapeError(f"{cls.name}: no elements along axis {axis} of a Tensor of shape {x.shape}")
        return np.asarray(cls.function(x, axis=axis, keepdims=keepdims))

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 4), axis=1, keepdims=False)
        yield sample(normal(rng, 3, 4).round(), axis=-2, keepdims=True)
        yield sample(normal(rng, 3, 4), axis=None, keepdims=False)


class ArgMax(_Arg):
    """The index of the largest element of x along `axis`; with keepdims the dimension stays, as 1."""

    name, function = "argmax", staticmethod(np.argmax)

    @staticmethod
    def parity(torch: Any, x: Any, axis: Any, keepdims: Any) -> Any:
        return torch.argmax(x, axis, keepdims)


class ArgMin(_Arg):
    """The index of the smallest element of x along `axis`; with keepdims the dimension stays, as 1."""

    name, function = "argmin", staticmethod(np.argmin)

    @staticmethod
    def parity(torch: Any, x: Any, axis: Any, keepdims: Any) -> Any:
        return torch.argmin(x, axis, keepdims)


class BinCount(Op):
    """How often each whole number from 0 on is among the elements of x (N,), or the sums of its weights; at least `least`.

    Raises:
        ShapeError: x is no row of numbers from 0 on, or the weights have another shape.
    """

    name = "bincount"
    integer_operands = (0,)
    optional = (1,)

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, weights: np.ndarray | None, *, least: int) -> np.ndarray:
        if x.ndim != 1 or x.dtype.kind not in "iu" or (x.size and x.min() < 0):
            raise ShapeError(f"bincount: expected a row of whole numbers from 0 on, got {x.dtype} of shape {x.shape}"
                             + (f", the smallest {x.min()}" if x.size else ""))
        if weights is not None and weights.shape != x.shape:
            raise ShapeError(f"bincount: expected weights of shape {x.shape}, got {weights.shape}")
        ctx.x, found = x, np.bincount(x, weights, least)
        return found if weights is None else found.astype(weights.dtype)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return None, grad[ctx.x]

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(rng.integers(0, 5, 9), normal(rng, 9), least=7)

    @staticmethod
    def parity(torch: Any, x: Any, weights: Any, least: Any) -> Any:
        counts = torch.zeros(max(least, int(x.max()) + 1), dtype=weights.dtype)     # its bincount has no gradient
        return counts.index_add(0, x, weights)


class HistC(Op):
    """How many elements of x lie in each of `bins` equal intervals from lo to hi; those of x itself if lo == hi.

    Raises:
        ShapeError: hi is below lo, or x has no bounds.
    """

    name = "histc"
    differentiable = False

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, *, bins: int, lo: float, hi: float) -> np.ndarray:
        if lo == hi and x.size:
            lo, hi = float(x.min()), float(x.max())
        if not (lo <= hi and np.isfinite(hi - lo)):
            raise ShapeError(f"histc: expected finite bounds, min not above max, got {lo} and {hi}")
        if lo == hi:
            lo, hi = lo - 1, hi + 1
        inside = x[(x >= lo) & (x <= hi)].astype(np.float64)
        at = ((inside - lo) * (bins / (hi - lo))).astype(np.int64)
        return np.bincount(np.minimum(at, bins - 1), minlength=bins)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 40), bins=7, lo=0.0, hi=0.0)
        yield sample(normal(rng, 4, 10), bins=3, lo=-0.5, hi=1.5)

    @staticmethod
    def parity(torch: Any, x: Any, bins: Any, lo: Any, hi: Any) -> Any:
        return torch.histc(x, bins, lo, hi).long()
