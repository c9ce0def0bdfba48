"""What a model does on data: its loss and accuracy, its outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from .batches import call, joined, mapped, pair, samples, unpack
from .errors import DtypeError, ShapeError
from .nn.mode import mode
from .nn.module import Module
from .tape import no_grad
from .tensor import Tensor

Loss = Callable[[Any, Any], Tensor]
Metric = Callable[[Any, Any], float]


def evaluate(model: Module, loader: Iterable, loss: Loss, metric: Metric | None = None) -> dict[str, float]:
    """{"loss", "accuracy", "count"} over `loader`, in evaluation mode, without gradients.

    Means over all samples, or over all target elements for class targets; only those have an accuracy. The classes are
    dimension 1 of the outputs, (B, C, ...), or what the loss says: the last of a language model's (B, T, V). With `metric`,
    "metric" is its mean. Outputs and targets that are tuples or dicts go to the loss as they are, and to `metric` with
    ndarrays in the place of Tensors.

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
            outputs = mapped(_floats, call(model, x))
            values, expected = mapped(_array, outputs), mapped(_array, y)
            total, count = total + loss_of(loss, outputs, y).item() * n, count + n
            single = isinstance(outputs, Tensor) and isinstance(y, Tensor)
            axis = class_axis(loss, values.shape, y.shape) if single and y.dtype.kind in "iu" else None
            if axis is not None:
                correct, scored = correct + int((values.argmax(axis) == y.data)[counts].sum()), scored + n
            if metric is not None:
                score += float(metric(values, expected)) * n
    if not count:
        raise ShapeError(f"evaluate: no batch with a target that counts came from the {type(loader).__name__}; a generator "
                         "gives its batches only once")
    accuracy = {"accuracy": correct / count} if scored == count else {}
    return {"loss": total / count, **accuracy, "count": count,
            **({} if metric is None else {"metric": score / count})}


def predict(model: Module, loader: Iterable) -> Any:
    """The outputs for all batches (inputs, targets) or inputs, one after the other, in evaluation mode.

    Of a model with several outputs each is an ndarray, in a tuple or dict as the model gives them.

    Raises:
        ShapeError: no batch, one array where batches are expected, or outputs of other forms in different batches.
        DtypeError: an output that is no Tensor.
    """
    if isinstance(loader, (Tensor, np.ndarray)):
        raise ShapeError(f"predict: expected batches, got one array of shape {loader.shape}; pass [inputs]")
    if isinstance(loader, Mapping):
        raise ShapeError("predict: expected batches, got one dict; pass [inputs]")
    with mode(model, training=False), no_grad():
        outputs = [mapped(_output, call(model, unpack("predict", batch)[0])) for batch in loader]
    if not outputs:
        raise ShapeError(f"predict: no batch came from the {type(loader).__name__}")
    return joined("predict", outputs)


def _floats(output: Any) -> Any:
    return output.dequantize() if isinstance(output, Tensor) else output


def _array(output: Any) -> Any:
    return output.numpy() if isinstance(output, Tensor) else output


def _output(output: Any) -> np.ndarray:
    if not isinstance(output, Tensor):
        raise DtypeError(f"predict: expected a Tensor, or a tuple or dict of them, from the model, got a "
                         f"{type(output).__name__}")
    return output.dequantize().numpy()


def loss_of(loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    """loss(outputs, targets); raises ShapeError unless that is a Tensor of one element."""
    value = loss(outputs, targets)
    if not isinstance(value, Tensor) or value.size != 1:
        raise ShapeError("Trainer: expected the loss function to return a Tensor of one element, got "
                         + (f"shape {value.shape}" if isinstance(value, Tensor) else type(value).__name__))
    return value


def counted(loss: Loss, targets: Any) -> np.ndarray:
    """Which targets the mean loss is over: class ids other than ignore_index, or samples."""
    if not isinstance(targets, Tensor) or targets.dtype.kind not in "iu":
        return np.ones(samples(targets), bool)
    return np.asarray(targets.data != ignored(loss))


def class_axis(loss: Loss | None, outputs: tuple[int, ...], targets: tuple[int, ...]) -> int | None:
    """The dimension of outputs of this shape that has the classes of the targets; None where there is none.

    It is 1, as in PyTorch, unless the loss says another. Where no loss is known it may be the last, if only that fits.
    """
    for axis in (1, -1) if loss is None else (getattr(loss, "class_axis", 1),):
        at = axis % max(len(outputs), 1)
        if len(outputs) > 1 and outputs[:at] + outputs[at + 1 :] == targets and outputs[at]:
            return at
    return None


def ignored(loss: Loss) -> int:
    """The class id that does not count."""
    return getattr(loss, "ignore_index", -100)      # cross_entropy's default
