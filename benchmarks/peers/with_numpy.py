"""NumPy, which multiplies float matrices with its BLAS."""

from __future__ import annotations

from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ..layers import Layer
from ..prepared import Prepared
from .peer import Peer

# the functions that NumPy has, by their name in benchmarks.elementwise
FORWARD = {"add": np.add, "mul": np.multiply, "relu": lambda x: np.maximum(x, 0), "exp": np.exp, "tanh": np.tanh}


class Numpy(Peer):
    """Float products only: NumPy multiplies integers without BLAS."""

    distributions = ("numpy",)

    def __init__(self, threads: int):
        super().__init__(threads)
        self.limits = threadpool_limits(threads, user_api="blas")      # stays in force

    def linear_f32(self, layer: Layer) -> dict[str, Prepared]:
        x, w, b = layer.x[:, :, 0, 0], np.ascontiguousarray(layer.w[:, :, 0, 0].T), layer.b
        return {"numpy": Prepared(lambda: x @ w + b, lambda y: y[:, :, None, None])}

    def elementwise(self, name: str, make: Any, ours: Any, arrays: list[np.ndarray],
                    cotangent: np.ndarray | None) -> dict[str, Prepared]:
        if name not in FORWARD or cotangent is not None:
            return {}
        return {"numpy": Prepared(lambda: FORWARD[name](*arrays))}


make = Numpy
