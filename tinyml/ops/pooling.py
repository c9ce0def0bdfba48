"""Pooling over the windows of images: the largest, the mean, and the mean over a given number of windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeAlias

import numpy as np

from .. import checks
from .._kernels.layout import nchw, nhwc
from .._kernels.products import fixed_point
from .._kernels.products.windows import MOST, Pair, Window, adaptive_spans, spans, whole_numbers
from .._kernels.rows import pooling
from .._kernels.rows.codes import to_signed, to_unsigned
from ..errors import ShapeError
from ..tape import Context
from .op import Gradients, IntegerStep, Op, Operand, Sample, Shape, Target, in_memory, normal, sample

Windows: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]     # spans of rows and of columns, and divisors


def _find_spans(name: str, shape: Shape, size: Pair, stride: Pair, padding: Pair) -> tuple[np.ndarray, np.ndarray]:
    """First and past-last pixel of each window, along rows and along columns of an image.

    Raises:
        ShapeError: the input is no batch of images, or a window does not fit; it names the op.
    """
    if len(shape) != 4:
        raise ShapeError(f"{name}: expected input (B, C, H, W), got {shape}")
    window = Window(size, stride, padding, op=name)
    dimensions = list(zip(shape[2:], window.size, window.stride, window.padding))
    for n, k, _, p in dimensions:
        if p > k // 2:
            raise ShapeError(f"{name}: expected padding of at most half the window, got padding {window.padding} for a "
                             f"window of {window.size}")
        if n + 2 * p < k or n == 0:
            raise ShapeError(f"{name}: a window of {window.size} does not fit input {shape} with padding {window.padding}")
    rows, columns = (spans(*d) for d in dimensions)
    return rows, columns


class _Pool(Op):
    """Base of pooling: each image and channel is pooled by itself, so samples and scales of channels stay apart."""

    keeps_scaling = True

    @classmethod
    def by_sample(cls, ndims: list[int], constants: list[np.ndarray], **attrs: Any) -> int | None:
        return 4


class MaxPool2d(_Pool):
    """Largest of each window of x (B, C, H, W): y (B, C, OH, OW), OH = floor((H + 2 padding - size) / stride) + 1.

    size, stride and padding are pairs, of rows and columns; padding is never the largest.
    """

    name = "max_pool2d"
    int8 = "codes"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, *, size: Pair, stride: Pair, padding: Pair) -> np.ndarray:
        rows, columns = _find_spans("max_pool2d", x.shape, size, stride, padding)
        if not ctx.needs[0]:
            return pooling.max_pool(x, rows, columns)
        if x.shape[2] * x.shape[3] > MOST:
            raise ShapeError(f"max_pool2d: expected images of at most {MOST} pixels where there is a gradient, got "
                             f"{x.shape}")
        y, ctx.at = pooling.max_pool_at(x, rows, columns)
        ctx.hw = x.shape[2:]
        return y

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return (pooling.max_pool_grad(grad, ctx.at, ctx.hw),)

    @classmethod
    def codes(cls, u: np.ndarray, **attrs: Any) -> np.ndarray:
        rows, columns = _find_spans("max_pool2d", u.shape, **attrs)
        if u.dtype == np.int8:
            return to_signed(cls.codes(to_unsigned(u), **attrs))
        return nchw(pooling.max_pool_codes(nhwc(u), rows, columns))

    @staticmethod
    def bind(out: np.ndarray, x: np.ndarray, *, size: Pair, stride: Pair, padding: Pair) -> Callable[[], object] | None:
        rows, columns = map(spans, x.shape[2:], size, stride, padding)
        if x.dtype == np.uint8:
            return pooling.bind_max_pool_codes(in_memory(x), rows, columns, in_memory(out))
        return pooling.bind_max_pool(x, rows, columns, out)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 2, 3, 4, 6), size=(2, 2), stride=(2, 2), padding=(0, 0))
        yield sample(normal(rng, 2, 2, 5, 7), size=(3, 3), stride=(2, 1), padding=(1, 1))
        yield sample(normal(rng, 0, 2, 4, 4), size=(2, 2), stride=(2, 2), padding=(0, 0))

    @staticmethod
    def parity(torch: Any, x: Any, size: Any, stride: Any, padding: Any) -> Any:
        return torch.nn.functional.max_pool2d(x, size, stride, padding)


class _Mean(_Pool):
    """Base of means of windows.

    Attributes:
        windows: a function of the shape of x and of the attributes, which gives the spans of the windows, and the number
            (OH, OW) that each sum is divided by.
    """

    int8 = "lower"
    windows: ClassVar[Callable[..., Windows]]

    @classmethod
    def forward(cls, ctx: Context, x: np.ndarray, **attrs: Any) -> np.ndarray:
        ctx.windows, ctx.hw = cls.windows(x.shape, **attrs), x.shape[2:]
        return pooling.avg_pool(x, *ctx.windows)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        rows, columns, divisor = ctx.windows
        return (pooling.avg_pool_grad(grad, rows, columns, divisor, ctx.hw),)

    @classmethod
    def bind(cls, out: np.ndarray, x: np.ndarray, **attrs: Any) -> Callable[[], object] | None:
        return pooling.bind_avg_pool(x, *cls.windows(x.shape, **attrs), out)

    @classmethod
    def lower(cls, operands: list[Operand], target: Target, attrs: dict[str, Any]) -> IntegerStep | None:
        """The multiplier scale_in / (scale_out * count) of each output pixel; equation (8)."""
        x = operands[0]
        rows, columns, divisor = cls.windows(x.shape, **attrs)
        if x.codec is None or (target.lo, target.hi) != (-128, 127) or divisor.max(initial=1) > pooling.MOST_PIXELS:
            return None
        real = np.float64(x.codec.scale) / (np.float64(target.codec.scale) * divisor)
        m, shift = fixed_point.multiplier(real)
        return IntegerStep("avg_pool", {"zero_in": x.codec.zero_point, "zero_point": target.codec.zero_point},
                       {"rows": rows.astype(np.int64), "columns": columns.astype(np.int64), "multiplier": m,
                        "shift": shift})


class AvgPool2d(_Mean):
    """Mean of each window of x (B, C, H, W): y (B, C, OH, OW) = sum of the window / size[0] * size[1].

    size, stride and padding are pairs, of rows and columns, OH as in MaxPool2d; padding counts as zeros, as in PyTorch.
    """

    name = "avg_pool2d"

    @staticmethod
    def windows(shape: Shape, size: Pair, stride: Pair, padding: Pair) -> Windows:
        rows, columns = _find_spans("avg_pool2d", shape, size, stride, padding)
        return rows, columns, np.full((len(rows), len(columns)), float(size[0] * size[1]))

    samples = staticmethod(MaxPool2d.samples)

    @staticmethod
    def parity(torch: Any, x: Any, size: Any, stride: Any, padding: Any) -> Any:
        return torch.nn.functional.avg_pool2d(x, size, stride, padding)


class AdaptiveAvgPool2d(_Mean):
    """Means of outputs[0] x outputs[1] windows that cover the images of x (B, C, H, W): y (B, C, *outputs).

    Window i of n along a dimension of H pixels goes from floor(i H / n) to ceil((i + 1) H / n), as in PyTorch.
    """

    name = "adaptive_avg_pool2d"

    @staticmethod
    def windows(shape: Shape, outputs: Pair) -> Windows:
        oh, ow = whole_numbers("adaptive_avg_pool2d", "outputs", outputs, 1)
        if len(shape) != 4 or min(shape[2:]) < 1:
            raise ShapeError(f"adaptive_avg_pool2d: expected input (B, C, H, W) with pixels, got {shape}")
        images = math.prod(n for n in shape[:2] if isinstance(n, int))
        # spans and divisors take some numbers for each row and column, and for each pixel of an image
        for needed in ((images, oh, ow), (8, oh, ow), (16, oh + ow)):
            checks.room("adaptive_avg_pool2d", "the result", needed)
        rows, columns = (adaptive_spans(n, o) for n, o in zip(shape[2:], (oh, ow)))
        return rows, columns, np.outer(rows[:, 1] - rows[:, 0], columns[:, 1] - columns[:, 0]).astype(float)

    @staticmethod
    def elements(x: tuple[int, ...], *, outputs: Pair) -> int:
        return math.prod(x[:2]) * math.prod(outputs)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 2, 3, 5, 4), outputs=(1, 1))
        yield sample(normal(rng, 2, 3, 5, 4), outputs=(3, 2))
        yield sample(normal(rng, 1, 2, 2, 3), outputs=(3, 3))

    @staticmethod
    def parity(torch: Any, x: Any, outputs: Any) -> Any:
        return torch.nn.functional.adaptive_avg_pool2d(x, outputs)
