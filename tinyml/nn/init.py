"""Initial values, drawn from tinyml's generator."""

from __future__ import annotations

import math

import numpy as np

from .. import random


def uniform(shape: tuple, bound: float) -> np.ndarray:
    """float32 values in [-bound, bound)."""
    return random.generator().uniform(-bound, bound, shape).astype(np.float32)


def normal(shape: tuple, std: float = 1.0) -> np.ndarray:
    """float32 normal values of standard deviation `std`."""
    return (random.generator().standard_normal(shape) * std).astype(np.float32)


def fan_in_uniform(shape: tuple) -> np.ndarray:
    """PyTorch's default for linear and conv weights: U(-1/sqrt(fan in), 1/sqrt(fan in)) (He et al. 2015, a = sqrt 5)."""
    return uniform(shape, 1 / math.sqrt(max(math.prod(shape[1:]), 1)))
