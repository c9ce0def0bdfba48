"""Variances, quantiles, counts of values and histograms."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import checks
from ..engine import numpy_names
from ..errors import ShapeError
from .linalg import matrix_norm, vector_norm
from .reductions import Extremes, cast, dims, picked
from .reductions import mean as _mean
from .types import OPS, Axes, Tensor, TensorLike, apply


@numpy_names
def var(input: Tensor, dim: Axes = None, unbiased: bool | None = None, keepdim: bool = False, *,
        correction: float | None = None) -> Tensor:
    """Variance over the dimensions `dim`: sum of (x - mean)^2 / (n - correction), of n elements.

    Args:
        dim: one dimension or several; None for all.
        unbiased: correction 1 if True, 0 if False.
        keepdim: whether the result keeps these dimensions, with size 1.
        correction: 1, the default, for the unbiased estimate of a sample's variance, 0 for the variance of the elements.

    Returns:
        A Tensor without the dimensions `dim` (or with size 1 there); NaN where n is no more than the correction.

    Raises:
        ShapeError: a dimension that there is not, one that is named twice, or no elements.

    Example:
        >>> Tensor([1.0, 2.0, 3.0]).var()
        tensor(1.)
    """
    return var_mean(input, dim, unbiased, keepdim, correction=correction)[0]


@numpy_names
def std(input: Tensor, dim: Axes = None, unbiased: bool | None = None, keepdim: bool = False, *,
        correction: float | None = None) -> Tensor:
    """Standard deviation over the dimensions `dim`: the square root of `var`. Where it is 0, so is its gradient.

    Args:
        dim: one dimension or several; None for all.
        unbiased: correction 1 if True, 0 if False.
        keepdim: whether the result keeps these dimensions, with size 1.
        correction: 1, the default, for the unbiased estimate of a sample's variance, 0 for the variance of the elements.

    Returns:
        A Tensor without the dimensions `dim` (or with size 1 there); NaN where n is no more than the correction.

    Raises:
        ShapeError: a dimension that there is not, one that is named twice, or no elements.

    Example:
        >>> Tensor([1.0, 2.0, 3.0]).std()
        tensor(1.)
    """
    return std_mean(input, dim, unbiased, keepdim, correction=correction)[0]


@numpy_names
def var_mean(input: Tensor, dim: Axes = None, unbiased: bool | None = None, keepdim: bool = False, *,
             correction: float | None = None) -> tuple[Tensor, Tensor]:
    """The variance over the dimensions `dim`, as `var` has it, and the mean.

    Args:
        dim: one dimension or several; None for all.
        unbiased: correction 1 if True, 0 if False.
        keepdim: whether the results keep these dimensions, with size 1.
        correction: what is taken off the number of elements, 1 by default.

    Returns:
        A tuple of two Tensors without the dimensions `dim` (or with size 1 there).

    Raises:
        ShapeError: a dimension that there is not, one that is named twice, or no elements.

    Example:
        >>> tinyml.var_mean(Tensor([1.0, 2.0, 3.0]))
        (tensor(1.), tensor(2.))
    """
    centred, n, axis, keepdim, mean = _spread("var_mean", input, dim, unbiased, keepdim, correction)
    variance = (centred * centred).sum(axis, keepdim) / n
    return variance, mean.reshape(variance.shape)


@numpy_names
def std_mean(input: Tensor, dim: Axes = None, unbiased: bool | None = None, keepdim: bool = False, *,
             correction: float | None = None) -> tuple[Tensor, Tensor]:
    """The standard deviation over the dimensions `dim`, as `std` has it, and the mean.

    Args:
        dim: one dimension or several; None for all.
        unbiased: correction 1 if True, 0 if False.
        keepdim: whether the results keep these dimensions, with size 1.
        correction: what is taken off the number of elements, 1 by default.

    Returns:
        A tuple of two Tensors without the dimensions `dim` (or with size 1 there).

    Raises:
        ShapeError: a dimension that there is not, one that is named twice, or no elements.

    Example:
        >>> tinyml.std_mean(Tensor([1.0, 2.0, 3.0]))
        (tensor(1.), tensor(2.))
    """
    centred, n, axis, keepdim, mean = _spread("std_mean", input, dim, unbiased, keepdim, correction)
    deviation = apply(OPS["vector_norm"], centred, axis=axis, keepdims=keepdim, ord=2) / math.sqrt(n)
    return deviation, mean.reshape(deviation.shape)


def _spread(name: str, input: Tensor, dim: Any, unbiased: Any, keepdim: Any, correction: Any) -> tuple[Any, ...]:
    """x - mean, n - correction, the axes, whether to keep them, and the mean with the axes kept."""
    if isinstance(dim, bool):       # x.var(False)
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None else int(checks.flag(name, "unbiased", unbiased))
    correction, axis = checks.number(name, "correction", correction), dims(name, dim, input.ndim)
    mean = _mean(input, axis, keepdim=True)
    n = input.numel() // builtins.max(mean.numel(), 1) - correction
    return input - mean, n if n > 0 else math.nan, axis, checks.flag(name, "keepdim", keepdim), mean


@numpy_names
def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The middle element in order, the lower one of two; along a dimension with its index. NaN if there is one.

    Args:
        dim: the dimension to search along; None for all elements.
        keepdim: whether the result keeps the dimension, with size 1.

    Returns:
        A Tensor; along a dimension a tuple (values, indices). The gradient goes to the element.

    Raises:
        ShapeError: a dimension that there is not, or no elements.

    Example:
        >>> Tensor([3.0, 1.0, 2.0, 9.0]).median()
        tensor(2.)
    """
    if dim is None:
        return median(input.reshape(-1), 0).values
    return picked("median", input, dim, keepdim, lambda rows, at: apply(OPS["argkth"], rows, axis=at, k=None))


