"""Elements read and written at an index: x[index], and x with x[index] = value."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import checks
from .._kernels.rows.columns import scatter_rows
from .._kernels.rows.gathering import add_slices
from .._kernels.rows.sums import FEW
from ..apply import OPS
from ..errors import ShapeError
from ..tape import Context
from .op import Gradients, Op, Sample, normal, sample
from .shape import View

MANY, NARROW = 16, 16       # terms of a sum that float32 adds well; elements of rows that are not worth sorting


def _number_rows(shape: tuple[int, ...], index: tuple[Any, ...]) -> tuple[np.ndarray, tuple[int, ...]]:
    """For x of `shape`: the number in x of each row of x[index], and the leading dimensions that number the rows of x.

    A row is what lies along the last dimensions, those that the index takes whole.
    """
    def taken(i: Any) -> int:
        """How many dimensions one part of an index takes."""
        if i is None or isinstance(i, (bool, np.bool_)):
            return 0
        return i.ndim if isinstance(i, np.ndarray) and i.dtype == np.bool_ else 1

    parts = []
    for i in index:
        if i is Ellipsis:
            parts += [slice(None)] * (len(shape) - sum(taken(j) for j in index if j is not Ellipsis))
        else:
            parts.append(i)
    while isinstance(parts[-1], slice) and parts[-1] == slice(None):
        parts.pop()
    rows = shape[: sum(map(taken, parts))]
    places = np.zeros((), np.int64)
    for d, n in enumerate(rows):
        along = np.arange(n).reshape(-1, *[1] * (len(rows) - d - 1))
        places = places * n + np.broadcast_to(along, rows)[tuple(parts)]
    return places, rows


class GetItem(View):
    """Elements of x: y = x[index], the index a tuple as NumPy takes it.

    Its parts may be integers, slices, None, Ellipsis, integer and boolean arrays. An element that is taken more than once
    gets the sum of the gradients.

    Raises:
        ShapeError: the index does not fit.
    """

    name = "getitem"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, *, index: tuple[Any, ...]) -> np.ndarray:
        ctx.shape, ctx.index = x.shape, index
        try:
            if len(index) == x.ndim == 1 and type(index[0]) is int:
                return x[index[0], ...]         # a view, where NumPy copies one element
            y = x[index]
            return y if isinstance(y, np.ndarray) else x[(*index, ...)]
        except (IndexError, TypeError, ValueError, OverflowError) as error:
            shown = ", ".join(map(checks.described, index))
            raise ShapeError(f"getitem: {error} (index [{shown}] of a Tensor of shape {x.shape})") from None

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        if any(isinstance(i, np.ndarray) and i.dtype != np.bool_ for i in ctx.index):      # bools take none twice
            if grad.size <= FEW and grad.dtype != np.float16:       # too few to lose terms
                out = np.zeros(ctx.shape, grad.dtype)
                np.add.at(out, ctx.index, grad)
                return (out,)
            places, rows = _number_rows(ctx.shape, ctx.index)
            wide = grad.astype(np.float32) if grad.dtype == np.float16 else grad
            width = math.prod(ctx.shape[len(rows):])
            if places.size <= MANY * math.prod(rows) and width < NARROW:
                sums = np.zeros((1, math.prod(rows), width), wide.dtype)
                out = add_slices(wide.reshape(1, places.size, width), places.reshape(-1), sums)
            else:
                out = scatter_rows(wide.reshape(places.size, width), places.reshape(-1), math.prod(rows))
            return (out.reshape(ctx.shape).astype(grad.dtype, copy=False),)
        out = np.zeros(ctx.shape, grad.dtype)
        out[ctx.index] = grad
        return (out,)

    @staticmethod
    def elements(x: tuple[int, ...], *, index: tuple[Any, ...]) -> int:
        arrays = [i for i in index if isinstance(i, (np.ndarray, list))]
        rest = tuple(slice(0, 1) if isinstance(i, (np.ndarray, list)) else i for i in index)
        return np.broadcast_to(np.uint8(0), x)[rest].size * math.prod(np.broadcast_shapes(*map(np.shape, arrays)))

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        x = normal(rng, 4, 5, 2)
        yield sample(x, index=(1,))
        yield sample(x, index=(slice(None, None, -2), Ellipsis, 0))
        yield sample(x, index=(None, slice(1, 3), slice(0, 0)))
        yield sample(x, index=(np.array([0, 2, 2, -1]),))
        yield sample(x, index=(slice(None), np.array([[0, 1], [4, 4]]), 1))
        yield sample(x, index=(np.arange(8).reshape(4, 2)[:, :1] % 3 == 0)[:, 0].nonzero())
        yield sample(x, index=(np.array([True, False, True, True]),))

    @staticmethod
    def parity(torch: Any, x: Any, index: Any) -> Any:
        if any(isinstance(i, slice) and i.step and i.step < 0 for i in index):
            at = np.arange(x.numel()).reshape(tuple(x.shape))[index].copy()     # PyTorch has no negative steps
            return x.reshape(-1)[torch.from_numpy(at)]
        return x[tuple(torch.from_numpy(i) if isinstance(i, np.ndarray) else i for i in index)]


def _follow(x: np.ndarray, path: tuple[Any, ...]) -> np.ndarray:
    """The view of x that ops of the path, (name, attributes as pairs), lead to.

    Raises:
        ShapeError: an op that makes no views.
    """
    for name, attrs in path:
        if name not in OPS or not OPS[name].views:
            raise ShapeError(f"put: expected ops that make views, got {name}")
        x = OPS[name].forward(Context((False,)), x, **dict(attrs))
    return x


class Put(Op):
    """x with the elements of `value`, broadcast, at an index: y = x, y[index] = value.

    The place may also be a view: `path` has the ops, each with its attributes, that make it of x. It is how the tape notes
    changes in place.

    Raises:
        ShapeError: the index does not fit, or the value does not broadcast to it.
    """

    name = "put"
    promotes = "numbers"

    @classmethod
    def forward(cls, ctx: Context, x: np.ndarray, value: np.ndarray, *, path: tuple[Any, ...],
                index: tuple[Any, ...] | None) -> np.ndarray:
        cls.keep(ctx, x, path=path, index=index)
        y = x.copy("K")
        cls.write(cls.name, y, value, path=path, index=index)
        return y

    @staticmethod
    def keep(ctx: Context, x: np.ndarray, *, path: tuple[Any, ...], index: tuple[Any, ...] | None) -> None:
        """Leave on `ctx` what backward needs: also the order of x in memory, in which the path leads to a view."""
        ctx.path, ctx.index = path, index
        ctx.order = np.argsort([-abs(s) for s in x.strides], kind="stable")

    @staticmethod
    def write(who: str, x: np.ndarray, value: np.ndarray, *, path: tuple[Any, ...], index: tuple[Any, ...] | None) -> None:
        """Write the value to x itself."""
        place = _follow(x, path)
        try:
            place[... if index is None else index] = value
        except (IndexError, TypeError, ValueError, OverflowError) as error:
            shown = "..." if index is None else ", ".join(map(checks.described, index))
            raise ShapeError(f"{who}: {error} (a value of shape {value.shape} for [{shown}] of a Tensor of shape "
                             f"{place.shape})") from None

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        rest = np.empty([grad.shape[d] for d in ctx.order], grad.dtype).transpose(np.argsort(ctx.order))
        rest[...] = grad
        place = _follow(rest, ctx.path)
        index = ... if ctx.index is None else ctx.index
        taken = np.array(place[index])
        place[index] = 0
        return rest, taken

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        x = normal(rng, 4, 5)
        yield sample(x, normal(rng, 5), path=(), index=(slice(1, 3),))
        yield sample(x, normal(rng), path=(), index=(np.array([True, False, True, False]),))
        yield sample(x, normal(rng, 2), path=(), index=(np.array([0, 3]), np.array([1, 1])))
        yield sample(x, normal(rng, 5, 2), path=(("permute", (("order", (1, 0)),)),), index=(slice(None), slice(0, 2)))

    @staticmethod
    def parity(torch: Any, x: Any, value: Any, path: Any, index: Any) -> Any:
        y = x.clone()
        place = y.T if path else y
        place[tuple(torch.from_numpy(i) if isinstance(i, np.ndarray) else i for i in index)] = value
        return y
