"""Losses: one number from predictions and targets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .._kernels.rows.pointwise import pointwise
from .._kernels.rows.softmax import cross_entropy, cross_entropy_grad
from ..errors import ShapeError
from ..tape import Context
from .op import Gradients, Op, Sample, broadcast, normal, sample


def _describe_misfit(logits: tuple[int, ...], expected: tuple[int, ...], got: tuple[int, ...]) -> str:
    """Say what is wrong with targets of shape `got`, and what to do where the classes are the last dimension."""
    hint = ""
    if got == logits[:-1]:
        order = ", ".join(map(str, [0, len(logits) - 1, *range(1, len(logits) - 1)]))
        hint = (f". The classes are dimension 1: if they are last here, pass logits.permute({order}), or all positions as "
                f"rows, logits.reshape(-1, {logits[-1]}) and targets.reshape(-1)")
    return f"cross_entropy: expected targets of shape {expected} for logits {logits}, got {got}{hint}"


class CrossEntropy(Op):
    """Mean over the targets of -ln softmax(logits)[target].

    logits (C,), (B, C) or (B, C, ...), the classes being dimension 1, as in PyTorch; targets (), (B,) or (B, ...), the
    numbers of classes.

    Attributes:
        label_smoothing: e, for (1 - e) of that plus e / C of the sum of -ln softmax(logits) over all classes.
        ignore_index: targets equal to it do not count. If none count, the loss is NaN, as in PyTorch.

    Raises:
        ShapeError: shapes do not fit, or a target is no class.
    """

    name = "cross_entropy"
    integer_operands = (1,)

    @staticmethod
    def forward(ctx: Context, logits: np.ndarray, targets: np.ndarray, *, ignore_index: int = -100,
                label_smoothing: float = 0.0) -> np.ndarray:
        if not logits.ndim:
            raise ShapeError("cross_entropy: expected logits (C,), (B, C) or (B, C, ...), got a single number")
        axis = min(logits.ndim, 2) - 1
        rows = logits if logits.ndim < 3 else np.moveaxis(logits, axis, -1)
        if rows.shape[:-1] != targets.shape:
            raise ShapeError(_describe_misfit(logits.shape, rows.shape[:-1], targets.shape))
        classes = logits.shape[axis]
        x, t = rows.reshape(targets.size, classes), targets.reshape(-1).astype(np.int64)
        counted = t != ignore_index
        wrong = counted & ((t < 0) | (t >= classes))
        if wrong.any():
            raise ShapeError(f"cross_entropy: expected targets in [0, {classes}) (or ignore_index {ignore_index}), got "
                             f"{t[wrong][0]} at position {int(wrong.argmax())}")
        ctx.t, ctx.n, ctx.smoothing, ctx.shape = np.where(counted, t, -1), int(counted.sum()), label_smoothing, rows.shape
        ctx.axis = axis
        ctx.x = x       # probabilities are computed again
        losses, ctx.rows = cross_entropy(x, ctx.t, label_smoothing)
        with np.errstate(invalid="ignore"):
            return np.asarray(losses.sum() / np.float64(ctx.n)).astype(x.dtype)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        d = cross_entropy_grad(ctx.x, ctx.t, ctx.smoothing, ctx.rows, float(grad) / max(ctx.n, 1))
        d = d.reshape(ctx.shape)
        return d if d.ndim < 3 else np.moveaxis(d, -1, ctx.axis), None

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 4, 5), np.array([0, 4, 2, 2]))
        yield sample(normal(rng, 2, 5, 3), np.array([[0, 4, -100], [2, 1, 1]]), label_smoothing=0.2)
        yield sample(normal(rng, 2, 3, 3, 1), np.array([[[0], [2], [1]], [[1], [1], [-100]]]))
        yield sample(normal(rng, 5), np.array(3))
        yield sample(normal(rng, 3, 4), np.array([3, 1, 3]), ignore_index=3)


class BCEWithLogits(Op):
    """Binary cross-entropy of logits: the mean of -w t ln p - (1 - t) ln(1 - p) with p = sigmoid(x).

    Logits x and targets t, from 0 to 1, of one shape; w, the weight of positive targets, broadcasts to x (one number per
    class, for example), and is 1 if it is absent. Computed as (1 - t) x + (1 + (w - 1) t) (max(-x, 0) + ln(1 + e^-|x|)), in
    which nothing overflows.

    Raises:
        ShapeError: shapes do not fit, or there are no elements.
    """

    name = "bce_with_logits"
    optional = (2,)

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, t: np.ndarray, pos_weight: np.ndarray | None) -> np.ndarray:
        if x.shape != t.shape or not x.size:
            raise ShapeError("bce_with_logits: expected non-empty logits and targets of one shape, got "
                             f"{x.shape} and {t.shape}")
        one = x.dtype.type(1)
        ctx.softplus = np.maximum(-x, 0) + np.log1p(np.exp(-np.abs(x)))       # ln(1 + e^-x) = -ln p
        ctx.x, ctx.t, ctx.pos_weight, ctx.weight = x, t, pos_weight, one
        if pos_weight is not None:
            ctx.weight = one + broadcast("bce_with_logits", np.multiply, pos_weight - one, t)
            if ctx.weight.shape != x.shape:
                raise ShapeError(f"bce_with_logits: expected pos_weight to broadcast to {x.shape}, got {pos_weight.shape}")
        loss = (one - t) * x + ctx.weight * ctx.softplus
        return np.asarray(loss.mean(dtype=np.float64)).astype(x.dtype)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        x, t, one = ctx.x, ctx.t, ctx.x.dtype.type(1)
        scale = (grad / x.size).astype(x.dtype)
        dx = dt = dw = None
        if ctx.needs[0]:
            dx = scale * (one - t - ctx.weight * pointwise("sigmoid", -x))
        if ctx.needs[1]:
            dt = scale * (-x if ctx.pos_weight is None else (ctx.pos_weight - one) * ctx.softplus - x)
        if ctx.needs[2]:
            dw = scale * t * ctx.softplus
        return dx, dt, dw

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 4), rng.random((3, 4)), None)
        yield sample(5 * normal(rng, 2, 3, 4), rng.random((2, 3, 4)), 1 + rng.random(4))
        yield sample(normal(rng, 5), rng.random(5), 2 * rng.random(1))

    @staticmethod
    def parity(torch: Any, x: Any, t: Any, pos_weight: Any) -> Any:
        f = torch.nn.functional
        if pos_weight is None:
            return f.binary_cross_entropy_with_logits(x, t)
        # which has no gradient to pos_weight
        return (-pos_weight * t * f.logsigmoid(x) - (1 - t) * f.logsigmoid(-x)).mean()


class MSELoss(Op):
    """Mean squared error: the mean of (x - target)^2 over all elements of x and target, of one shape.

    Raises:
        ShapeError: the shapes differ, or there are no elements.
    """

    name = "mse_loss"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, target: np.ndarray) -> np.ndarray:
        if x.shape != target.shape or not x.size:
            raise ShapeError(f"mse_loss: expected two non-empty operands of one shape, got {x.shape} and {target.shape}")
        ctx.d = x - target
        return np.asarray(np.square(ctx.d).mean(dtype=np.float64)).astype(x.dtype)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        d = ctx.d * (2 * grad / ctx.d.size).astype(ctx.d.dtype)
        return d, -d

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 4), normal(rng, 3, 4))
