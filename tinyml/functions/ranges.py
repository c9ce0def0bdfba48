"""New Tensors of numbers in a row, of the places in a triangle, and of the coordinates of a grid."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import checks
from .._kernels import memory
from ..dtypes import FLOAT32, INT64, element_dtype
from ..errors import ShapeError
from .creation import as_tensor, made
from .shape import broadcast_to, reshape
from .types import Tensor


def _bound(who: str, name: str, value: Any) -> int | float:
    """A finite number, as an int where it is a whole one by type."""
    value = value.item() if isinstance(value, (Tensor, np.generic)) else value
    if isinstance(value, bool):
        return int(value)
    return checks.whole(who, name, value, -sys.maxsize) if checks.is_whole(value) else checks.number(who, name, value)


def arange(start: Any = 0, end: Any = None, step: Any = 1, *, dtype: DTypeLike | None = None, device: Any = None,
           requires_grad: bool = False) -> Tensor:
    """Numbers from `start` to below `end`, `step` apart: start + i step, for ceil((end - start) / step) of them.

    Args:
        start: the first; or, where `end` is None, the end, of numbers that start at 0.
        end: what they stay below (above, where `step` is negative).
        step: what lies between two of them.
        dtype: of the elements; None for int64 if all three are whole numbers, else float32.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there.

    Returns:
        A Tensor of one dimension.

    Raises:
        ShapeError: a step of 0, or away from the end; DtypeError: no number, another device, or int8.

    Example:
        >>> tinyml.arange(1, 4)
        tensor([1, 2, 3])
    """
    if end is None:
        start, end = 0, start
    first, last, by = (_bound("arange", name, v) for name, v in (("start", start), ("end", end), ("step", step)))
    whole = all(isinstance(v, int) for v in (first, last, by))
    kind = element_dtype("arange", dtype, INT64 if whole else FLOAT32)
    if kind.kind in "iu":
        first, last, by = int(first), int(last), int(by)
    if not by or (last - first) * by < 0:
        raise ShapeError(f"arange: expected a step from {first} toward {last}, got {step}")
    exact = isinstance(by, int) and isinstance(last - first, int)       # a quotient of large ints would be rounded
    n = int(-((first - last) // by)) if exact else math.ceil((last - first) / by)
    checks.room("arange", "a Tensor", (n,), 8)
    numbers = np.arange(first, first + n * by, by) if exact else first + by * np.arange(n)
    return made("arange", numbers.astype(kind, copy=False), device, requires_grad)


def linspace(start: Any, end: Any, steps: int, *, dtype: DTypeLike | None = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:
    """`steps` numbers at equal distances: start + i (end - start) / (steps - 1).

    Args:
        start: the first.
        end: the last.
        steps: how many there are.
        dtype: of the elements; None for float32.
        device: "cpu", the one device there is.
        requires_grad: whether `backward` collects a gradient there.

    Returns:
        A Tensor of one dimension.

    Raises:
        ShapeError: `steps` below 0; DtypeError: no number, another device, or int8.

    Example:
        >>> tinyml.linspace(0, 1, 3)
        tensor([0.0000, 0.5000, 1.0000])
    """
    n, kind = checks.whole("linspace", "steps", steps), element_dtype("linspace", dtype, FLOAT32)
    first, last = _bound("linspace", "start", start), _bound("linspace", "end", end)
    checks.room("linspace", "a Tensor", (n,), 8)
    if kind.kind in "iu":
        first, last = int(first), int(last)
    by, half, numbers = (last - first) / max(n - 1, 1), max(n // 2, 1), memory.empty((n,), kind)
    numbers[:half] = first + by * np.arange(min(half, n))
    numbers[half:] = last - by * np.arange(n - half - 1, -1, -1)        # from each end, so that both are exact
    return made("linspace", numbers, device, requires_grad)


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: DTypeLike | None = None, device: Any = None) -> Tensor:
    """Where the lower triangle of a matrix is: rows i and columns j with j <= i + offset.

    Args:
        row: the number of rows of the matrix.
        col: the number of its columns.
        offset: how far above the main diagonal the triangle ends.
        dtype: of the indices; None for int64.
        device: "cpu", the one device there is.

    Returns:
        A Tensor (2, number of elements): the rows, then the columns.

    Raises:
        ShapeError: a number below 0; DtypeError: no whole number, or another device.

    Example:
        >>> tinyml.tril_indices(2, 2)
        tensor([[0, 1, 1],
                [0, 0, 1]])
    """
    return _triangle("tril_indices", row, col, offset, dtype, device)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: DTypeLike | None = None, device: Any = None) -> Tensor:
    """Where the upper triangle of a matrix is: rows i and columns j with j >= i + offset.

    Args:
        row: the number of rows of the matrix.
        col: the number of its columns.
        offset: how far above the main diagonal the triangle begins.
        dtype: of the indices; None for int64.
        device: "cpu", the one device there is.

    Returns:
        A Tensor (2, number of elements): the rows, then the columns.

    Raises:
        ShapeError: a number below 0; DtypeError: no whole number, or another device.

    Example:
        >>> tinyml.triu_indices(2, 2)
        tensor([[0, 0, 1],
                [0, 1, 1]])
    """
    return _triangle("triu_indices", row, col, offset, dtype, device)


def _triangle(who: str, row: int, col: int, offset: int, dtype: DTypeLike | None, device: Any) -> Tensor:
    kind = element_dtype(who, dtype, INT64, "iu")
    n, m, k = (checks.whole(who, name, v, least) for name, v, least in (
        ("row", row, 0), ("col", col, 0), ("offset", offset, -sys.maxsize)))
    checks.room(who, "a mask", (n, m), 1)
    found = (np.tril_indices if who == "tril_indices" else np.triu_indices)(n, k, m)
    return made(who, np.stack(found).astype(kind), device, False)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """The coordinates of a grid: of Tensors x and y, X[i, j] = x[i] and Y[i, j] = y[j].

    Args:
        tensors: the coordinates along each dimension, Tensors of at most one dimension, or one list of them.
        indexing: "ij"; or "xy", for which the first two dimensions of the results are swapped.

    Returns:
        A tuple of as many Tensors, which share memory with these.

    Raises:
        ShapeError: a Tensor of more dimensions, none at all, or another `indexing`.

    Example:
        >>> x, y = tinyml.meshgrid(tinyml.arange(2), tinyml.arange(3))
        >>> y
        tensor([[0, 1, 2],
                [0, 1, 2]])
    """
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors
    xs = [as_tensor(x) for x in given]
    if not xs or any(x.ndim > 1 for x in xs):
        raise ShapeError(f"meshgrid: expected Tensors of at most one dimension, got {[x.shape for x in xs]}")
    order = [*range(len(xs))]
    if checks.choice("meshgrid", "indexing", indexing, ("ij", "xy")) == "xy":
        order[:2] = order[1::-1]
    size = tuple(xs[i].numel() for i in order)
    return tuple(broadcast_to(reshape(x, [x.numel() if i == own else 1 for own in order]), size) for i, x in enumerate(xs))
