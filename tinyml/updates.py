"""Update: the gradients of some batches, and a step of the optimizer along their mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import random
from .batches import call
from .errors import NonFiniteError
from .evaluation import call_loss
from .metrics import Loss, count_mask
from .nests import leaves
from .nn.finite import bad_element, first_non_finite
from .nn.module import Module
from .optim import Optimizer, Schedule, grad_norm
from .tensors import Tensor


class Update:
    """One update of `model` by `optimizer`: `add` its batches, then `step`.

    The gradient is that of the mean loss over all targets that count: each batch is weighted by how many it has, divided by
    those of the first. With as many in each, the weights are 1 and the sum is that of the gradients as they come.
    """

    def __init__(self, model: Module, optimizer: Optimizer, loss: Loss, schedule: Schedule | None, clip_norm: float | None,
                 buffers: list[Tensor]):
        self.model, self.optimizer, self.loss, self.schedule, self.clip_norm = model, optimizer, loss, schedule, clip_norm
        self.buffers = buffers              # the model's tensors that are no parameters
        self.batches = 0                    # added
        self.targets = self.first = 0       # that count: in all of them, and in the first that has any
        self.where = ""                     # the last of those, in words
        optimizer.zero_grad()

    def add(self, x: Any, y: Any, where: str) -> tuple[float, int]:
        """Add the gradient of a batch; its loss, and the number of its targets that count. One without any is passed over.

        Raises:
            NonFiniteError: the loss is not finite; buffers and tinyml.random are then as before the batch.
        """
        n = int(count_mask(self.loss, y).sum())
        self.batches, self.targets, self.first = self.batches + 1, self.targets + n, self.first or n
        if not n:
            return 0.0, 0
        self.where, self.undo = where, _undo(self.buffers)
        try:
            loss = call_loss(self.loss, call(self.model, x), y)
            value = loss.item()
            if not math.isfinite(value):
                self.undo()
                given = [(f"the batch's {what}{path}", t) for what, nest in (("inputs", x), ("targets", y))
                         for path, t in leaves(nest) if t is not None]
                culprit = first_non_finite(self.model, lambda: call_loss(self.loss, call(self.model, x), y), given)
                raise NonFiniteError(f"{where}: expected a finite loss, got {value}; the first to go bad: {culprit}")
            loss.backward(None if n == self.first else np.full(loss.shape, n / self.first))
        except NonFiniteError:
            self.undo()
            raise
        return value, n

    def step(self) -> bool:
        """Step along the mean; False, and no step, where no target counts.

        Raises:
            NonFiniteError: with clip_norm, a gradient is not finite; buffers and tinyml.random are as before the batch.
        """
        if not self.targets:
            return False
        scale = self.first / self.targets
        if self.clip_norm is not None:
            try:
                scale *= min(1.0, self.clip_norm / (grad_norm(self.optimizer.parameters) * scale + 1e-6))
            except NonFiniteError as error:
                self.undo()
                found = (f"that of {name}: {bad}" for name, p in self.model.named_parameters()
                         if p.grad is not None and (bad := bad_element(np.isfinite, p.grad.array)))
                culprit = next(found, str(error))       # the optimizer may hold parameters from outside the model
                raise NonFiniteError(f"{self.where}: expected finite gradients, got {culprit}") from error
        self.optimizer.step(scale)
        if self.schedule is not None:
            self.schedule.step()
        return True


def _undo(buffers: list[Tensor]) -> Callable[[], None]:
    """A function that puts buffers and tinyml.random back to what they are now."""
    generator, values = random.get_state(), [t.array.copy() for t in buffers]

    def undo() -> None:
        random.set_state(generator)
        for t, before in zip(buffers, values, strict=True):
            t.array[...] = before

    return undo
