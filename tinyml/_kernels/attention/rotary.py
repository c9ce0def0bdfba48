"""Rotary positions over ndarrays. float32 runs rotary_f32.pyx, float64 its specification in reference/."""

from __future__ import annotations

import numpy as np

from .. import memory
from ..dispatch import kernels_for, threads_for
from ..layout import as_heads


def rotary(x: np.ndarray, cos: np.ndarray, sin: np.ndarray, heads: int | None, interleaved: bool,
           inverse: bool = False) -> np.ndarray:
    """x (..., T, D), in which the pairs of the first `heads` heads (None: of all) are rotated by the angles whose cos and
    sin are (..., T, D/2). `inverse` rotates them back."""
    lead = x.shape[:-2]
    x4, cos, sin = (as_heads(a, lead) for a in (x, cos, sin))
    b, h, t, d = x4.shape
    y = memory.empty((b, t, h, d), x.dtype).transpose(0, 2, 1, 3)
    kernels_for(x.dtype).rotary_f32(x4, cos, sin, h if heads is None else heads, interleaved, inverse, y,
                                    threads_for(4 * x.size))
    return y.reshape(x.shape)
