"""The types of what functions take and give.

Tensor takes its methods from the functions here, so it lies higher; only checkers of types see it from below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from ..apply import OPS
from ..apply import apply as _apply
from ..engine import TensorBase

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ..tensors import Tensor
else:
    Tensor = TensorBase

TensorLike: TypeAlias = "Tensor | ArrayLike"        # what becomes a Tensor: an array, a number, nested lists of them
Axes: TypeAlias = "int | tuple[int, ...] | list[int] | None"    # dimensions, from the end where negative; None: all

apply: Callable[..., Tensor] = _apply

__all__ = ["OPS", "Axes", "Tensor", "TensorLike", "apply"]
