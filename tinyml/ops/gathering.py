"""Elements taken, written and added at an index along one dimension."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import checks
from .._kernels.rows.gathering import add_slices, gather, scatter, three
from ..errors import DtypeError, ShapeError
from ..state import Context
from ..tensors import Tensor
from .op import Gradients, Op, Sample, normal, sample


def _refused(name: str, index: np.ndarray, size: int, least: int = 0) -> ShapeError:
    return ShapeError(f"{name}: expected indices from {least} to {size - 1}, got {index.min()} to {index.max()}")


def _aligned(name: str, shape: tuple[int, ...], index: np.ndarray, axis: int) -> tuple[np.ndarray, int, tuple[slice, ...]]:
    """The index with the dimensions of an array of `shape`, the axis from the front, and which part of the array the index
    is for: all along the axis, and as much as the index has along the others."""
    if index.dtype.kind not in "iu":
        raise DtypeError(f"{name}: expected an index of integers, got {index.dtype}")
    where = index if index.ndim else index.reshape(1)
    checks.fits(name, axis, len(shape))
    at = axis % len(shape)
    if where.ndim != len(shape) or any(n > m for d, (n, m) in enumerate(zip(where.shape, shape)) if d != at):
        raise ShapeError(f"{name}: an index of shape {index.shape} does not fit a Tensor of shape {shape} along "
                         f"dimension {axis}")
    return where, at, tuple(slice(None) if d == at else slice(n) for d, n in enumerate(where.shape))


def _take(name: str, x: np.ndarray, index: np.ndarray, axis: int) -> np.ndarray:
    """x[index[i, j], j] for axis 0, of the shape of the index."""
    x = x if x.ndim else x.reshape(1)
    where, at, part = _aligned(name, x.shape, index, axis)
    y = gather(x[part], where, at)
    if y is None:
        raise _refused(name, index, x.shape[at])
    return y.reshape(index.shape)


def _write(name: str, y: np.ndarray, index: np.ndarray, x: np.ndarray, axis: int, add: bool) -> np.ndarray:
    """y, which is row-major, after y[index[i, j], j] = x[i, j] for axis 0, or += where `add` is set."""
    whole = y if y.ndim else y.reshape(1)
    where, at, part = _aligned(name, whole.shape, index, axis)
    place = np.ascontiguousarray(whole[part])
    if not scatter(x.reshape(where.shape), where, at, add, place):
        raise _refused(name, index, whole.shape[at])
    if place.shape != whole.shape:
        whole[part] = place
    return y


def _fitting(name: str, source: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The elements of a source that belong to those of the index: a source may be longer, or one element for all."""
    if not source.ndim:
        return np.broadcast_to(source, index.shape)
    if source.ndim != index.ndim or any(n > m for n, m in zip(index.shape, source.shape)):
        raise ShapeError(f"{name}: an index of shape {index.shape} needs a source that is as large, got {source.shape}")
    return source[tuple(map(slice, index.shape))]


