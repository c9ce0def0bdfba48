"""Adam, and AdamW."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .. import checks
from ..errors import DtypeError
from ..tensors import Tensor
from .optimizer import Optimizer, Step


def _checked_adam(name: str, betas: tuple[float, float], eps: float,
                  weight_decay: float) -> tuple[tuple[float, float], float, float]:
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise DtypeError(f"{name}: expected betas to be two numbers, got {checks.described(betas)}")
    beta1, beta2 = (checks.number(name, "betas", beta, 0, below=1) for beta in betas)
    return ((beta1, beta2), checks.number(name, "eps", eps, 0), checks.number(name, "weight_decay", weight_decay, 0))


class _Moments(Optimizer):
    """What Adam and AdamW share: running moments of the gradient g, and of its square.

    m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2;  p -= lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps).
    """

    slots = ("exp_avg", "exp_avg_sq")
    betas: tuple[float, float]
    eps: float

    def corrected(self, step: Step) -> tuple[np.ndarray, np.ndarray]:
        """Step and eps of each parameter for p -= step m / (sqrt(v) + eps): the division by sqrt(1 - beta2^t) moved out of
        the elements (Kingma & Ba 2015, end of section 2)."""
        beta1, beta2 = self.betas
        correction = np.sqrt(1 - beta2**step.t)
        return step.array(self.lr * correction / (1 - beta1**step.t)), step.array(self.eps * correction)


class Adam(_Moments):
    """Steps scaled by running moments of the gradient (Kingma & Ba 2015); the decay is part of the gradient.

    g = grad + weight_decay p, with whose moments m and v
    p -= lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps).

    Args:
        parameters: the Parameters to update, as `model.parameters()` gives them.
        lr: learning rate.
        betas: how much of the old moments of the gradient, and of its square, each step keeps.
        eps: what is added to the root of the second moment.
        weight_decay: how much of the parameter is added to its gradient.

    Raises:
        ShapeError, DtypeError: as Optimizer does.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> optimizer = optim.Adam(model.parameters(), lr=0.01)
        >>> model(np.ones((4, 2), np.float32)).sum().backward()
        >>> optimizer.step()
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0.0):
        super().__init__(parameters, lr)
        self.betas, self.eps, self.weight_decay = _checked_adam("Adam", betas, eps, weight_decay)

    def update(self, step: Step) -> None:
        rate, eps = self.corrected(step)
        step.kernels.adam_f32(step.p, step.g, *step.slots, step.at, rate, *self.betas, eps, step.array(step.decay),
                              step.scale, step.threads)


class AdamW(_Moments):
    """Adam with the decay taken off the weights, apart from the gradient (Loshchilov & Hutter 2019).

    p = (1 - lr weight_decay) p, then as Adam with g = grad.

    Args:
        parameters: the Parameters to update, as `model.parameters()` gives them.
        lr: learning rate.
        betas: how much of the old moments of the gradient, and of its square, each step keeps.
        eps: what is added to the root of the second moment.
        weight_decay: how much of the parameter, times lr, each step takes off.

    Raises:
        ShapeError, DtypeError: as Optimizer does.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> optimizer = optim.AdamW(model.parameters(), lr=0.01)
        >>> model(np.ones((4, 2), np.float32)).sum().backward()
        >>> optimizer.step()
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0.01):
        super().__init__(parameters, lr)
        self.betas, self.eps, self.weight_decay = _checked_adam("AdamW", betas, eps, weight_decay)

    def update(self, step: Step) -> None:
        rate, eps = self.corrected(step)
        step.kernels.adamw_f32(step.p, step.g, *step.slots, step.at, rate, *self.betas, eps,
                               step.array(1 - self.lr * step.decay), step.scale, step.threads)
