"""Arrays and Tensors of random values that tests start from, and how they compare what comes out."""

from __future__ import annotations

import numpy as np

from tinyml.tensors import Tensor


def normal(*shape: int, seed: int = 0, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def leaf(*shape: int, seed: int = 0, dtype: type = np.float32) -> Tensor:
    """Normal values that gradients flow to."""
    return Tensor(normal(*shape, seed=seed, dtype=dtype), requires_grad=True)


def softmax(a: np.ndarray) -> np.ndarray:
    """Along the last axis."""
    e = np.exp(a - a.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def close(got: Tensor | np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    got = got.numpy() if isinstance(got, Tensor) else got
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
