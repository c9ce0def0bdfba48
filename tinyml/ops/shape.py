"""Ops that move elements and compute nothing, so that most of them work on int8 codes as they are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import checks
from .._kernels.rows.codes import quantize, to_signed
from .._kernels.rows.columns import scatter_rows
from .._kernels.rows.sums import FEW
from ..errors import ShapeError
from ..tape import Context
from .codes import is_below_one_code
from .op import Batch, Codec, Gradients, IntegerStep, Op, Operand, Sample, Target, normal, sample


class _Moving(Op):
    """Base of ops that move elements of one operand: any dtype, int8 codes too."""

    any_dtype = True
    int8 = "codes"
    passes_on = True


class Reshape(_Moving):
    """The elements of x in row-major order under another `shape`, of which one dimension may be -1.

    Raises:
        ShapeError: the numbers of elements differ.
    """

    name = "reshape"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
        ctx.shape = x.shape
        try:
            if not shape or min(shape) >= -1:     # NumPy takes any negative number for -1
                return x.reshape(shape)
        except (ValueError, OverflowError):
            pass
        raise ShapeError(f"reshape: {x.size} elements of shape {x.shape} do not fit shape {tuple(shape)}")

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return (grad.reshape(ctx.shape),)

    @classmethod
    def by_sample(cls, ndims: list[int], constants: list[np.ndarray], **attrs: Any) -> int | None:
        shape = attrs["shape"]
        return len(shape) if tuple(shape[:1]) == (Batch(),) else None

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 2, 6), shape=(3, 4))
        yield sample(normal(rng, 2, 3, 4), shape=(2, -1))
        yield sample(normal(rng, 1), shape=())
        yield sample(normal(rng, 0, 3), shape=(3, 0))


class Permute(_Moving):
    """The dimensions of x in a new `order`, as a view without a copy.

    Raises:
        ShapeError: the order does not have each dimension once.
    """

    name = "permute"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, *, order: tuple[int, ...]) -> np.ndarray:
        if sorted(a + x.ndim if a < 0 else a for a in order) != list(range(x.ndim)):
            raise ShapeError(f"permute: expected each of {x.ndim} dimensions once, got {tuple(order)}")
        ctx.order = order
        return x.transpose(order)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return (grad.transpose(np.argsort([a % grad.ndim for a in ctx.order])) if grad.ndim else grad,)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 2, 3, 4), order=(2, 0, 1))
        yield sample(normal(rng, 2, 3, 4), order=(0, -1, 1))

    @staticmethod
    def parity(torch: Any, x: Any, order: Any) -> Any:
        return x.permute(order)


class BroadcastTo(_Moving):
    """x stretched to `shape`: dimensions of 1 are repeated, and new ones added in front.

    Raises:
        ShapeError: x does not broadcast to the shape.
    """

    name = "broadcast_to"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
        try:
            return np.broadcast_to(x, shape)
        except (ValueError, OverflowError):
            raise ShapeError(f"broadcast_to: shape {x.shape} does not broadcast to {tuple(shape)}") from None

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return (grad,)

    @staticmethod
    def elements(x: tuple[int, ...], *, shape: tuple[int, ...]) -> int:
        return math.prod(shape)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 1), shape=(2, 3, 4))

    @staticmethod
    def parity(torch: Any, x: Any, shape: Any) -> Any:
        return x.broadcast_to(shape)


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


class GetItem(_Moving):
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
            return np.asarray(x[index])
        except (IndexError, TypeError, ValueError, OverflowError) as error:
            shown = ", ".join(map(checks.described, index))
            raise ShapeError(f"getitem: {error} (index [{shown}] of a Tensor of shape {x.shape})") from None

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        if any(isinstance(i, np.ndarray) for i in ctx.index):
            if grad.size <= FEW and grad.dtype != np.float16:       # too few to lose terms
                out = np.zeros(ctx.shape, grad.dtype)
                np.add.at(out, ctx.index, grad)
                return (out,)
            places, rows = _number_rows(ctx.shape, ctx.index)
            wide = grad.astype(np.float32) if grad.dtype == np.float16 else grad
            width = math.prod(ctx.shape[len(rows):])
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


def _describe_codecs(sources: list[Codec], target: Codec) -> dict[str, Any]:
    """The attributes of a step that turns codes of `sources` into those of `target`."""
    return {"scales": [float(c.scale) for c in sources], "zero_points": [c.zero_point for c in sources],
            "scale_out": float(target.scale), "zero_point": target.zero_point}


class Concat(Op):
    """Any number of operands one after the other along `axis`, alike in all other dimensions.

    Raises:
        ShapeError: the shapes do not fit, or there is no operand.
    """

    name = "concat"
    int8 = "lower"
    own_codes = True

    @staticmethod
    def forward(ctx: Context, *xs: np.ndarray, axis: int) -> np.ndarray:
        if not xs:
            raise ShapeError("concat: expected at least one Tensor")
        checks.fits("concat", axis, xs[0].ndim)
        try:
            y = np.concatenate(xs, axis=axis)
        except ValueError:
            raise ShapeError(f"concat: shapes {', '.join(str(x.shape) for x in xs)} differ in more than dimension "
                             f"{axis}") from None
        ctx.sizes, ctx.axis = [x.shape[axis] for x in xs], axis
        return y

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return tuple(np.split(grad, np.cumsum(ctx.sizes)[:-1], axis=ctx.axis))

    @classmethod
    def lower(cls, operands: list[Operand], target: Target, attrs: dict[str, Any]) -> IntegerStep | None:
        """The step requantizes activations; constants get the codes of the result now."""
        where, arrays = [], {}
        for i, o in enumerate(operands):
            where.append("value" if o.value is None else f"operand{i}")
            if o.value is not None:
                if not np.isfinite(o.value).all():
                    return None
                u, _ = quantize(o.value, target.codec.scale, target.codec.zero_point)
                arrays[where[-1]] = to_signed(u)
        codecs = _describe_codecs([o.codec or target.codec for o in operands], target.codec)
        return IntegerStep("concat", {**codecs, "operands": where, "axis": attrs["axis"]}, arrays)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 2, 3), normal(rng, 2, 1), normal(rng, 2, 0), axis=1)
        yield sample(normal(rng, 2, 3, 2), normal(rng, 1, 3, 2), axis=-3)

    @staticmethod
    def parity(torch: Any, *xs: Any, axis: Any) -> Any:
        return torch.cat(xs, dim=axis)


class Pad(Op):
    """x with the constant `value` around it, `widths` elements (before, after) along each dimension.

    Raises:
        ShapeError: the widths do not fit; OutOfMemoryError: there is no room for the result.
    """

    name = "pad"
    int8 = "lower"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, *, widths: tuple[tuple[int, int], ...], value: float) -> np.ndarray:
        if len(widths) != x.ndim or any(len(w) != 2 or min(w) < 0 for w in widths):
            raise ShapeError(f"pad: expected (before, after) >= 0 for each of {x.ndim} dimensions, got {widths}")
        checks.room("pad", "the result", [b + n + a for (b, a), n in zip(widths, x.shape)], x.itemsize)
        ctx.inner = tuple(slice(b, b + n) for (b, _), n in zip(widths, x.shape))
        return np.pad(x, widths, constant_values=value)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return (grad[ctx.inner],)

    @staticmethod
    def elements(x: tuple[int, ...], *, widths: tuple[tuple[int, int], ...], **attrs: Any) -> int:
        return math.prod(n + sum(around) for n, around in zip(x, widths))

    @classmethod
    def lower(cls, operands: list[Operand], target: Target, attrs: dict[str, Any]) -> IntegerStep | None:
        x = operands[0]
        if x.codec is None or is_below_one_code(x.codec, target.codec) or not np.isfinite(attrs["value"]):
            return None
        about = _describe_codecs([x.codec], target.codec)
        return IntegerStep("pad", {**about, "widths": [list(w) for w in attrs["widths"]],
                                   "code": target.codec.code(attrs["value"])})

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 2, 3), widths=((1, 0), (2, 1)), value=0.5)

    @staticmethod
    def parity(torch: Any, x: Any, widths: Any, value: Any) -> Any:
        return torch.nn.functional.pad(x, [w for pair in reversed(widths) for w in pair], value=value)

