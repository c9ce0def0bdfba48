"""Learning rate schedules: each sets its optimizer's `lr`, at once and after every step."""

from __future__ import annotations

import math
from typing import Any

from .. import checks
from ..errors import ShapeError
from .optimizers import Optimizer


class Schedule:
    """Base of schedules: define `lr_at`. `step()` follows the optimizer's; `steps` counts the calls.

    base_lr None is the optimizer's own lr. Raises DtypeError unless `optimizer` is an Optimizer.
    """

    def __init__(self, optimizer: Optimizer, base_lr: float | None = None):
        self.optimizer = checks.instance(type(self).__name__, "optimizer", optimizer, Optimizer)
        self.base_lr = optimizer.lr if base_lr is None else checks.number(type(self).__name__, "base_lr", base_lr, 0)
        self.steps = 0
        optimizer.lr = self.lr_at(0)

    def lr_at(self, step: int) -> float:
        """The learning rate after `step` steps; subclasses define it."""
        raise TypeError(f"{type(self).__name__} defines no lr_at()")

    def step(self) -> None:
        """Set the learning rate of the next optimizer step."""
        self.optimizer.lr = self.lr_at(self.steps + 1)
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        """"steps" and "base_lr"; the rest is the constructor's."""
        return {"steps": self.steps, "base_lr": self.base_lr}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave, and set the optimizer's lr. Raises ShapeError for other entries."""
        name = f"load_state_dict of {type(self).__name__}"
        if set(checks.instance(name, "the state", values, dict)) != {"steps", "base_lr"}:
            raise ShapeError(f"{name}: expected steps and base_lr, got {', '.join(map(str, values)) or 'nothing'}")
        steps = checks.whole(name, "steps", values["steps"])
        self.base_lr = checks.number(name, "base_lr", values["base_lr"], 0)
        self.optimizer.lr = self.lr_at(steps)
        self.steps = steps


def _cosine(start: float, end: float, part: float) -> float:
    """Half a cosine from start (part 0) to end (part 1)."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * part))


class LinearWarmup(Schedule):
    """lr (s + 1) / steps for the first `steps` steps s, from lr / steps to lr; then lr, the optimizer's own."""

    def __init__(self, optimizer: Optimizer, steps: int):
        self.warmup_steps = checks.whole("LinearWarmup", "steps", steps, 1)
        super().__init__(optimizer)

    def lr_at(self, step: int) -> float:
        return self.base_lr * min((step + 1) / self.warmup_steps, 1.0)


class CosineAnnealingLR(Schedule):
    """Warm-up from lr / warmup_steps to lr, then half a cosine down to min_lr, and min_lr from total_steps on.

    lr is the optimizer's own (Loshchilov & Hutter 2017; the warm-up as in nanoGPT).
    Raises ShapeError unless 0 <= warmup_steps < total_steps and 0 <= min_lr <= lr.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, min_lr: float = 0.0, warmup_steps: int = 0):
        checks.instance("CosineAnnealingLR", "optimizer", optimizer, Optimizer)
        self.total_steps = checks.whole("CosineAnnealingLR", "total_steps", total_steps, 1)
        self.warmup_steps = checks.whole("CosineAnnealingLR", "warmup_steps", warmup_steps)
        self.min_lr = checks.number("CosineAnnealingLR", "min_lr", min_lr, 0)
        if self.warmup_steps >= self.total_steps:
            raise ShapeError(f"CosineAnnealingLR: expected warmup_steps below total_steps, got {warmup_steps} and "
                             f"{total_steps}")
        if self.min_lr > optimizer.lr:
            raise ShapeError(f"CosineAnnealingLR: expected min_lr of at most the optimizer's lr {optimizer.lr}, got "
                             f"{min_lr}")
        super().__init__(optimizer)

    def lr_at(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.base_lr * (step + 1) / self.warmup_steps
        if step >= self.total_steps:
            return self.min_lr
        return _cosine(self.base_lr, self.min_lr, (step - self.warmup_steps) / (self.total_steps - self.warmup_steps))


class OneCycleLR(Schedule):
    """Half a cosine up from max_lr / div_factor to max_lr, another down to max_lr / div_factor / final_div_factor.

    The peak is at step pct_start * total_steps - 1, the end at total_steps - 1; PyTorch's OneCycleLR with the momentum
    left alone (Smith & Topin 2019). Raises ShapeError for numbers out of range and for a step past total_steps.
    """

    def __init__(self, optimizer: Optimizer, max_lr: float, total_steps: int, pct_start: float = 0.3,
                 div_factor: float = 25.0, final_div_factor: float = 1e4):
        self.total_steps = checks.whole("OneCycleLR", "total_steps", total_steps, 1)
        self.pct_start = checks.number("OneCycleLR", "pct_start", pct_start, 0, below=1)
        self.div_factor = checks.number("OneCycleLR", "div_factor", div_factor, above=0)
        self.final_div_factor = checks.number("OneCycleLR", "final_div_factor", final_div_factor, above=0)
        super().__init__(optimizer, checks.number("OneCycleLR", "max_lr", max_lr, 0))

    def lr_at(self, step: int) -> float:
        if step > self.total_steps:
            raise ShapeError(f"OneCycleLR: expected at most total_steps = {self.total_steps} steps, got step {step}")
        first = self.base_lr / self.div_factor
        peak, end = self.pct_start * self.total_steps - 1, self.total_steps - 1
        if peak > 0 and step <= peak:
            return _cosine(first, self.base_lr, step / peak)
        return _cosine(self.base_lr, first / self.final_div_factor, (step - peak) / (end - peak))
