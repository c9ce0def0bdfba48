"""Score: the metric of a model on data, and how much of it another form of the model loses."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...batches import keep_batches, order_arrays
from ...errors import ShapeError
from ...evaluation import run_models
from ...metrics import output_array, score_targets, target_kind
from ...nn.module import Module
from ...tensors import Tensor


class Score:
    """The metric of a float model on data, with which its int8 forms are compared.

    Args:
        model: the float model.
        data: batches of inputs or of (inputs, targets).

    Attributes:
        metric: "accuracy" if the data have a class for each sample; "loss" if they have a class for each position of a
            sequence (cross entropy) or float targets (mean squared error); "agreement" with the float model's own
            predictions if they have no targets.
        inputs: the model inputs of each batch, ndarrays in the order of forward's arguments.

    Raises:
        ShapeError: there are no data, or a target does not fit.
    """

    def __init__(self, model: Module, data: Any):
        kept = keep_batches("score", data)
        if not kept:
            raise ShapeError("score: expected at least one batch of data, got none")
        self.inputs = [order_arrays("score", model, inputs) for inputs, _ in kept]
        self.targets = [targets for _, targets in kept]
        kinds = sorted({target_kind("score", targets) for targets in self.targets})
        if len(kinds) > 1:
            raise ShapeError(f"score: expected all batches to be alike, got {' and '.join(kinds)}")
        self.metric = ("agreement" if kinds == ["no targets"] else
                       "accuracy" if kinds == ["class targets"] and self.targets[0].ndim == 1 else "loss")
        self._loss, self._float_outputs = model.default_loss, self._run(model)
        self.float_value = self._mean(self._float_outputs)

    def _run(self, model: Module) -> list[np.ndarray]:
        """The model's output for each batch."""
        batches = zip((tuple(map(Tensor, inputs)) for inputs in self.inputs), self.targets)
        with run_models([model], batches) as run:
            return [output_array("score", result) for _, (result,), _ in run]

    def _mean(self, outputs: list[np.ndarray]) -> float:
        """The metric of a model with these outputs."""
        total, count = 0.0, 0
        for output, floats, targets in zip(outputs, self._float_outputs, self.targets, strict=True):
            scores = score_targets("score", self._loss, [output] if targets is not None else [output, floats], targets)
            if self.metric == "agreement":
                figures = scores.classes[0] == scores.classes[1]
            else:
                figures = scores.select((scores.right if self.metric == "accuracy" else scores.losses)[0])
            total, count = total + float(figures.sum()), count + figures.size
        if not count:
            raise ShapeError("score: expected at least one target that counts, got none")
        return total / count

    def value(self, model: Module) -> float:
        """The metric of another form of the model, in evaluation mode: a share for accuracy and agreement."""
        return self._mean(self._run(model))

    def drop(self, value: float) -> float:
        """How much worse `value` is than that of the float model: points of accuracy or agreement, or increase of loss."""
        return value - self.float_value if self.metric == "loss" else 100 * (self.float_value - value)
