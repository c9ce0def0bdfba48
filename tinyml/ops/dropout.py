"""Dropout."""

from __future__ import annotations

import numpy as np

from .op import Op, normal, sample


class Dropout(Op):
    """y = x * keep / (1 - p), keep a random mask drawn from `rng` (Srivastava et al. 2014)."""

    name = "dropout"

    @staticmethod
    def forward(ctx, x, *, p, rng):
        keep = rng.random(x.shape, dtype=np.float32) >= p
        ctx.factor = keep.astype(x.dtype) / x.dtype.type(1 - p) if p < 1 else np.zeros_like(x)
        return x * ctx.factor

    @staticmethod
    def backward(ctx, grad):
        return (grad * ctx.factor,)

    @staticmethod
    def samples(rng):
        yield sample(normal(rng, 3, 4), p=0.0, rng=_Fixed())
        yield sample(normal(rng, 3, 4), p=0.5, rng=_Fixed())

    @staticmethod
    def parity(torch, x, p, rng):
        keep = torch.from_numpy(rng.random(tuple(x.shape), dtype=np.float32) >= p)
        return x * keep / (1 - p)


class _Fixed:
    """Draws the same numbers at every call, so that a gradient check sees one mask."""

    def random(self, shape, dtype):
        return np.random.default_rng(7).random(shape, dtype=dtype)
