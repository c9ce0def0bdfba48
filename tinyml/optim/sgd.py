"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable

from .. import checks
from ..errors import ShapeError
from ..tensors import Tensor
from .optimizer import Optimizer, Step


class SGD(Optimizer):
    """Gradient descent with momentum (Polyak 1964) or Nesterov's (Sutskever et al. 2013), as PyTorch's.

    g = grad + weight_decay p;  b = momentum b + g;  p = p - lr (g + momentum b if nesterov, else b).

    Args:
        parameters: the Parameters to update, as `model.parameters()` gives them.
        lr: learning rate.
        momentum: how much of the old direction each step keeps; 0 for none.
        weight_decay: how much of the parameter is added to its gradient.
        nesterov: whether the step looks ahead along the new direction.

    Raises:
        ShapeError, DtypeError: as Optimizer does; nesterov without momentum.

    Example:
        >>> p = nn.Parameter([1.0])
        >>> optimizer = optim.SGD([p], lr=0.1)
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> p
        Parameter containing:
        tensor([0.8000], requires_grad=True)
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.0, weight_decay: float = 0.0,
                 nesterov: bool = False):
        super().__init__(parameters, lr)
        self.momentum = checks.number("SGD", "momentum", momentum, 0)
        self.weight_decay = checks.number("SGD", "weight_decay", weight_decay, 0)
        self.nesterov = checks.flag("SGD", "nesterov", nesterov)
        if self.nesterov and not self.momentum:
            raise ShapeError(f"SGD: nesterov needs a momentum above 0, got {momentum}")
        self.slots = ("momentum_buffer",) if self.momentum else ()

    def update(self, step: Step) -> None:
        step.kernels.sgd_f32(step.p, step.g, step.slots[0] if step.slots else None, step.at, self.lr, self.momentum,
                             step.array(step.decay), self.nesterov, step.scale, step.threads)
