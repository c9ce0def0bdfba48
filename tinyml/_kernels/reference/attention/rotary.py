"""Rotary position embedding."""

import numpy as np


def rotary_f32(x: np.ndarray, cos: np.ndarray, sin: np.ndarray, heads: int, interleaved: bool, inverse: bool, y: np.ndarray,
               threads: int) -> None:
    """Pairs (a, b) of the first `heads` heads become (a cos - b sin, b cos + a sin), the other heads stay.

    A pair is the elements 2i and 2i + 1 where `interleaved` is set, else i and i + D/2. `inverse` rotates back.
    """
    half = x.shape[3] // 2
    first, second = ((slice(0, None, 2), slice(1, None, 2)) if interleaved else (slice(half), slice(half, None)))
    turned, c, s = x[:, :heads], cos[:, :heads], -sin[:, :heads] if inverse else sin[:, :heads]
    a, b = turned[..., first], turned[..., second]
    with np.errstate(invalid="ignore", over="ignore"):
        y[:, :heads, :, first] = a * c - b * s
        y[:, :heads, :, second] = b * c + a * s
    y[:, heads:] = x[:, heads:]
