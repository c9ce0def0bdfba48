"""What every optimizer is: parameters, the arrays kept for each, and a step that one kernel makes over all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from .. import checks
from .._kernels.dispatch import kernels_for, threads_for
from ..engine import note_change
from ..errors import ShapeError
from ..tensors import Tensor
from .parameters import checked_parameters


@dataclass
class Step:
    """What one step updates: all N parameters of a dtype that have a gradient."""

    p: list[np.ndarray]         # elements of each parameter, flat, to be changed in place
    g: list[np.ndarray]         # its gradient, flat, to be multiplied by ...
    scale: float
    slots: list[np.ndarray]     # one flat array a slot, of all parameters ...
    at: np.ndarray              # [N] ... and where the part of each begins
    t: np.ndarray               # [N] steps of each parameter, this one included: float64
    decay: np.ndarray           # [N] weight decay of each: float64
    kernels: SimpleNamespace | ModuleType
    threads: int

    def array(self, values: np.ndarray) -> np.ndarray:
        """`values` [N] in the parameters' dtype."""
        return values.astype(self.p[0].dtype)


class _Store:
    """The parameters of one dtype, and their slots: one array a slot, so that large pages hold it. Parameters stay where
    they are; moving them into one array as well gained nothing measurable."""

    def __init__(self, dtype: np.dtype[Any], members: list[int], sizes: list[int]):
        self.dtype, self.members, self.sizes = dtype, members, dict(zip(members, sizes, strict=True))
        ends = np.cumsum(sizes, dtype=np.intp)
        self.at = dict(zip(members, (ends - sizes).tolist(), strict=True))
        self.total = int(ends[-1])
        self.slots: dict[str, np.ndarray] = {}

    def whole(self, slot: str) -> np.ndarray:
        """A slot of all parameters; zeros at first, which take no memory until they are written."""
        if slot not in self.slots:
            self.slots[slot] = np.zeros(self.total, self.dtype)
        return self.slots[slot]

    def part(self, slot: str, i: int) -> np.ndarray:
        """A slot of parameter i, flat."""
        return self.whole(slot)[self.at[i] : self.at[i] + self.sizes[i]]


def in_place(a: np.ndarray, dtype: np.dtype[Any]) -> bool:
    """Whether kernels can take the memory of `a` as it is."""
    return a.dtype == dtype and a.flags.carray


