"""Arrays and Tensors of random values that tests start from."""

from __future__ import annotations

import numpy as np

from tinyml.tensor import Tensor


def normal(*shape: int, seed: int = 0, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def leaf(*shape: int, seed: int = 0, dtype: type = np.float32) -> Tensor:
    """Normal values that gradients flow to."""
    return Tensor(normal(*shape, seed=seed, dtype=dtype), requires_grad=True)
