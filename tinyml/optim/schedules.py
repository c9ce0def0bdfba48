"""Learning rate schedules: each sets its optimizer's `lr`, at once and after every step."""

from __future__ import annotations

import math
from typing import Any

from .. import checks
from ..errors import ShapeError
from .optimizer import Optimizer


class Schedule:
    """Base of schedules: a subclass defines `lr_at`. `step()` follows the optimizer's; `steps` counts the calls.

    Args:
        optimizer: whose `lr` is set.
        base_lr: what `lr_at` may scale; None: the optimizer's own lr.

    Raises:
        DtypeError: no Optimizer; ShapeError: a base_lr below 0.
    """

    def __init__(self, optimizer: Optimizer, base_lr: float | None = None):
        self.optimizer = checks.instance(type(self).__name__, "optimizer", optimizer, Optimizer)
        self.base_lr = optimizer.lr if base_lr is None else checks.number(type(self).__name__, "base_lr", base_lr, 0)
        self.steps = 0
        optimizer.lr = self.lr_at(0)

    def lr_at(self, step: int) -> float:
        """The learning rate after so many steps; subclasses define it.

        Args:
            step: how many.

        Raises:
            TypeError: the class does not define it.
        """
        raise TypeError(f"{type(self).__name__} defines no lr_at()")

    def step(self) -> None:
        """Set the learning rate of the next optimizer step."""
        self.optimizer.lr = self.lr_at(self.steps + 1)
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        """What steps change: "steps" and "base_lr"; the rest is the constructor's."""
        return {"steps": self.steps, "base_lr": self.base_lr}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Continue from a state, and set the optimizer's lr.

        Args:
            values: what `state_dict` of a schedule of the same class gave.

        Raises:
            ShapeError: other entries, or numbers out of range; DtypeError: an entry of another kind.
        """
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
    """lr (s + 1) / steps for the first `steps` steps s, from lr / steps to lr; then lr, the optimizer's own.

    Args:
        optimizer: whose `lr` is set.
        steps: of the warm-up.

    Raises:
        ShapeError, DtypeError: steps below 1, or no Optimizer.

    Example:
        >>> optimizer = optim.SGD([nn.Parameter([1.0])], lr=1.0)
        >>> schedule = optim.LinearWarmup(optimizer, steps=3)
        >>> lrs = []
        >>> for _ in range(4):
        ...     lrs.append(round(optimizer.lr, 4))
        ...     optimizer.step()
        ...     schedule.step()
        >>> lrs
        [0.3333, 0.6667, 1.0, 1.0]
    """

    def __init__(self, optimizer: Optimizer, steps: int):
        self.warmup_steps = checks.whole("LinearWarmup", "steps", steps, 1)
        super().__init__(optimizer)

    def lr_at(self, step: int) -> float:
        return self.base_lr * min((step + 1) / self.warmup_steps, 1.0)


class CosineAnnealingLR(Schedule):
    """Warm-up from lr / warmup_steps to lr, then half a cosine down to min_lr, and min_lr from total_steps on.

    lr is the optimizer's own (Loshchilov & Hutter 2017; the warm-up as in nanoGPT).

    Args:
        optimizer: whose `lr` is set.
        total_steps: where the cosine ends.
        min_lr: the learning rate from there on, at most lr.
        warmup_steps: of the warm-up, fewer than total_steps.

    Raises:
        ShapeError, DtypeError: numbers out of range, or no Optimizer.

    Example:
        >>> optimizer = optim.SGD([nn.Parameter([1.0])], lr=1.0)
        >>> schedule = optim.CosineAnnealingLR(optimizer, total_steps=3)
        >>> lrs = []
        >>> for _ in range(4):
        ...     lrs.append(round(optimizer.lr, 4))
        ...     optimizer.step()
        ...     schedule.step()
        >>> lrs
        [1.0, 0.75, 0.25, 0.0]
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
    left alone (Smith & Topin 2019).

    Args:
        optimizer: whose `lr` is set.
        max_lr: the peak.
        total_steps: where it ends; a later step is an error.
        pct_start: the share of the steps before the peak.
        div_factor: max_lr / div_factor is the first learning rate.
        final_div_factor: the first learning rate / final_div_factor is the last.

    Raises:
        ShapeError, DtypeError: numbers out of range, or no Optimizer.

    Example:
        >>> optimizer = optim.SGD([nn.Parameter([1.0])], lr=1.0)
        >>> schedule = optim.OneCycleLR(optimizer, max_lr=1.0, total_steps=4, pct_start=0.5)
        >>> lrs = []
        >>> for _ in range(4):
        ...     lrs.append(round(optimizer.lr, 4))
        ...     optimizer.step()
        ...     schedule.step()
        >>> lrs
        [0.04, 1.0, 0.5, 0.0]
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