@numpy_names
def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> Extremes:
    """The most frequent element along a dimension, the smallest of several, and the last index where it is.

    Args:
        dim: the dimension to search along.
        keepdim: whether the result keeps the dimension, with size 1.

    Returns:
        A tuple (values, indices), whose gradient goes to the elements at the indices.

    Raises:
        ShapeError: a dimension that there is not, or no elements.

    Example:
        >>> Tensor([3.0, 1.0, 3.0]).mode().values
        tensor(3.)
    """
    return picked("mode", input, dim, keepdim, lambda rows, at: apply(OPS["argmode"], rows, axis=at))


@numpy_names
def quantile(input: Tensor, q: TensorLike, dim: int | None = None, keepdim: bool = False, *,
             interpolation: str = "linear") -> Tensor:
    """The elements at the rank q (n - 1) of the n in order along a dimension, between ranks interpolated.

    Args:
        q: a number from 0 to 1, or a row of them, each of which gives an entry of a first dimension of the result.
        dim: the dimension; None for all elements.
        keepdim: whether the result keeps the dimension, with size 1.
        interpolation: "linear", "lower", "higher", "midpoint" or "nearest".

    Returns:
        A Tensor; NaN where there is one among the elements.

    Raises:
        ShapeError: numbers beyond 0 to 1, a dimension that there is not, or no elements.

    Example:
        >>> Tensor([1.0, 2.0, 3.0, 4.0]).quantile(0.5)
        tensor(2.5000)
    """
    how = checks.choice("quantile", "interpolation", interpolation, ("linear", "lower", "higher", "midpoint", "nearest"))
    q = q if isinstance(q, Tensor) else apply.tensor(q).to(input.dtype)     # type: ignore[attr-defined]
    share = q.array
    if share.ndim > 1 or not ((share >= 0) & (share <= 1)).all():
        raise ShapeError(f"quantile: expected q to be a number or a row of numbers from 0 to 1, got {share}")
    keepdim, kept = checks.flag("quantile", "keepdim", keepdim), [1] * input.ndim
    if dim is None or not input.ndim:
        rows = input.reshape(-1)
    else:
        at = dim % input.ndim if -input.ndim <= dim < input.ndim else dims("quantile", dim, input.ndim)
        rows, kept = input.transpose(at, -1), list(input.shape)
        kept[at] = 1
    n = rows.shape[-1]
    if not n:
        raise ShapeError(f"quantile: no elements along dimension {dim} of a Tensor of shape {input.shape}")
    ordered = apply(OPS["gather"], rows, apply(OPS["argsort"], rows, axis=-1, descending=False, k=None), axis=-1)
    ranks = q.reshape(-1) * (n - 1)
    rank = ranks.array
    low = np.floor(rank)
    weight = {"linear": ranks - low, "lower": 0 * rank, "higher": np.ceil(rank) - low, "nearest": np.rint(rank) - low,
              "midpoint": 0.5 * (np.ceil(rank) - low)}[how]
    low = low.astype(np.int64)
    a, b = ordered[..., low], ordered[..., np.ceil(rank).astype(np.int64)]
    found = a + (b - a) * weight
    found = apply(OPS["where"], apply(OPS["ne"], ordered[..., -1:], ordered[..., -1:]), math.nan, found)
    order = (found.ndim - 1, *range(found.ndim - 1))
    found = found.permute(*order)
    if dim is not None and input.ndim:      # found has the dimension `at` last, in the place of the last
        found = found.reshape(len(rank), *[n for d, n in enumerate(rows.shape[:-1])])
        if at != input.ndim - 1:
            found = found.unsqueeze(-1).transpose(at + 1, -1).squeeze(at + 1)
    shape = found.shape[1:] if not keepdim else tuple(kept)
    return found.reshape(*share.shape, *shape)


