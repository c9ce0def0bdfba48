"""Fake quantization: floats rounded to what int8 codes would stand for, with a gradient to train through."""

from __future__ import annotations

import math

import numpy as np

from .._kernels.products import fixed_point
from .._kernels.rows import sums
from .._kernels.rows.pointwise import fake_quantize
from ..errors import ShapeError
from .op import Op, normal, sample


class FakeQuantize(Op):
    """y = s (q - z), q = clamp(rint(x / s) + z, lo, hi): quantized by equation (7) and dequantized by (1).

    x: any shape; scale s: () or, one an index of x's first dimension, (N); zero_point z and the rails lo, hi: integers.
    Gradients: to x that of y where q is not clamped, 0 where it is (straight through, Bengio et al. 2013); to s, summed
    over what it scales and divided by sqrt(n Q), n the number of those elements and Q the largest |q - z|:
    q - z - x/s where q is not clamped, q - z where it is (LSQ, Esser et al. 2020).
    Raises ShapeError for scales of another shape, QuantizationError for one that is not positive and normal.
    """

    name = "fake_quantize"
    surrogate = True

    @staticmethod
    def forward(ctx, x, scale, *, zero_point=0, lo=-128, hi=127):
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
    def backward(ctx, grad):
        dx = grad * ctx.inside if ctx.needs[0] else None
        if not ctx.needs[1]:
            return dx, None
        per_row = ctx.scale.reshape(-1, *[1] * (ctx.x.ndim - 1)) if ctx.scale_shape else ctx.scale
        ds = grad * (ctx.y - np.where(ctx.inside, ctx.x, 0)) / per_row
        axes = tuple(range(1, ctx.x.ndim)) if ctx.scale_shape else None
        return dx, np.asarray(sums.total(ds, axes) * grad.dtype.type(ctx.factor))

    @staticmethod
    def samples(rng):
        yield sample(normal(rng, 3, 40), np.array(0.01), zero_point=3, lo=-128, hi=127)
        yield sample(normal(rng, 2, 3, 4, 5), np.array(0.02), zero_point=-128, lo=-128, hi=127)
        yield sample(normal(rng, 4, 3, 2, 2), np.array([0.004, 0.1, 0.02, 1.0]), zero_point=0, lo=-127, hi=127)
        yield sample(normal(rng, 0, 3), np.array(1.0), zero_point=0, lo=-127, hi=127)

    @staticmethod
    def parity(torch, x, scale, zero_point, lo, hi):
        factor = 1 / math.sqrt(max(x.numel() // scale.numel(), 1) * max(hi - zero_point, zero_point - lo))
        s = scale * factor + (scale - scale * factor).detach()
        s = s.reshape(-1, *[1] * (x.ndim - 1)) if scale.ndim else s
        ratio = x / s
        q = ratio + (torch.round(ratio) - ratio).detach() + zero_point
        return s * (torch.clamp(q, lo, hi) - zero_point)
