"""Random Tensors, drawn from the one generator, which `manual_seed` restarts."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import checks
from .._kernels import memory
from ..dtypes import FLOAT16, FLOAT32, FLOATS, INT64, element_dtype
from ..errors import ShapeError
from ..random import generator
from .conversion import dequantize, of
from .creation import as_tensor, made, size_of, sized
from .shape import broadcast_to
from .types import Tensor, TensorLike


@sized
def rand(size: Any, *, dtype: DTypeLike | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Numbers from 0 to below 1, all equally likely.

    Args:
        size: of each dimension, as numbers or as one tuple.
        dtype: a float; None for float32.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there.

    Returns:
        A Tensor of this size.

    Raises:
        ShapeError: a size below 0; DtypeError: no float, or another device.

    Example:
        >>> x = tinyml.rand(3)
        >>> bool(((0 <= x.numpy()) & (x.numpy() < 1)).all())
        True
    """
    kind = element_dtype("rand", dtype, FLOAT32, "f")
    if kind == FLOAT16:         # which would round numbers just below 1 up
        x = (generator().integers(2048, size=size) / 2048).astype(kind)
    else:
        x = generator().random(out=memory.empty(size, kind), dtype=kind.type)
    return made("rand", x, device, requires_grad)


@sized
def randn(size: Any, *, dtype: DTypeLike | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Numbers of the standard normal distribution: mean 0, variance 1.

    Args:
        size: of each dimension, as numbers or as one tuple.
        dtype: a float; None for float32.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there.

    Returns:
        A Tensor of this size.

    Raises:
        ShapeError: a size below 0; DtypeError: no float, or another device.

    Example:
        >>> tinyml.manual_seed(0)
        >>> x = tinyml.randn(2, 3)
        >>> tinyml.manual_seed(0)
        >>> bool((tinyml.randn((2, 3)) == x).numpy().all())
        True
    """
    kind = element_dtype("randn", dtype, FLOAT32, "f")
    wide: Any = np.float64 if kind == np.float64 else np.float32
    x = generator().standard_normal(out=memory.empty(size, wide), dtype=wide)
    return made("randn", x.astype(kind, copy=False), device, requires_grad)


def randint(low: int = 0, high: Any = None, size: Any = None, *, dtype: DTypeLike | None = None, device: Any = None,
            requires_grad: bool = False) -> Tensor:
    """Whole numbers from `low` to below `high`, all equally likely.

    Args:
        low: the least; left out it is 0: randint(high, size).
        high: what they stay below.
        size: of each dimension, as a tuple.
        dtype: of the elements; None for int64.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there (floats only).

    Returns:
        A Tensor of this size.

    Raises:
        ShapeError: no number from `low` to below `high`, one that the dtype does not have, or a size below 0;
            DtypeError: no whole number, no size, or another device.

    Example:
        >>> x = tinyml.randint(10, (4,))
        >>> bool(((0 <= x.numpy()) & (x.numpy() < 10)).all())
        True
    """
    if size is None:
        high, size = None, high
    if high is None:
        low, high = 0, low
    kind = element_dtype("randint", dtype, INT64)
    range_of = np.iinfo(kind if kind.kind in "iu" else np.int64)
    least = checks.whole("randint", "low", low, range_of.min, range_of.max)
    below = checks.whole("randint", "high", high, least + 1, range_of.max + 1)
    shape = size_of("randint", (size,))
    checks.room("randint", "a Tensor", shape, 8)
    x = generator().integers(least, below, shape)
    return made("randint", x.astype(kind, copy=False), device, requires_grad)


def randperm(n: int, *, dtype: DTypeLike | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """The numbers from 0 to n - 1 in a random order.

    Args:
        n: how many there are.
        dtype: of the elements; None for int64.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there (floats only).

    Returns:
        A Tensor (n).

    Raises:
        ShapeError: `n` is below 0; DtypeError: it is no whole number, or another device.

    Example:
        >>> sorted(tinyml.randperm(3).tolist())
        [0, 1, 2]
    """
    count, kind = checks.whole("randperm", "n", n), element_dtype("randperm", dtype, INT64)
    checks.room("randperm", "a Tensor", (count,), 8)
    return made("randperm", generator().permutation(count).astype(kind, copy=False), device, requires_grad)


def normal(mean: TensorLike = 0.0, std: TensorLike = 1.0, size: Any = None, *, dtype: DTypeLike | None = None,
           device: Any = None, requires_grad: bool = False) -> Tensor:
    """Numbers of normal distributions: mean + std z, of z from the standard one.

    Args:
        mean: the mean, or one for each element. No gradient flows to it.
        std: the standard deviation, at least 0, or one for each element.
        size: of each dimension, as a tuple; None for that of `mean` and `std`, broadcast.
        dtype: a float; None for that of `mean` or `std`, or float32.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there.

    Returns:
        A Tensor of this size.

    Raises:
        ShapeError: a deviation below 0, or shapes that do not broadcast; DtypeError: no floats, or another device.

    Example:
        >>> tinyml.normal(5, 0, (2,))
        tensor([5., 5.])
    """
    means, deviations = (dequantize(as_tensor(x)).array for x in (mean, std))
    if deviations.size and not deviations.min() >= 0:
        raise ShapeError(f"normal: expected std to be at least 0, got {deviations.min()}")
    try:
        shape = np.broadcast_shapes(means.shape, deviations.shape)
        whole = shape if size is None else np.broadcast_shapes(shape, size_of("normal", (size,)))
    except ValueError:
        raise ShapeError(f"normal: shapes {means.shape} of mean and {deviations.shape} of std do not broadcast"
                         + ("" if size is None else f" to {size}")) from None
    own = next((x.dtype for x in (mean, std) if isinstance(x, Tensor) and x.dtype in FLOATS), FLOAT32)
    kind = element_dtype("normal", dtype, own, "f")
    x = randn(whole, dtype=np.float64 if kind == np.float64 else FLOAT32, device=device).array
    x *= deviations
    x += means
    return made("normal", x.astype(kind, copy=False), device, requires_grad)


def bernoulli(input: Tensor, p: TensorLike | None = None) -> Tensor:
    """Ones with the probability that each element says, and zeros.

    Args:
        p: the probability in their place, or one for each.

    Returns:
        A Tensor of the shape and dtype of `input`, without a gradient.

    Raises:
        ShapeError: a probability below 0 or above 1; DtypeError: elements that are no floats.

    Example:
        >>> tinyml.bernoulli(Tensor([0.0, 1.0]))
        tensor([0., 1.])
    """
    odds = checks.array("bernoulli", "input" if p is None else "p", input if p is None else p, "f" if p is None else "iuf")
    if odds.size and not (odds.min() >= 0 and odds.max() <= 1):
        raise ShapeError(f"bernoulli: expected probabilities from 0 to 1, got {odds.min():g} to {odds.max():g}")
    kind = element_dtype("bernoulli", None, input.dtype)
    draws = rand(input.shape, dtype=np.float64).array
    return made("bernoulli", (draws < broadcast_to(of(odds), input.shape).array).astype(kind), None, False)


def multinomial(input: Tensor, num_samples: int, replacement: bool = False) -> Tensor:
    """Indices drawn with probabilities in proportion to the weights of a row.

    Args:
        num_samples: how many are drawn of each row.
        replacement: whether an index may be drawn more than once.

    Returns:
        An int64 Tensor (num_samples), or (rows, num_samples) of a matrix.

    Raises:
        ShapeError: weights below 0, or of which too few are above 0, and what is no row or matrix; DtypeError: no floats.

    Example:
        >>> tinyml.multinomial(Tensor([0.0, 3.0, 0.0]), 2, replacement=True)
        tensor([1, 1])
    """
    weights = checks.array("multinomial", "input", input, "f").astype(np.float64)
    count = checks.whole("multinomial", "num_samples", num_samples, 1)
    again = checks.flag("multinomial", "replacement", replacement)
    if weights.ndim not in (1, 2) or not (np.isfinite(weights) & (weights >= 0)).all():
        raise ShapeError("multinomial: expected a row or a matrix of finite weights of at least 0, got "
                         f"{checks.described(weights)}")
    rows = weights if weights.ndim == 2 else weights[None]
    fewest = np.count_nonzero(rows, axis=1).min(initial=sys.maxsize)
    if fewest < (1 if again else count):
        raise ShapeError(f"multinomial: {count} cannot be drawn of a row with {fewest} weights above 0"
                         + ("" if again else "; replacement=True draws one more than once"))
    drawn = [generator().choice(len(row), count, again, row / row.sum()) for row in rows]
    return made("multinomial", np.array(drawn, np.int64).reshape(*weights.shape[:-1], count), None, False)


def rand_like(input: Tensor, *, dtype: DTypeLike | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Numbers from 0 to below 1 in the shape of `input`, all equally likely.

    Args:
        dtype: a float; None for that of `input`.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there.

    Returns:
        A Tensor of the same shape.

    Raises:
        DtypeError: no float, or another device.

    Example:
        >>> tinyml.rand_like(Tensor([1.0, 2.0])).shape
        (2,)
    """
    return rand(input.shape, dtype=input.dtype if dtype is None else dtype, device=device, requires_grad=requires_grad)


def randn_like(input: Tensor, *, dtype: DTypeLike | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Numbers of the standard normal distribution in the shape of `input`.

    Args:
        dtype: a float; None for that of `input`.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there.

    Returns:
        A Tensor of the same shape.

    Raises:
        DtypeError: no float, or another device.

    Example:
        >>> tinyml.randn_like(Tensor([1.0, 2.0])).shape
        (2,)
    """
    return randn(input.shape, dtype=input.dtype if dtype is None else dtype, device=device, requires_grad=requires_grad)


def randint_like(input: Tensor, low: int = 0, high: int | None = None, *, dtype: DTypeLike | None = None,
                 device: Any = None, requires_grad: bool = False) -> Tensor:
    """Whole numbers from `low` to below `high` in the shape of `input`, all equally likely.

    Args:
        low: the least; left out it is 0: randint_like(input, high).
        high: what they stay below.
        dtype: of the elements; None for that of `input`.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there (floats only).

    Returns:
        A Tensor of the same shape.

    Raises:
        ShapeError: no number from `low` to below `high`; DtypeError: no whole number, another device, or int8.

    Example:
        >>> tinyml.randint_like(Tensor([7.0, 8.0]), 5, 6)
        tensor([5., 5.])
    """
    return randint(low, high, input.shape, dtype=input.dtype if dtype is None else dtype, device=device,
                   requires_grad=requires_grad)
