"""Ops that move elements and compute nothing, so that most of them work on int8 codes as they are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from .. import checks
from .._kernels.rows.codes import quantize, to_signed
from ..engine import owner
from ..errors import DtypeError, ShapeError
from ..tape import Context
from ..tensors import Tensor
from .codes import is_below_one_code
from .op import Batch, Codec, Gradients, IntegerStep, Op, Operand, Sample, Target, normal, sample


class _Moving(Op):
    """Base of ops that move elements of one operand: any dtype, int8 codes too."""

    any_dtype = True
    int8 = "codes"
    passes_on = True


class Clone(_Moving):
    """The elements of x in memory of their own, in NumPy's `order`: "K", laid out alike, or "C", row-major."""

    name = "clone"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, *, order: Literal["K", "C"] = "K") -> np.ndarray:
        return x.copy(order)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return (grad,)

    @classmethod
    def by_sample(cls, ndims: list[int], constants: list[np.ndarray], **attrs: Any) -> int | None:
        return ndims[0]

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 2, 3))
        yield sample(normal(rng, 2, 3).T, order="C")

    @staticmethod
    def parity(torch: Any, x: Any, order: str = "K") -> Any:
        return x.clone()


class View(_Moving):
    """Base of those whose result shares the memory of x where it can."""

    views = True


class Reshape(View):
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


class Permute(View):
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


class BroadcastTo(View):
    """x stretched to `shape`: dimensions of 1 are repeated, and new ones added in front.

    Raises:
        ShapeError: x does not broadcast to the shape.
    """

    name = "broadcast_to"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
        try:
            y = np.broadcast_to(x, shape)
        except (ValueError, OverflowError):
            raise ShapeError(f"broadcast_to: shape {x.shape} does not broadcast to {tuple(shape)}") from None
        return y if y.size != x.size else x.reshape(shape)      # which can be written, as nothing is repeated

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


class Diagonal(View):
    """The elements of x at (i, i + offset) of the dimensions `dim1` and `dim2`, as the last dimension of the result.

    Raises:
        ShapeError: the two are one dimension, or x does not have them.
    """

    name = "diagonal"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, *, offset: int, dim1: int, dim2: int) -> np.ndarray:
        checks.fits("diagonal", (dim1, dim2), x.ndim)
        ctx.shape, ctx.of = x.shape, (offset, dim1, dim2)
        y = x.diagonal(offset, dim1, dim2)
        y.flags.writeable = x.flags.writeable
        return y

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        out = np.zeros(ctx.shape, grad.dtype)
        diagonal = out.diagonal(*ctx.of)
        diagonal.flags.writeable = True
        diagonal[...] = grad
        return (out,)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 4), offset=1, dim1=0, dim2=1)
        yield sample(normal(rng, 4, 2, 3), offset=-1, dim1=-1, dim2=0)
        yield sample(normal(rng, 2, 2), offset=5, dim1=0, dim2=1)

    @staticmethod
    def parity(torch: Any, x: Any, offset: Any, dim1: Any, dim2: Any) -> Any:
        return torch.diagonal(x, offset, dim1, dim2)


class Unfold(View):
    """Windows of x: `size` elements along `axis` from every `step`-th on, which are the last dimension of the result.

    Raises:
        ShapeError: there is no such dimension, or it has fewer elements than a window.
    """

    name = "unfold"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, *, axis: int, size: int, step: int) -> np.ndarray:
        checks.fits("unfold", axis, x.ndim)
        if not 0 <= size <= x.shape[axis] or step < 1:
            raise ShapeError(f"unfold: windows of {size} elements, {step} apart, do not fit dimension {axis} of shape "
                             f"{x.shape}")
        ctx.shape, ctx.axis, ctx.step = x.shape, axis, step
        at = axis % x.ndim
        windows = (x.shape[at] - size) // step + 1
        shape = (*x.shape[:at], windows, *x.shape[at + 1 :], size)
        strides = (*x.strides[:at], x.strides[at] * step, *x.strides[at + 1 :], x.strides[at])
        flat = owner(x).ravel("K")      # as_strided would hide whose memory it is
        if not np.may_share_memory(flat, x):
            flat = x = np.ascontiguousarray(x)
            strides = (*x.strides[:at], x.strides[at] * step, *x.strides[at + 1 :], x.strides[at])
        offset = x.__array_interface__["data"][0] - flat.__array_interface__["data"][0]
        y: np.ndarray = np.ndarray(shape, x.dtype, flat, offset, strides)
        y.flags.writeable = size <= step and x.flags.writeable      # no element of two windows is written in one of them
        return y

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        out = np.zeros(ctx.shape, grad.dtype)
        along, windows = np.moveaxis(out, ctx.axis, 0), np.moveaxis(grad, ctx.axis % len(ctx.shape), 0)
        for i in range(grad.shape[-1]):
            along[i : i + (len(windows) - 1) * ctx.step + 1 : ctx.step] += windows[..., i]
        return (out,)

    @staticmethod
    def elements(x: tuple[int, ...], *, size: int, **attrs: Any) -> int:
        return max(math.prod(x) * size, 1)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 2, 7, 3), axis=1, size=3, step=2)
        yield sample(normal(rng, 6), axis=-1, size=2, step=3)

    @staticmethod
    def parity(torch: Any, x: Any, axis: Any, size: Any, step: Any) -> Any:
        return x.unfold(axis, size, step)


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
    promotes = "numbers"
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
        ctx.sizes, ctx.axis = [x.shape[axis] for x in xs], axis % y.ndim
        return y

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        before, ends = (slice(None),) * ctx.axis, np.cumsum(ctx.sizes).tolist()
        return tuple(grad[(*before, slice(end - size, end))] for end, size in zip(ends, ctx.sizes))

    @classmethod
    def run_int8(cls, *operands: Any, axis: int) -> Tensor:
        """Codes of one scale and zero point one after the other."""
        scales = {(float(t.scale), int(t.zero_point)) for t in operands if t.quantized is not None and t.scale.ndim == 0}
        if len(scales) != 1 or any(t.quantized is None or t.scale.ndim for t in operands):
            raise DtypeError("concat: not defined on int8; call dequantize() first: operands of different scales have no "
                             "common codes")
        codes = cls.forward(Context((False,)), *(t.array for t in operands), axis=axis)
        return Tensor(codes, scale=operands[0].quantized.scale, zero_point=operands[0].quantized.zero_point)

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
    any_dtype = True
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
