"""Losses: one number from predictions and targets."""

from __future__ import annotations

import numpy as np

from .._kernels import floats
from ..errors import ShapeError
from .op import Op, normal, sample


class CrossEntropy(Op):
    """Mean over the targets of -ln softmax(logits)[target], logits (..., C), targets (...) of class ids.

    With label smoothing e: (1 - e) of that plus e / C of the sum over all classes. Targets equal to `ignore_index` do not
    count; if none count, the loss is NaN, as in PyTorch.

    Raises:
        ShapeError: shapes do not fit, or a target is no class.
    """

    name = "cross_entropy"
    integer_operands = (1,)

    @staticmethod
    def forward(ctx, logits, targets, *, ignore_index=-100, label_smoothing=0.0):
        if logits.ndim < 2 or logits.shape[:-1] != targets.shape:
            raise ShapeError(f"cross_entropy: expected targets of shape {logits.shape[:-1]} for logits {logits.shape} "
                             f"(..., classes), got {targets.shape}")
        classes = logits.shape[-1]
        x, t = logits.reshape(targets.size, classes), targets.reshape(-1).astype(np.int64)
        counted = t != ignore_index
        wrong = counted & ((t < 0) | (t >= classes))
        if wrong.any():
            raise ShapeError(f"cross_entropy: expected targets in [0, {classes}) (or ignore_index {ignore_index}), got "
                             f"{t[wrong][0]} at position {int(wrong.argmax())}")
        ctx.t, ctx.n, ctx.smoothing, ctx.shape = np.where(counted, t, -1), int(counted.sum()), label_smoothing, logits.shape
        ctx.p, losses = floats.cross_entropy(x, ctx.t, label_smoothing)
        with np.errstate(invalid="ignore"):
            return np.asarray(losses.sum() / np.float64(ctx.n)).astype(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        d = floats.cross_entropy_grad(ctx.p, ctx.t, ctx.smoothing, float(grad) / max(ctx.n, 1))
        return d.reshape(ctx.shape), None

    @staticmethod
    def samples(rng):
        yield sample(normal(rng, 4, 5), np.array([0, 4, 2, 2]))
        yield sample(normal(rng, 2, 3, 5), np.array([[0, 4, -100], [2, 1, 1]]), label_smoothing=0.2)
        yield sample(normal(rng, 3, 4), np.array([3, 1, 3]), ignore_index=3)

    @staticmethod
    def parity(torch, logits, targets, **attrs):
        return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), **attrs)


class MSELoss(Op):
    """Mean of (x - target)^2 over all elements."""

    name = "mse_loss"

    @staticmethod
    def forward(ctx, x, target):
        if x.shape != target.shape or not x.size:
            raise ShapeError(f"mse_loss: expected two non-empty operands of one shape, got {x.shape} and {target.shape}")
        ctx.d = x - target
        return np.asarray(np.square(ctx.d).mean(dtype=np.float64)).astype(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        d = ctx.d * (2 * grad / ctx.d.size).astype(ctx.d.dtype)
        return d, -d

    @staticmethod
    def samples(rng):
        yield sample(normal(rng, 3, 4), normal(rng, 3, 4))

    @staticmethod
    def parity(torch, x, target):
        return torch.nn.functional.mse_loss(x, target)
