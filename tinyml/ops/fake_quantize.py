"""Fake quantization: floats rounded to the numbers that int8 codes stand for, with a gradient to train through."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .._kernels.products import fixed_point
from .._kernels.rows import sums
from .._kernels.rows.pointwise import fake_quantize
from ..errors import ShapeError
from ..tape import Context
from .op import Gradients, Op, Sample, normal, sample


class FakeQuantize(Op):
    """Fake quantization: y = s (q - z) with q = clamp(rint(x / s) + z, lo, hi); equations (7) and (1).

    x of any shape; scale s () or, with one per index of the first dimension of x, (N); zero_point z, lo and hi are
    integers.

    The gradient to x is that of y where q is not clamped, and 0 where it is (straight through, Bengio et al. 2013). The
    gradient to s is q - z - x/s where q is not clamped, and q - z where it is, times that of y, summed over the n elements
    that s scales, and divided by sqrt(n Q), Q being the largest |q - z| (LSQ, Esser et al. 2020).

    Raises:
        ShapeError: scales of another shape; QuantizationError: a scale that is not positive and normal.
    """

    name = "fake_quantize"
    surrogate = True

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, scale: np.ndarray, *, zero_point: int = 0, lo: int = -128,
                hi: int = 127) -> np.ndarray:
        if scale.shape not in ((), x.shape[:1]):
            raise ShapeError(f"fake_quantize: expected a scale () or {x.shape[:1]} for input {x.shape}, got "
                             f"{scale.shape}")
        fixed_point.check_scale(scale, "fake_quantize")
        y, inside = fake_quantize(x, scale, zero_point, lo, hi)
        ctx.inside, ctx.scale_shape = inside, scale.shape
        if ctx.needs[1]:
            ctx.x, ctx.y, ctx.scale = x, y, scale
            ctx.factor = 1 / math.sqrt(max(x.size // max(scale.size, 1), 1) * max(hi - zero_point, zero_point - lo))
        return y

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        dx = grad * ctx.inside if ctx.needs[0] else None
        if not ctx.needs[1]:
            return dx, None
        per_row = ctx.scale.reshape(-1, *[1] * (ctx.x.ndim - 1)) if ctx.scale_shape else ctx.scale
        ds = grad * (ctx.y - np.where(ctx.inside, ctx.x, 0)) / per_row
        axes = tuple(range(1, ctx.x.ndim)) if ctx.scale_shape else None
        return dx, np.asarray(sums.total(ds, axes) * grad.dtype.type(ctx.factor))

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 40), np.array(0.01), zero_point=3, lo=-128, hi=127)
        yield sample(normal(rng, 2, 3, 4, 5), np.array(0.02), zero_point=-128, lo=-128, hi=127)
        yield sample(normal(rng, 4, 3, 2, 2), np.array([0.004, 0.1, 0.02, 1.0]), zero_point=0, lo=-127, hi=127)
        yield sample(normal(rng, 0, 3), np.array(1.0), zero_point=0, lo=-127, hi=127)

    @staticmethod
    def parity(torch: Any, x: Any, scale: Any, zero_point: Any, lo: Any, hi: Any) -> Any:
        factor = 1 / math.sqrt(max(x.numel() // scale.numel(), 1) * max(hi - zero_point, zero_point - lo))
        s = scale * factor + (scale - scale * factor).detach()
        s = s.reshape(-1, *[1] * (x.ndim - 1)) if scale.ndim else s
        ratio = x / s
        q = ratio + (torch.round(ratio) - ratio).detach() + zero_point
        return s * (torch.clamp(q, lo, hi) - zero_point)
