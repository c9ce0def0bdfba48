"""NumPy's elementwise functions, whose large results are placed in the pool of memory.pyx."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import memory

_BOOL = np.dtype(bool)


def elementwise(function: Callable[..., np.ndarray], a: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """function(a), or function(a, b) broadcast, for floats: what NumPy gives, in the memory order of the larger operand.

    Both operands have the same dtype, or one of them is a mask.
    """
    if b is None:
        return function(a) if a.nbytes < memory.SMALL else function(a, out=memory.empty_like(a))
    if a.nbytes < memory.SMALL and b.nbytes < memory.SMALL:
        return function(a, b)
    large, other = (a, b) if a.size >= b.size else (b, a)
    fits = large.shape == other.shape or np.broadcast_shapes(a.shape, b.shape) == large.shape
    if not fits or large.dtype.kind != "f" or other.dtype not in (large.dtype, _BOOL):
        return function(a, b)       # both are stretched, or the result has a dtype of its own
    return function(a, b, out=memory.empty_like(large))


def choose(mask: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """np.where(mask, a, b), for a and b of one dtype.

    Large ones by their bits, b ^ ((a ^ b) & mask): np.where branches at each element, which for masks without a pattern
    takes four times as long.
    """
    if mask.size * a.itemsize < memory.SMALL:
        return np.where(mask, a, b)
    shape, bits = np.broadcast_shapes(mask.shape, a.shape, b.shape), np.dtype(f"i{a.itemsize}")
    like = next((x for x in (a, b) if x.shape == shape), None)
    found, differ = (memory.empty(shape, bits) if like is None else memory.empty_like(like.view(bits)) for _ in range(2))
    np.copyto(found, mask)
    np.negative(found, out=found)
    np.bitwise_xor(a.view(bits), b.view(bits), out=differ)
    found &= differ
    found ^= b.view(bits)
    return found.view(a.dtype)
