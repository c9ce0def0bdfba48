"""What a model does on data: its loss and accuracy, its outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .errors import ShapeError
from .nn.mode import mode
from .nn.module import Module
from .tape import no_grad
from .tensor import Tensor, as_tensor

Loss = Callable[[Any, Any], Tensor]
Metric = Callable[[np.ndarray, np.ndarray], float]


def evaluate(model: Module, loader: Iterable, loss: Loss, metric: Metric | None = None) -> dict[str, float]:
    """{"loss", "accuracy", "count"} over `loader`, in evaluation mode, without gradients.

    Means over all samples, or over all target elements for class targets (B,) or (B, T) of logits (..., C);
    only those have an accuracy. With `metric`, "metric" is its mean.

    Raises:
        ShapeError: no batch, or batches that are no pairs.
    """
    total, correct, score, count, scored = 0.0, 0, 0.0, 0, 0
    with mode(model, training=False), no_grad():
        for batch in loader:
            x, y = pair("evaluate", batch)
            counts = counted(loss, y)
            n = int(counts.sum())
            if not n:
                continue        # the mean over none is NaN
            outputs = model(x).dequantize()
            values = outputs.numpy()
            total, count = total + loss_of(loss, outputs, y).item() * n, count + n
            if y.dtype.kind in "iu" and values.shape[:-1] == y.shape:
                correct, scored = correct + int((values.argmax(-1) == y.data)[counts].sum()), scored + n
            if metric is not None:
                score += float(metric(values, y.numpy())) * n
    if not count:
        raise ShapeError(f"evaluate: no batch with a target that counts came from the {type(loader).__name__}")
    accuracy = {"accuracy": correct / count} if scored == count else {}
    return {"loss": total / count, **accuracy, "count": count,
            **({} if metric is None else {"metric": score / count})}


def predict(model: Module, loader: Iterable) -> np.ndarray:
    """The outputs for all batches (inputs, targets) or inputs, one after the other, in evaluation mode.

    Raises:
        ShapeError: no batch, or one array where batches are expected.
    """
    if isinstance(loader, (Tensor, np.ndarray)):
        raise ShapeError(f"predict: expected batches, got one array of shape {loader.shape}; pass [inputs]")
    with mode(model, training=False), no_grad():
        outputs = [model(as_tensor(b) if isinstance(b, (Tensor, np.ndarray)) else pair("predict", b)[0]) for b in loader]
    if not outputs:
        raise ShapeError(f"predict: no batch came from the {type(loader).__name__}")
    return np.concatenate([y.dequantize().numpy() for y in outputs])



def pair(what: str, batch: Any) -> tuple[Tensor, Tensor]:
    """Inputs and targets of a batch; raises ShapeError, naming `what`, for all else."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise ShapeError(f"{what}: expected batches (inputs, targets), got {type(batch).__name__}"
                         + (f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""))
    return as_tensor(batch[0]), as_tensor(batch[1])


def loss_of(loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    """loss(outputs, targets); raises ShapeError unless that is a Tensor of one element."""
    value = loss(outputs, targets)
    if not isinstance(value, Tensor) or value.size != 1:
        raise ShapeError("Trainer: expected the loss function to return a Tensor of one element, got "
                         + (f"shape {value.shape}" if isinstance(value, Tensor) else type(value).__name__))
    return value


def counted(loss: Loss, targets: Tensor) -> np.ndarray:
    """Which targets the mean loss is over: class ids other than ignore_index, or samples."""
    if targets.dtype.kind not in "iu":
        return np.ones(len(targets), bool)
    return targets.data != getattr(loss, "ignore_index", -100)      # -100 is cross_entropy's default
