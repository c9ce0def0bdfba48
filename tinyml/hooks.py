"""Hooks: functions that are called with the gradient of one Tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .apply import apply
from .engine import TensorBase, wrap
from .errors import GradError
from .grad_mode import no_grad


class Hooks:
    """What is called with the gradient of one Tensor when it is complete, in the order of registration."""

    def __init__(self, retained: Any = None) -> None:
        self.functions: dict[int, Callable[..., Any]] = {}
        self.count = 0
        self.retained = retained        # a weak reference to the Tensor that keeps the gradient in its `grad`, last

    def __call__(self, grad: np.ndarray) -> np.ndarray:
        """`grad`, or what the functions make of it."""
        for function in list(self.functions.values()):
            with no_grad():
                found = function(wrap(apply.tensor, grad))
            if found is not None:
                if not isinstance(found, TensorBase) or found.shape != grad.shape:
                    got = f"shape {found.shape}" if isinstance(found, TensorBase) else type(found).__name__
                    raise GradError(f"register_hook: expected the hook to return None or a Tensor of shape {grad.shape}, "
                                    f"got {got}")
                grad = found.array.astype(grad.dtype, copy=False)
        keeper = self.retained and self.retained()
        if keeper is not None:
            keeper._accumulate([grad], 0)
        return grad


class Handle:
    """What `register_hook` returns: `remove()` ends the calls of the hook."""

    def __init__(self, hooks: Hooks, function: Callable[..., Any]):
        self.hooks, self.number = hooks, hooks.count
        hooks.functions[hooks.count] = function
        hooks.count += 1

    def remove(self) -> None:
        """Call the hook no more."""
        self.hooks.functions.pop(self.number, None)
