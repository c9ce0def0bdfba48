"""Rotary positions: queries and keys are rotated so that their products depend on their distance alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .._kernels.attention.rotary import rotary
from ..errors import ShapeError
from ..tape import Context
from .op import Gradients, Op, Sample, normal, sample


class Rotary(Op):
    """Rotation of pairs (a, b) of the elements of x to (a cos - b sin, b cos + a sin) (Su et al. 2021).

    x (..., T, D) with D even; cos and sin (..., T, D/2), whose leading dimensions broadcast to those of x, are constants
    and get no gradient.

    Attributes:
        heads: of x (..., H, T, D) only the first `heads` heads are rotated and the others stay: x may be queries, keys and
            values in one array. None: all of x.
        interleaved: a pair is elements 2i and 2i + 1 (the paper, GPT-J), else i and i + D/2 (GPT-NeoX, Llama).

    Raises:
        ShapeError: shapes do not fit, or more heads than there are.
    """

    name = "rotary"

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, cos: np.ndarray, sin: np.ndarray, *, heads: int | None = None,
                interleaved: bool = False) -> np.ndarray:
        got = f"got x {x.shape}, cos {cos.shape}, sin {sin.shape}"
        if x.ndim < 2 or x.shape[-1] % 2 or cos.shape != sin.shape or not _broadcasts(cos.shape, x.shape):
            raise ShapeError(f"rotary: expected x (..., T, D) with D even, cos and sin (..., T, D/2), {got}")
        if heads is not None and not (x.ndim > 2 and 0 <= heads <= x.shape[-3]):
            raise ShapeError(f"rotary: expected x (..., H, T, D) of at least {heads} heads, {got}")
        ctx.attrs = cos, sin, heads, interleaved
        return rotary(x, *ctx.attrs)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        cos, sin, heads, interleaved = ctx.attrs
        return rotary(grad, cos, sin, heads, interleaved, inverse=True), None, None

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        def angles(*shape: int) -> list[np.ndarray]:
            a = normal(rng, *shape)
            return [np.cos(a).astype(np.float32), np.sin(a).astype(np.float32)]

        yield sample(normal(rng, 3, 4), *angles(3, 2))
        yield sample(normal(rng, 2, 3, 4, 6), *angles(4, 3), heads=2)
        yield sample(normal(rng, 2, 4, 3, 6).transpose(0, 2, 1, 3), *angles(2, 1, 4, 3), heads=2, interleaved=True)
        yield sample(normal(rng, 2, 0, 4), *angles(0, 2), interleaved=True)

    @staticmethod
    def parity(torch: Any, x: Any, cos: Any, sin: Any, heads: Any = None, interleaved: Any = False) -> Any:
        """As complex numbers a + bi, times cos + i sin."""
        count = x.shape[-3] if heads is not None else 0
        x, rest = (x[..., :heads, :, :], x[..., heads:count, :, :]) if heads is not None else (x, None)
        half = x.shape[-1] // 2
        pairs = x.unflatten(-1, (half, 2)) if interleaved else x.unflatten(-1, (2, half)).transpose(-1, -2)
        turned = torch.view_as_real(torch.view_as_complex(pairs.contiguous()) * torch.complex(cos, sin))
        y = (turned if interleaved else turned.transpose(-1, -2)).flatten(-2)
        return y if rest is None else torch.cat([y, rest], dim=-3)


def _broadcasts(angles: tuple[int, ...], x: tuple[int, ...]) -> bool:
    """Whether cos and sin of this shape broadcast to x (..., T, D), their last two being T and D/2."""
    if angles[-2:] != (x[-2], x[-1] // 2) or len(angles) > len(x):
        return False
    return all(n in (1, m) for n, m in zip(angles[-3::-1], x[-3::-1]))
