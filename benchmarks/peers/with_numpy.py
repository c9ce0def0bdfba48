"""NumPy, which multiplies float matrices by its BLAS."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_limits

from ..layers import Layer
from . import Peer, Prepared


class Numpy(Peer):
    """Float products; integer ones would run without BLAS."""

    distributions = ("numpy",)

    def __init__(self, threads: int):
        super().__init__(threads)
        self.limits = threadpool_limits(threads, user_api="blas")      # holds from here on

    def linear_f32(self, layer: Layer) -> dict[str, Prepared]:
        x, w, b = layer.x[:, :, 0, 0], np.ascontiguousarray(layer.w[:, :, 0, 0].T), layer.b
        return {"numpy": Prepared(lambda: x @ w + b, lambda y: y[:, :, None, None])}


make = Numpy
