"""Parameter: a Tensor that a Module owns and an optimizer trains."""

from __future__ import annotations

from ..tensors import FLOATS, Tensor, TensorLike
from . import init


class Parameter(Tensor):
    """A Tensor that a Module owns and an optimizer trains.

    Args:
        data: its elements, as for a Tensor.
        requires_grad: whether `backward` collects a gradient here.
        decay: whether an optimizer's weight decay is for this Parameter, too.

    Raises:
        DtypeError, ShapeError: as Tensor does.

    Example:
        >>> nn.Parameter([1.0, 2.0])
        Parameter containing:
        tensor([1., 2.], requires_grad=True)
    """

    __slots__ = ("decay",)
    stored = True
    decay: bool

    def __init__(self, data: TensorLike, requires_grad: bool = True, decay: bool = True):
        super().__init__(data, requires_grad)
        self.decay = decay
        init.claim(self.numel())

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


def as_parameter(t: Tensor, requires_grad: bool) -> Parameter:
    """A Parameter that shares `t`'s elements (or codes) and scales."""
    p = Parameter.__new__(Parameter)
    p.array, p.quantized = t.array, t.quantized
    p.decay = getattr(t, "decay", True)
    p.place(None, requires_grad and t.dtype in FLOATS)
    return p
