"""Elements around a Tensor."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import checks, ops
from ...errors import DtypeError, ShapeError
from ...tensors import Tensor, TensorLike, apply, as_tensor

# NumPy's names of the modes
PADDINGS: dict[str, Any] = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pad(input: TensorLike, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Elements around the input: a constant, or its own.

    Args:
        input: any shape.
        pad: before and after the last dimension, then those of the one before it, ..., such as (left, right, top, bottom);
            dimensions not named are left alone, and negative numbers crop.
        mode: "constant", "reflect" (without the edge: cb|abc|ba), "replicate" (aa|abc|cc) or "circular" (bc|abc|ab).
        value: the constant; None: 0.

    Returns:
        A Tensor that is larger by these numbers.

    Raises:
        ShapeError: numbers that do not fit; DtypeError: numbers that are not whole, or pairs of them.

    Example:
        >>> F.pad([[1.0]], (1, 2))
        tensor([[0., 1., 0., 0.]])
    """
    x, widths = as_tensor(input), pad.tolist() if isinstance(pad, np.ndarray) else pad
    if isinstance(widths, (tuple, list)) and any(isinstance(w, (tuple, list)) for w in widths):
        raise DtypeError(f"pad: expected numbers in a row, before and after of the last dimension first, such as (left, "
                         f"right, top, bottom), got pairs {checks.described(widths)}")
    if not isinstance(mode, str):
        raise DtypeError(f"pad: expected mode to be a string, got {checks.described(mode)}; name the constant: value=...")
    checks.choice("pad", "mode", mode, PADDINGS)
    flat = checks.several("pad", "pad", widths)
    if len(flat) % 2 or len(flat) > 2 * x.ndim:
        raise ShapeError(f"pad: expected before and after of up to {x.ndim} dimensions, got {flat}")
    pairs = [(0, 0)] * (x.ndim - len(flat) // 2) + [*zip(flat[-2::-2], flat[::-2])]
    added = tuple((max(b, 0), max(a, 0)) for b, a in pairs)
    if any(n + min(b, 0) + min(a, 0) < 0 for (b, a), n in zip(pairs, x.shape)):
        raise ShapeError(f"pad: {flat} crops more than there is of shape {x.shape}")
    if mode == "constant":
        infinite = x.dtype.kind == "f" or x.quantized is not None
        number = checks.number("pad", "value", 0 if value is None else value, infinite=infinite)
        if min(flat, default=0) < 0:
            x = x[tuple(_within(b, a, n) for (b, a), n in zip(pairs, x.shape))]
        return apply(ops.shape.Pad, x, widths=added, value=number)
    for d, ((before, after), n) in enumerate(zip(pairs, x.shape)):
        if (before, after) == (0, 0):
            continue
        most = {"reflect": n - 1, "circular": n}.get(mode, sys.maxsize if n else 0)
        if max(before, after) > most:
            raise ShapeError(f"pad: {mode} can add {most} elements to {n} along dimension {d}, got "
                             f"{max(before, after)}")
        places = np.arange(n)
        if mode == "circular":      # it goes round what cropping leaves, as in PyTorch
            places = np.pad(places[_within(before, after, n)], added[d], "wrap")
        else:
            places = np.pad(places, added[d], PADDINGS[mode])
            places = places[_within(before, after, len(places))]
        x = x[(slice(None),) * d + (places,)]
    return x


def _within(before: int, after: int, n: int) -> slice:
    """What negative widths leave of n elements."""
    return slice(max(-before, 0), n - max(-after, 0))
