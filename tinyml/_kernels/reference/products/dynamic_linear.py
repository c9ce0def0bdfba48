"""Dynamic int8 linear layers: rows of floats are quantized as they come."""

import numpy as np

from ..rows.codes import quantize_rows
from ..rows.pointwise import FUNCTIONS


def dynamic_linear_few_rows(x: np.ndarray, w: np.ndarray, w_scale: np.ndarray, bias: np.ndarray | None, group: int,
                            activation: int, y: np.ndarray, threads: int) -> None:
    """y = f(sum over groups of float(sum of q * w) * (s * w_scale) + bias), where x ~ s q; each step is rounded to
    float32."""
    y[...] = 0
    for g, scale in enumerate(w_scale.T):
        part = x[:, g * group : (g + 1) * group]
        u, s = np.empty(part.shape, np.uint8), np.empty(len(part), np.float32)
        quantize_rows(part, s, u, threads)
        acc = (u.astype(np.int64) - 128) @ w[:, g * group : (g + 1) * group].T.astype(np.int64)
        y += acc.astype(np.float32) * (s[:, None] * scale)
    if bias is not None:
        y += bias
    FUNCTIONS[activation](y, y, threads)


dynamic_linear_many_rows = dynamic_linear_few_rows
