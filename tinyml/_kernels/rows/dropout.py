"""Dropout by a counter-based generator: the mask follows from a key, so the gradient computes it again."""

from __future__ import annotations

import numpy as np

from ..dispatch import kernels_for, threads_for
from ..layout import as_run


def dropout(x: np.ndarray, key: int, p: float) -> np.ndarray:
    """Each element is x / (1 - p), or 0 with probability p. The 64-bit key and the element's place in memory decide.

    The result has the memory order of x.
    """
    if p >= 1:
        return np.zeros_like(x)
    x = as_run(x)
    y = np.empty_like(x)
    least = min(round(p * 2**32), 2**32 - 1)
    scale = x.dtype.type(1) / x.dtype.type(1 - p)
    kernels_for(x.dtype).dropout_f32(x.ravel("K"), key, least, scale, y.ravel("K"), threads_for(64 * x.size))
    return y