def flat(a: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """The elements of `a` in C order: its own memory, or else a copy that kernels can take."""
    return a.reshape(-1) if in_place(a, dtype) else np.array(a, dtype, order="C").reshape(-1)


class Optimizer:
    """Base of optimizers: a subclass defines `slots`, the names of the arrays kept for each parameter, and `update`.

    A subclass with weight decay sets `weight_decay`; Parameters made with decay=False are exempt. `lr` may be set at any
    time, and is what the next step uses. A parameter without a gradient is left alone.

    Args:
        parameters: the Parameters to update, as `model.parameters()` gives them.
        lr: learning rate.

    Raises:
        ShapeError: no or repeated parameters, or a number out of range.
        DtypeError: what is no Parameter of float32 or float64.
    """

    slots: tuple[str, ...] = ()
    weight_decay = 0.0

    def __init__(self, parameters: Iterable[Tensor], lr: float):
        self.parameters = checked_parameters(type(self).__name__, parameters)
        self.lr = checks.number(type(self).__name__, "lr", lr, 0)
        self.updates = [0] * len(self.parameters)       # how often each was updated
        self._steps = [f"{type(self).__name__}.step, parameter {i}" for i in range(len(self.parameters))]
        by_dtype: dict[np.dtype[Any], list[int]] = {}
        for i, p in enumerate(self.parameters):
            by_dtype.setdefault(p.dtype, []).append(i)
        self._stores = [_Store(dtype, members, [self.parameters[i].numel() for i in members])
                        for dtype, members in by_dtype.items()]

    def update(self, step: Step) -> None:
        """Update all of step.p, and their slots, in place by step.scale * step.g; subclasses define it.

        Args:
            step: parameters, gradients and slots.

        Raises:
            TypeError: the class does not define it.
        """
        raise TypeError(f"{type(self).__name__} defines no update()")

    def step(self, scale: float = 1.0) -> None:
        """Update every parameter that has a gradient.

        Args:
            scale: what gradients are multiplied by first, which costs nothing: min(1, max_norm / norm) clips, 1 / n makes
                the mean of n gradients that were added up.

        Raises:
            ShapeError: a gradient of another shape, or a parameter whose number of elements has changed.
        """
        name = type(self).__name__
        scale = checks.number(name, "scale", scale, infinite=True)
        checks.number(name, "lr", self.lr, infinite=True)      # anyone may have set it
        work = []
        for store in self._stores:
            together, alone = [], []
            for i in store.members:
                p = self.parameters[i]
                if p.grad is None:
                    continue
                if p.grad.array.shape != p.array.shape:
                    raise ShapeError(f"{name}: expected a gradient of shape {p.shape} for parameter {i}, got "
                                     f"{p.grad.shape}")
                if p.array.size != store.sizes[i]:
                    raise ShapeError(f"{name}: expected parameter {i} to keep its {store.sizes[i]} elements, got shape "
                                     f"{p.shape}")
                if in_place(p.array, store.dtype):
                    together.append(i)
                else:
                    checks.writable(name, f"parameter {i} (shape {p.shape})", p.array)
                    alone.append([i])       # one after the other: they are copied, and may be views of another
            work.append((store, [together, *alone] if together else alone))
        for store, groups in work:
            for members in groups:
                self._update(store, members, scale)

    def _update(self, store: _Store, members: list[int], scale: float) -> None:
        arrays = [self.parameters[i].array for i in members]
        elements = [flat(a, store.dtype) for a in arrays]
        for i in members:
            self.updates[i] += 1
        decay = [self.weight_decay if getattr(self.parameters[i], "decay", True) else 0.0 for i in members]
        grads = [self.parameters[i].grad for i in members]
        self.update(Step(
            elements, [flat(g.array, store.dtype) for g in grads if g is not None], scale,
            [store.whole(slot) for slot in self.slots], np.array([store.at[i] for i in members], np.intp),
            np.array([self.updates[i] for i in members], float), np.array(decay), kernels_for(store.dtype),
            threads_for(16 * sum(store.sizes[i] for i in members))))
        for i, a, changed in zip(members, arrays, elements, strict=True):
            if not in_place(a, store.dtype):
                a[...] = changed.reshape(a.shape)
            note_change(a, self._steps[i])

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for p in self.parameters:
            p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """What steps change: "lr", "parameters" (how many) and, for each parameter i, "updates.i" and copies of its slots.

        The other hyperparameters are the constructor's.
        """
        values: dict[str, Any] = {"lr": self.lr, "parameters": len(self.parameters)}
        for store in self._stores:
            for i in store.members:
                if self.updates[i]:
                    values[f"updates.{i}"] = self.updates[i]
                    values |= {f"{slot}.{i}": store.part(slot, i).reshape(self.parameters[i].shape).copy()
                               for slot in self.slots}
        return values

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Continue from a state.

        Args:
            values: what `state_dict` of an optimizer of the same class and parameters gave.

        Raises:
            ShapeError: all missing, unexpected and misshapen entries, in one message; nothing is loaded then.
            DtypeError: an entry of another kind.
        """
        who = f"load_state_dict of {type(self).__name__}"
        count = checks.instance(who, "the state", values, dict).get("parameters")
        if not checks.is_whole(count) or count != len(self.parameters):
            raise ShapeError(f"{who}: expected the state of {len(self.parameters)} parameters, got "
                             f"{checks.described(count)}")
        updated = [i for i in range(len(self.parameters)) if f"updates.{i}" in values]
        expected = {f"{slot}.{i}": self.parameters[i].shape for i in updated for slot in self.slots}
        counts = {f"updates.{i}" for i in updated}
        problems = [f"missing {key}" for key in ("lr", *expected) if key not in values]
        problems += [f"unexpected {key}" for key in values if key not in {"lr", "parameters", *counts, *expected}]
        slots = {key: checks.array(who, key, values[key], "biuf") for key in expected if key in values}
        problems += [f"{key} has shape {slots[key].shape}, expected {shape}"
                     for key, shape in expected.items() if key in slots and slots[key].shape != shape]
        if problems:
            raise ShapeError(f"{who}: {len(problems)} problems: " + "; ".join(problems))
        lr = checks.number(who, "lr", values["lr"], 0)
        self.updates = [checks.whole(who, f"updates.{i}", values.get(f"updates.{i}", 0))
                        for i in range(len(self.parameters))]
        self.lr = lr
        for store in self._stores:
            store.slots.clear()
            for i in updated:
                if i in store.at:
                    for slot in self.slots:
                        store.part(slot, i)[...] = slots[f"{slot}.{i}"].reshape(-1)
