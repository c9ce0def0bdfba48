"""Arena: the memory format of the values of a plan, and the place of each in one block of memory that they share.

All values have standard memory: channels-last where they have four dimensions (B, C, H, W), else row-major.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._kernels.memory import LINE
from ..errors import OutOfMemoryError
from ..ops.op import in_memory


def is_standard(x: np.ndarray) -> bool:
    """Whether x has standard memory."""
    return in_memory(x).flags.c_contiguous


def standard(x: np.ndarray) -> np.ndarray:
    """x in standard memory; it is copied only if it is in another."""
    if is_standard(x):
        return x
    y = empty(x.shape, x.dtype)
    y[...] = x
    return y


def reshape_value(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A view of a contiguous array as a value of another shape, in standard memory."""
    if len(shape) != 4:
        return x.reshape(shape)
    return x.reshape([shape[i] for i in (0, 2, 3, 1)]).transpose(0, 3, 1, 2)


def empty(shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    """An array in standard memory, whose elements are not set.

    Raises:
        OutOfMemoryError: there is no room for it.
    """
    try:
        return reshape_value(np.empty(shape, dtype), shape)
    except (MemoryError, ValueError) as error:      # ValueError: more bytes than NumPy can count
        raise OutOfMemoryError(f"plan: no room for a value of shape {tuple(shape)}, {np.dtype(dtype)}: {error}") from error


@dataclass
class Life:
    """A block of memory: its bytes, and the first and the last step that need it."""

    nbytes: int
    first: int
    last: int

    def meets(self, other: Life) -> bool:
        """Whether some step needs both."""
        return self.first <= other.last and other.first <= self.last


def place(lives: dict[int, Life]) -> tuple[dict[int, int], int]:
    """Where each block begins, and the bytes that all of them take together. Blocks whose lives meet do not overlap.

    The largest block is placed first. Each is placed in the lowest gap that the earlier ones leave during its life.
    """
    begins: dict[int, int] = {}
    for block in sorted(lives, key=lambda b: (-lives[b].nbytes, lives[b].first)):
        life, at = lives[block], 0
        taken = sorted((begins[b], begins[b] + lives[b].nbytes) for b in begins if life.meets(lives[b]))
        for begin, end in taken:
            if at + life.nbytes <= begin:
                break
            at = max(at, -(-end // LINE) * LINE)
        begins[block] = at
    return begins, max((begins[b] + lives[b].nbytes for b in begins), default=0)


def most_alive(lives: dict[int, Life]) -> int:
    """The most bytes that one step needs; no placement takes less."""
    return max((sum(other.nbytes for other in lives.values() if other.first <= life.first <= other.last)
                for life in lives.values()), default=0)
