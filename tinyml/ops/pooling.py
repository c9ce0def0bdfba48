"""Pooling over windows of an image: largest, mean, and mean over a given number of windows."""

from __future__ import annotations

import math

import numpy as np

from .. import checks
from .._kernels.layout import nchw, nhwc
from .._kernels.products import fixed_point
from .._kernels.products.windows import MOST, Window, adaptive_spans, spans, whole_numbers
from .._kernels.rows import pooling
from .._kernels.rows.codes import to_signed, to_unsigned
from ..errors import ShapeError
from .op import IntegerStep, Op, normal, sample


def _spans(name: str, shape: tuple, size, stride, padding) -> tuple[np.ndarray, np.ndarray]:
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
    return tuple(spans(*d) for d in dimensions)


class MaxPool2d(Op):
    """y (B, C, OH, OW) = largest of each window; padding never wins."""

    name = "max_pool2d"
    int8 = "codes"

    @staticmethod
    def forward(ctx, x, *, size, stride, padding):
        rows, columns = _spans("max_pool2d", x.shape, size, stride, padding)
        if not ctx.needs[0]:
            return pooling.max_pool(x, rows, columns)
        if x.shape[2] * x.shape[3] > MOST:
            raise ShapeError(f"max_pool2d: expected images of at most {MOST} pixels where there is a gradient, got "
                             f"{x.shape}")
        y, ctx.at = pooling.max_pool_at(x, rows, columns)
        ctx.hw = x.shape[2:]
        return y

    @staticmethod
    def backward(ctx, grad):
        return (pooling.max_pool_grad(grad, ctx.at, ctx.hw),)

    @classmethod
    def codes(cls, u, *, size, stride, padding):
        rows, columns = _spans("max_pool2d", u.shape, size, stride, padding)
        if u.dtype == np.int8:
            return to_signed(cls.codes(to_unsigned(u), size=size, stride=stride, padding=padding))
        return nchw(pooling.max_pool_codes(nhwc(u), rows, columns))

    @staticmethod
    def samples(rng):
        yield sample(normal(rng, 2, 3, 4, 6), size=(2, 2), stride=(2, 2), padding=(0, 0))
        yield sample(normal(rng, 2, 2, 5, 7), size=(3, 3), stride=(2, 1), padding=(1, 1))
        yield sample(normal(rng, 0, 2, 4, 4), size=(2, 2), stride=(2, 2), padding=(0, 0))

    @staticmethod
    def parity(torch, x, size, stride, padding):
        return torch.nn.functional.max_pool2d(x, size, stride, padding)


def _lower_mean(operands, target, rows, columns, divisor):
    """Multiplier scale_in / (scale_out * count) for each output pixel; equation (8)."""
    x = operands[0]
    if x.codec is None or (target.lo, target.hi) != (-128, 127) or divisor.max(initial=1) > pooling.MOST_PIXELS:
        return None
    real = np.float64(x.codec.scale) / (np.float64(target.codec.scale) * divisor)
    m, shift = fixed_point.multiplier(real)
    return IntegerStep("avg_pool", {"zero_in": x.codec.zero_point, "zero_point": target.codec.zero_point},
                       {"rows": rows.astype(np.int64), "columns": columns.astype(np.int64),
                        "multiplier": m, "shift": shift})


class AvgPool2d(Op):
    """y (B, C, OH, OW) = sum of each window / number of its taps, padding counted as zeros (as PyTorch by default)."""

    name = "avg_pool2d"
    int8 = "lower"

    @staticmethod
    def windows(shape, size, stride, padding):
        rows, columns = _spans("avg_pool2d", shape, size, stride, padding)
        return rows, columns, np.full((len(rows), len(columns)), float(size[0] * size[1]))

    @staticmethod
    def forward(ctx, x, *, size, stride, padding):
        ctx.windows, ctx.hw = AvgPool2d.windows(x.shape, size, stride, padding), x.shape[2:]
        return pooling.avg_pool(x, *ctx.windows)

    @staticmethod
    def backward(ctx, grad):
        return (pooling.avg_pool_grad(grad, *ctx.windows, ctx.hw),)

    @classmethod
    def lower(cls, operands, target, attrs):
        return _lower_mean(operands, target, *cls.windows(operands[0].shape, **attrs))

    samples = staticmethod(MaxPool2d.samples)

    @staticmethod
    def parity(torch, x, size, stride, padding):
        return torch.nn.functional.avg_pool2d(x, size, stride, padding)


class AdaptiveAvgPool2d(Op):
    """y (B, C, *outputs): the image cut into outputs[0] x outputs[1] windows, the mean of each."""

    name = "adaptive_avg_pool2d"
    int8 = "lower"

    @staticmethod
    def windows(shape, outputs):
        outputs = whole_numbers("adaptive_avg_pool2d", "outputs", outputs, 1)
        if len(shape) != 4 or min(shape[2:]) < 1:
            raise ShapeError(f"adaptive_avg_pool2d: expected input (B, C, H, W) with pixels, got {shape}")
        images = math.prod(n for n in shape[:2] if isinstance(n, int))
        # spans and divisors take some numbers for each row and column, and for each pixel of an image
        for needed in ((images, *outputs), (8, *outputs), (16, sum(outputs))):
            checks.room("adaptive_avg_pool2d", "the result", needed)
        rows, columns = (adaptive_spans(n, o) for n, o in zip(shape[2:], outputs))
        return rows, columns, np.outer(rows[:, 1] - rows[:, 0], columns[:, 1] - columns[:, 0]).astype(float)

    @staticmethod
    def forward(ctx, x, *, outputs):
        ctx.windows, ctx.hw = AdaptiveAvgPool2d.windows(x.shape, outputs), x.shape[2:]
        return pooling.avg_pool(x, *ctx.windows)

    backward = staticmethod(AvgPool2d.backward)

    @classmethod
    def lower(cls, operands, target, attrs):
        return _lower_mean(operands, target, *cls.windows(operands[0].shape, **attrs))

    @staticmethod
    def samples(rng):
        yield sample(normal(rng, 2, 3, 5, 4), outputs=(1, 1))
        yield sample(normal(rng, 2, 3, 5, 4), outputs=(3, 2))
        yield sample(normal(rng, 1, 2, 2, 3), outputs=(3, 3))

    @staticmethod
    def parity(torch, x, outputs):
        return torch.nn.functional.adaptive_avg_pool2d(x, outputs)
