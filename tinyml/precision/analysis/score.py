"""Score: one number for how well a model does on data, and how much of it another form of the model loses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...errors import ShapeError
from ...nn.module import Module
from ...tape import no_grad
from ...tensor import INTEGERS, Tensor
from ..ranges.calibration import Arrays, again, arrays_of
from .paired import IGNORED, classes_last, cross_entropies, squared_errors


class Score:
    """The figure of a float model on data, to hold its int8 forms against.

    metric: "accuracy" where the data have a class for each sample; "loss" (cross entropy) where they have a class for each
    position of a sequence, and (mean squared error) where targets are floats; "agreement" with the float model's own
    predictions where there are no targets.

    Raises:
        ShapeError: no data, or a target that does not fit.
    """

    def __init__(self, model: Module, data: Any):
        self.batches: list[tuple[Arrays, np.ndarray | None]] = [
            (arrays_of("score", inputs, model), _targets(y)) for inputs, y in again("score", data)]
        if not self.batches:
            raise ShapeError("score: expected at least one batch of data, got none")
        self._loss = model.default_loss
        self.float_outputs = [self._output(model, inputs) for inputs in self.inputs]
        targets = self.batches[0][1]
        if any((y is None) is not (targets is None) for _, y in self.batches):
            raise ShapeError("score: expected targets in all batches, or in none")
        self.metric = ("agreement" if targets is None else
                       "accuracy" if targets.dtype in INTEGERS and targets.ndim == 1 else "loss")
        self.float_value = self._value(self.float_outputs)

    @property
    def inputs(self) -> Iterator[Arrays]:
        """The model inputs of each batch."""
        return (inputs for inputs, _ in self.batches)

    @staticmethod
    def _output(model: Module, inputs: Arrays) -> np.ndarray:
        with no_grad():
            out = model(*(Tensor(x) for x in inputs))
        if not isinstance(out, Tensor):
            raise ShapeError(f"score: expected a single output of shape (batch, ...), got a {type(out).__name__}")
        return out.data

    def value(self, model: Module) -> float:
        """The metric of another form of the model, in evaluation mode: a share for accuracy and agreement."""
        return self._value([self._output(model, inputs) for inputs in self.inputs])

    def _value(self, outputs: list[np.ndarray]) -> float:
        total, count = 0.0, 0
        for out, floats, (_, y) in zip(outputs, self.float_outputs, self.batches, strict=True):
            if y is None or y.dtype in INTEGERS:
                out, floats = classes_last(self._loss, [out, floats], y)
            if self.metric == "agreement":
                scores = out.argmax(axis=-1) == floats.argmax(axis=-1)
            elif y.dtype in INTEGERS:
                counted = y != IGNORED
                losses = cross_entropies(out, y.astype(np.int64), counted)      # refuses targets that do not fit
                scores = (losses if self.metric == "loss" else out.argmax(axis=-1) == y)[counted]
            else:
                scores = squared_errors(out, y)
            total, count = total + float(scores.sum()), count + scores.size
        if not count:
            raise ShapeError("score: expected at least one target that counts, got none")
        return total / count

    def drop(self, value: float) -> float:
        """What `value` loses against the float model: points of accuracy or agreement, or of loss what it is higher."""
        return value - self.float_value if self.metric == "loss" else 100 * (self.float_value - value)


def _targets(y: Any) -> np.ndarray | None:
    if y is not None and not isinstance(y, Tensor):
        raise ShapeError(f"score: expected one array of targets, got a {type(y).__name__} of several")
    return None if y is None else y.data