def bincount(input: Tensor, weights: TensorLike | None = None, minlength: int = 0) -> Tensor:
    """How often each whole number from 0 on is among the elements; with weights, the sum of its weights.

    Args:
        weights: as many as there are elements.
        minlength: the least length of the result.

    Returns:
        int64 (largest element + 1,); of weights float64, float32 for float32 ones.

    Raises:
        ShapeError: no row, negative elements, or other weights.

    Example:
        >>> Tensor([0, 2, 2]).bincount()
        tensor([1, 0, 2])
    """
    if isinstance(weights, Tensor) and weights.dtype.kind != "f":
        weights = cast(weights, "float64")
    return apply(OPS["bincount"], input, weights, least=checks.whole("bincount", "minlength", minlength))


def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements lie in each of `bins` equal intervals from `min` to `max`; the last includes `max`.

    Args:
        bins: the number of intervals.
        min: where the first begins.
        max: where the last ends; if it is `min`, both are those of the elements.

    Returns:
        A Tensor (bins,) of the dtype of the elements.

    Raises:
        ShapeError: `max` below `min`, or elements that have no bounds.

    Example:
        >>> Tensor([1.0, 2.0, 1.0]).histc(bins=4, min=0, max=3)
        tensor([0., 2., 1., 0.])
    """
    found = apply(OPS["histc"], input, bins=checks.whole("histc", "bins", bins, 1), lo=checks.number("histc", "min", min),
                  hi=checks.number("histc", "max", max))
    return cast(found, input.dtype)


@numpy_names
def norm(input: Tensor, p: float | str | None = "fro", dim: Axes = None, keepdim: bool = False,
         dtype: DTypeLike | None = None) -> Tensor:
    """(sum of |x|^p)^(1/p) over the dimensions `dim`, "fro" for p = 2; "nuc" for the sum of a matrix's singular values.

    Args:
        p: the exponent, as `ord` of `linalg.vector_norm`.
        dim: one dimension or several; None for all.
        keepdim: whether the result keeps these dimensions, with size 1.
        dtype: the float dtype that the elements are converted to first.

    Returns:
        A Tensor without the dimensions `dim` (or with size 1 there).

    Raises:
        ShapeError: a dimension that there is not, or "nuc" of no matrix.

    Example:
        >>> Tensor([[3.0, 0.0], [0.0, 4.0]]).norm()
        tensor(5.)
    """
    if isinstance(p, str) and checks.choice("norm", "p", p, ("fro", "nuc")) == "nuc":
        return matrix_norm(input, "nuc", (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    return vector_norm(input, 2 if p in (None, "fro") else p, dim, keepdim, dtype=dtype)        # type: ignore[arg-type]
