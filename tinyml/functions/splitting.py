"""Parts of a Tensor along one dimension, which share its memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import checks
from ..arguments import dimension
from ..engine import TensorBase
from ..errors import ShapeError
from .types import OPS, Tensor, apply


def _part(input: Tensor, at: int, part: Any) -> Tensor:
    return apply(OPS["getitem"], input, index=(slice(None),) * at + (part,))


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """The slice at one index of a dimension, without that dimension: y = x[index] for dim 0.

    Args:
        dim: the dimension.
        index: which slice; from the end where it is negative.

    Returns:
        A Tensor that shares the memory.

    Raises:
        ShapeError: no such dimension or index.

    Example:
        >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).select(1, 0)
        tensor([1., 3.])
    """
    return _part(input, dimension("select", dim, input.ndim), checks.whole("select", "index", index, -(2**62)))


def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """`length` slices of a dimension from `start` on: y = x[start : start + length] for dim 0.

    Args:
        dim: the dimension.
        start: the first of them; from the end where it is negative.
        length: how many.

    Returns:
        A Tensor that shares the memory.

    Raises:
        ShapeError: no such dimension, or fewer slices.

    Example:
        >>> Tensor([1.0, 2.0, 3.0]).narrow(0, 1, 2)
        tensor([2., 3.])
    """
    at = dimension("narrow", dim, input.ndim)
    n, count = input.shape[at], checks.whole("narrow", "length", length)
    first = checks.whole("narrow", "start", start, -n, n)
    first += n if first < 0 else 0
    if first + count > n:
        raise ShapeError(f"narrow: dimension {dim} of shape {input.shape} has no {count} slices from {start} on")
    return _part(input, at, slice(first, first + count))


def split(input: Tensor, split_size_or_sections: int | list[int] | tuple[int, ...], dim: int = 0) -> tuple[Tensor, ...]:
    """Consecutive parts along a dimension.

    Args:
        split_size_or_sections: the size of each part, of which the last may have less; or a list of all sizes.
        dim: the dimension.

    Returns:
        A tuple of Tensors that share the memory.

    Raises:
        ShapeError: no such dimension, or sizes that are not its own together.

    Example:
        >>> [part.shape for part in Tensor(np.zeros(5)).split(2)]
        [(2,), (2,), (1,)]
    """
    if not checks.is_whole(split_size_or_sections):
        return split_with_sizes(input, split_size_or_sections, dim)     # type: ignore[arg-type]
    n = input.shape[dimension("split", dim, input.ndim)]
    size = checks.whole("split", "split_size", split_size_or_sections, min(n, 1))
    return split_with_sizes(input, [min(size, n - i) for i in range(0, n, size)] if n else [0], dim)


def split_with_sizes(input: Tensor, split_sizes: list[int] | tuple[int, ...], dim: int = 0) -> tuple[Tensor, ...]:
    """Consecutive parts of given sizes along a dimension.

    Args:
        split_sizes: the size of each part.
        dim: the dimension.

    Returns:
        A tuple of Tensors that share the memory.

    Raises:
        ShapeError: no such dimension, or sizes that are not its own together.

    Example:
        >>> [part.shape for part in Tensor(np.zeros(5)).split_with_sizes([1, 4])]
        [(1,), (4,)]
    """
    at, sizes = dimension("split", dim, input.ndim), checks.several("split", "split_sizes", split_sizes, 0)
    if sum(sizes) != input.shape[at]:
        raise ShapeError(f"split: parts of {sizes} do not fill dimension {dim} of shape {input.shape}")
    ends = np.cumsum(sizes).tolist()
    return tuple(_part(input, at, slice(end - size, end)) for end, size in zip(ends, sizes))


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` parts of one size along a dimension; the last may have less.

    Args:
        chunks: how many.
        dim: the dimension.

    Returns:
        A tuple of Tensors that share the memory.

    Raises:
        ShapeError: no such dimension, or no chunks.

    Example:
        >>> [part.shape for part in Tensor(np.zeros(5)).chunk(3)]
        [(2,), (2,), (1,)]
    """
    n, count = input.shape[dimension("chunk", dim, input.ndim)], checks.whole("chunk", "chunks", chunks, 1)
    return split(input, -(-n // count), dim) if n else split_with_sizes(input, [0] * count, dim)


def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Parts along a dimension, as many as asked for, whose sizes differ by one at most; or parts between given indices.

    Args:
        indices_or_sections: how many parts, or the indices where the second and all later parts begin.
        dim: the dimension.

    Returns:
        A tuple of Tensors that share the memory.

    Raises:
        ShapeError: no such dimension, or no parts.

    Example:
        >>> [part.shape for part in Tensor(np.zeros(5)).tensor_split(2)], len(Tensor(np.zeros(5)).tensor_split((1, 3)))
        ([(3,), (2,)], 3)
    """
    at, given = dimension("tensor_split", dim, input.ndim), indices_or_sections
    given = given.array.tolist() if isinstance(given, TensorBase) else given
    if checks.is_whole(given):
        n, count = input.shape[at], checks.whole("tensor_split", "sections", given, 1)
        cuts = [i * (n // count) + min(i, n % count) for i in range(1, count)]
    else:
        cuts = list(checks.several("tensor_split", "indices", given))
    return tuple(_part(input, at, slice(a, b)) for a, b in zip([0, *cuts], [*cuts, None]))


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices of a dimension, each without it: y_i = x[i] for dim 0.

    Args:
        dim: the dimension.

    Returns:
        A tuple of Tensors that share the memory.

    Raises:
        ShapeError: no such dimension.

    Example:
        >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).unbind(1)[0]
        tensor([1., 3.])
    """
    at = dimension("unbind", dim, input.ndim)
    return tuple(_part(input, at, i) for i in range(input.shape[at]))
