"""Models over data in evaluation mode: the one loop that does so, and what it gives: loss, accuracy, outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .batches import call, read_batches
from .errors import DtypeError, ShapeError
from .metrics import Loss, count_mask, mark_right
from .nests import join, map_arrays
from .nn.mode import mode
from .nn.module import Module
from .tape import no_grad
from .tensors import Tensor

Metric = Callable[[Any, Any], float]


@contextmanager
def run_models(models: Sequence[Module],
               batches: Iterable[tuple[Any, Any]]) -> Iterator[Iterator[tuple[Any, list[Any], Any]]]:
    """Within it, iterate over (inputs, outputs, targets) of each batch, with one item of `outputs` per model.

    All models see the same pass over `batches`, which `read_batches` gives. Within it the models are in evaluation mode and
    no gradients are noted.
    """
    with mode(*models, training=False), no_grad():
        yield ((inputs, [call(model, inputs) for model in models], targets) for inputs, targets in batches)


def evaluate(model: Module, loader: Iterable[Any], loss: Loss, metric: Metric | None = None) -> dict[str, float]:
    """The mean loss, the accuracy and the number of targets over `loader`, in evaluation mode and without gradients.

    Means are over all samples, or for class targets over all elements that count; only class targets have an accuracy. The
    classes are dimension 1 of the outputs (B, C, ...), or what the loss says: the last dimension of a language model's
    (B, T, V).

    Args:
        loader: Batches (inputs, targets).
        loss: loss(outputs, targets) gives the mean over a batch. Outputs and targets that are tuples or dicts are passed as
            they are.
        metric: metric(outputs, targets) gives a number per batch, from ndarrays in the place of Tensors.

    Returns:
        {"loss", "count"}, with class targets "accuracy" (0 to 1), and with `metric` "metric", its mean.

    Raises:
        ShapeError: No batch came, no target counts, or a batch is no pair.

    Example:
        >>> import numpy as np
        >>> from tinyml import nn
        >>> logits, classes = np.float32([[0, 0], [0, 9]]), np.array([0, 1])
        >>> found = evaluate(nn.Sequential(), [(logits, classes)], nn.CrossEntropyLoss())
        >>> round(found["loss"], 4), found["accuracy"], found["count"]
        (0.3466, 1.0, 2)
    """
    total, correct, score, count, scored = 0.0, 0, 0.0, 0, 0
    # a batch in which no target counts is passed over: the mean over none is NaN
    batches = ((x, y) for x, y in read_batches("evaluate", loader, paired=True) if count_mask(loss, y).any())
    with run_models([model], batches) as run:
        for _, (result,), y in run:
            counted = count_mask(loss, y)
            n, outputs = int(counted.sum()), map_arrays(_dequantize, result)
            values, expected = map_arrays(_to_array, outputs), map_arrays(_to_array, y)
            total, count = total + call_loss(loss, outputs, y).item() * n, count + n
            right = mark_right(loss, values, y.array) if isinstance(outputs, Tensor) and isinstance(y, Tensor) else None
            if right is not None:
                correct, scored = correct + int(right[counted].sum()), scored + n
            if metric is not None:
                score += float(metric(values, expected)) * n
    if not count:
        raise ShapeError(f"evaluate: no batch with a target that counts came from the {type(loader).__name__}; a generator "
                         "gives its batches only once")
    accuracy = {"accuracy": correct / count} if scored == count else {}
    return {"loss": total / count, **accuracy, "count": count, **({} if metric is None else {"metric": score / count})}


def predict(model: Module, loader: Iterable[Any]) -> Any:
    """The outputs for all batches in one array, in evaluation mode and without gradients.

    Args:
        loader: Batches (inputs, targets), or of inputs alone.

    Returns:
        An ndarray (N, ...) of N samples; of a model with several outputs a tuple or dict of them, as the model gives it.

    Raises:
        ShapeError: No batch came, `loader` is one array, or outputs have other forms in different batches.
        DtypeError: An output is no Tensor.

    Example:
        >>> import numpy as np
        >>> from tinyml import nn
        >>> predict(nn.ReLU(), [np.float32([[-1, 2]]), np.float32([[3, -4]])]).tolist()
        [[0.0, 2.0], [3.0, 0.0]]
    """
    if isinstance(loader, (Tensor, np.ndarray, Mapping)):
        got = "dict" if isinstance(loader, Mapping) else f"array of shape {loader.shape}"
        raise ShapeError(f"predict: expected batches, got one {got}; pass [inputs]")
    with run_models([model], read_batches("predict", loader)) as run:
        outputs = [map_arrays(_output, result) for _, (result,), _ in run]
    if not outputs:
        raise ShapeError(f"predict: no batch came from the {type(loader).__name__}")
    return join("predict", outputs)


def _dequantize(output: Any) -> Any:
    return output.dequantize() if isinstance(output, Tensor) else output


def _to_array(output: Any) -> Any:
    return output.numpy() if isinstance(output, Tensor) else output


def _output(output: Any) -> np.ndarray:
    if not isinstance(output, Tensor):
        raise DtypeError(f"predict: expected a Tensor, or a tuple or dict of them, from the model, got a "
                         f"{type(output).__name__}")
    return output.dequantize().numpy()


def call_loss(loss: Loss, outputs: Any, targets: Any) -> Tensor:
    """loss(outputs, targets).

    Raises:
        ShapeError: The loss gives anything but a Tensor of one element.
    """
    value = loss(outputs, targets)
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise ShapeError("Trainer: expected the loss function to return a Tensor of one element, got "
                         + (f"shape {value.shape}" if isinstance(value, Tensor) else type(value).__name__))
    return value