def _filled(part: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`part` with zeros behind it along each dimension; as it is where `shape` has no dimensions, which broadcasts."""
    if not shape or part.shape == shape:
        return part
    out = np.zeros(shape, part.dtype)
    out[tuple(map(slice, part.shape))] = part
    return out


class _Taking(Op):
    """Base of ops that take elements of x at an index, of int8 codes too."""

    any_dtype = True
    integer_operands = (1,)

    @classmethod
    def run_int8(cls, x: Tensor, index: Tensor, *, axis: int) -> Tensor:
        if x.quantized is None or x.axis is not None:
            raise DtypeError(f"{cls.name}: not defined on int8; call dequantize() first, as scales do not move with codes")
        codes = cls.forward(Context((False, False)), x.array, index.array, axis=axis)
        return Tensor(codes, scale=x.quantized.scale, zero_point=x.quantized.zero_point)


class Gather(_Taking):
    """Elements of x along `axis`: y[i, j] = x[index[i, j], j] for axis 0; the index has as many dimensions as x.

    An element that is taken more than once gets the sum of the gradients.

    Raises:
        ShapeError: an index that does not fit x.
    """

    name = "gather"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, index: np.ndarray, *, axis: int) -> np.ndarray:
        ctx.shape, ctx.index, ctx.axis = x.shape, index, axis
        return _take("gather", x, index, axis)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return _write("gather", np.zeros(ctx.shape, grad.dtype), ctx.index, grad, ctx.axis, True), None

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 4), rng.integers(0, 4, (3, 6)), axis=1)
        yield sample(normal(rng, 3, 4), rng.integers(0, 3, (2, 4)), axis=0)
        yield sample(normal(rng, 2, 3, 4), rng.integers(0, 3, (2, 1, 4)), axis=-2)

    @staticmethod
    def parity(torch: Any, x: Any, index: Any, axis: Any) -> Any:
        return torch.gather(x, axis, index)


class IndexSelect(_Taking):
    """Slices of x along `axis`: y[i] = x[index[i]] for axis 0. Negative indices are counted from the end.

    The dimensions of the index take the place of `axis`. A slice that is taken twice gets the sum of the gradients.

    Raises:
        ShapeError: an index that does not fit x.
    """

    name = "index_select"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, index: np.ndarray, *, axis: int) -> np.ndarray:
        checks.fits("index_select", axis, x.ndim)
        n = x.shape[axis]
        if index.size and (index.min() < -n or index.max() >= n):
            raise _refused("index_select", index, n, -n)
        ctx.shape, ctx.index, ctx.axis = x.shape, index, axis % x.ndim
        return x.take(index, axis)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        before, n, after = three(ctx.shape, ctx.axis)
        index = np.where(ctx.index < 0, ctx.index + n, ctx.index).astype(np.int64).reshape(-1)
        sums = np.zeros((before, n, after), grad.dtype)
        return add_slices(grad.reshape(before, index.size, after), index, sums).reshape(ctx.shape), None

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 4), np.array([2, 0, 2, 1]), axis=0)
        yield sample(normal(rng, 2, 3, 4), np.array([0, 2]), axis=-2)
        yield sample(normal(rng, 5), np.array([[0, 4], [3, 3]]), axis=0)

    @staticmethod
    def parity(torch: Any, x: Any, index: Any, axis: Any) -> Any:
        return x[(slice(None),) * (axis % x.ndim) + (index,)]

    @staticmethod
    def elements(x: tuple[int, ...], index: tuple[int, ...], *, axis: int) -> int:
        return math.prod(x) * math.prod(index)


class Scatter(Op):
    """x with the elements of a source at an index along `axis`: y = x, y[index[i, j], j] = source[i, j] for axis 0.

    A source without dimensions is one element for all of the index. Where an element of x is written more than once, the
    last counts.

    Raises:
        ShapeError: an index that does not fit x, or the source.
    """

    name = "scatter"
    promotes = "numbers"
    integer_operands = (1,)

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, index: np.ndarray, source: np.ndarray, *, axis: int) -> np.ndarray:
        ctx.index, ctx.axis, ctx.shape = index, axis, source.shape
        return _write("scatter", np.array(x, order="C"), index, _fitting("scatter", source, index), axis, False)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        rest, taken = None, None
        if ctx.needs[2]:
            taken = _filled(_take("scatter", grad, ctx.index, ctx.axis), ctx.shape)
        if ctx.needs[0]:
            zeros = np.zeros(ctx.index.shape, grad.dtype)
            rest = _write("scatter", np.array(grad, order="C"), ctx.index, zeros, ctx.axis, False)
        return rest, None, taken

    @staticmethod
    def elements(x: tuple[int, ...], index: tuple[int, ...], source: tuple[int, ...], **attrs: Any) -> int:
        return math.prod(x)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 4), np.array([[0, 2], [3, 1]]), normal(rng, 2, 2), axis=1)
        yield sample(normal(rng, 3, 4), np.array([[0, 2, 1, 0]]), normal(rng, 1, 4), axis=-2)
        yield sample(normal(rng, 3, 4), np.array([[0, 0, 1, 0]]), normal(rng), axis=0)

    @classmethod
    def parity(cls, torch: Any, x: Any, index: Any, source: Any, axis: Any) -> Any:
        return getattr(torch, cls.name)(x, axis, index, source if source.ndim else source.expand(index.shape))


class ScatterAdd(Scatter):
    """x plus the elements of a source at an index along `axis`: y = x, y[index[i, j], j] += source[i, j] for axis 0.

    Raises:
        ShapeError: an index that does not fit x, or the source.
    """

    name = "scatter_add"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, index: np.ndarray, source: np.ndarray, *, axis: int) -> np.ndarray:
        ctx.index, ctx.axis, ctx.shape = index, axis, source.shape
        return _write("scatter_add", np.array(x, order="C"), index, _fitting("scatter_add", source, index), axis, True)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        taken = _filled(_take("scatter_add", grad, ctx.index, ctx.axis), ctx.shape) if ctx.needs[2] else None
        return grad, None, taken


class NonZero(Op):
    """The indices of the elements of x that are not 0, in row-major order: a row each."""

    name = "nonzero"
    any_dtype = True
    differentiable = False

    @staticmethod
    def forward(ctx: Context, x: np.ndarray) -> np.ndarray:
        return np.argwhere(x)

    @staticmethod
    def elements(x: tuple[int, ...]) -> int:
        return math.prod(x) * len(x)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 4).round())
        yield sample(normal(rng))

    @staticmethod
    def parity(torch: Any, x: Any) -> Any:
        return torch.nonzero(x)
