"""Dropout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .._kernels.layout import nchw, nhwc
from .._kernels.rows.dropout import dropout
from ..tape import Context
from .op import Gradients, Op, Sample, normal, sample


class Dropout(Op):
    """Dropout: y = x / (1 - p) where an element is kept, which has the probability 1 - p, else 0 (Srivastava et al. 2014).

    x of any shape. Which elements are kept follows from `key` (64 bits) and their place in memory alone, so backward
    computes the mask again and keeps none; see _kernels/words/philox.h.
    """

    name = "dropout"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, *, p: float, key: int) -> np.ndarray:
        y = dropout(x, key, p)
        ctx.p, ctx.key, ctx.nhwc = p, key, y.ndim == 4 and not y.flags.c_contiguous
        return y

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        # in the memory order of the result, by which elements have their places
        grad = nchw(nhwc(grad)) if ctx.nhwc else np.ascontiguousarray(grad)
        return (dropout(grad, ctx.key, ctx.p),)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 4), p=0.0, key=1)
        yield sample(normal(rng, 3, 40), p=0.5, key=2**64 - 3)
        yield sample(normal(rng, 3, 4), p=1.0, key=1)

    @staticmethod
    def parity(torch: Any, x: Any, p: Any, key: Any) -> Any:
        return x * torch.from_numpy(dropout(np.ones(tuple(x.shape)), key, p)).to(x.dtype)
