"""Changes of a Tensor in place: t += 1 leaves `t` the same object, with the elements of the result of t + 1."""

from __future__ import annotations

import numpy as np

from .engine import TensorBase, note_change
from .errors import DtypeError, GradError, ShapeError
from .state import state


def check_changeable(t: TensorBase, what: str) -> None:
    """Raise where no result can become the elements of `t`.

    Raises:
        DtypeError: int8 codes; GradError: a leaf that requires a gradient, outside no_grad().
    """
    if t.quantized is not None:
        raise DtypeError(f"{what}: expected floats or integers, got int8 codes; dequantize() them first")
    if t.requires_grad and t.node is None and state.grad:
        raise GradError(f"{what}: a leaf that requires a gradient cannot change on the tape; change it within no_grad(), "
                        "or write x = x + y for a new Tensor")


def assign(t: TensorBase, result: TensorBase, what: str) -> None:
    """Let the elements of `t` be those of `result`, which an op computed from it.

    Off the tape they are written where they are, which all views see. With a gradient, `t` becomes the op's result: what
    the tape kept of it before stays as it was.

    Raises:
        ShapeError, DtypeError: a result that does not fit, or memory that is read-only.
    """
    if result.shape != t.shape:
        raise ShapeError(f"{what}: expected a result of shape {t.shape}, got {result.shape}")
    if not np.can_cast(result.dtype, t.dtype, "same_kind"):
        raise DtypeError(f"{what}: a result of {result.dtype} does not fit in a Tensor of {t.dtype}")
    if state.recorder is None and t.node is None and not result.requires_grad:
        if not t.data.flags.writeable:
            raise ShapeError(f"{what}: the memory of this Tensor of shape {t.shape} is read-only; make it of a copy")
        np.copyto(t.data, result.data, casting="same_kind")
        note_change(t.data, what)
        return
    if state.recorder is not None:
        state.recorder.changed(t, result)
    if state.grad:
        t.node, t.requires_grad = result.node, result.requires_grad
    t.data = result.data.astype(t.dtype, copy=False)
