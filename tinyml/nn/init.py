"""Initial values, drawn from tinyml's generator."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from .. import checks, random
from .._kernels import memory
from ..errors import ShapeError

OVERHEAD = 256      # elements that a Parameter counts for beside its own: the objects around it take memory too
_left: ContextVar[list[int] | None] = ContextVar("left", default=None)
_blank: ContextVar[bool] = ContextVar("blank", default=False)


@contextmanager
def at_most(elements: int) -> Iterator[None]:
    """Within it, Parameters of at most `elements` in all are made, each counting OVERHEAD more: files may name any size.

    Raises:
        ShapeError: from what would exceed it, before it allocates.
    """
    token = _left.set([elements])
    try:
        yield
    finally:
        _left.reset(token)


@contextmanager
def blank() -> Iterator[None]:
    """Within it initial values are zeros, none are drawn: who loads a model has others."""
    token = _blank.set(True)
    try:
        yield
    finally:
        _blank.reset(token)


def check(size: int, what: str) -> None:
    """Raise ShapeError if `size` elements are more than may still be made."""
    left = _left.get()
    if left is not None and size > left[0]:
        raise ShapeError(f"{what}: expected a size of at most {left[0]} here, got {size}")
    checks.room(what, "values", (size,))


def claim(size: int) -> None:
    """Note that a Parameter of `size` elements is made; raises ShapeError as `check`."""
    check(size + OVERHEAD, "Parameter")
    left = _left.get()
    if left is not None:
        left[0] -= size + OVERHEAD


def _shape(what: str, shape: tuple) -> tuple[int, ...]:
    shape = checks.several(what, "shape", shape, 0)
    check(math.prod(shape), what)
    checks.room(what, "drawing values", shape, 12)      # a float64 and a float32 for each
    return shape


def full(shape: tuple, value: float) -> np.ndarray:
    """float32 values, all `value`."""
    shape = _shape("init.full", shape)
    return np.full(shape, checks.number("init.full", "value", value, infinite=True), np.float32)


def uniform(shape: tuple, bound: float) -> np.ndarray:
    """float32 values in [-bound, bound)."""
    shape, bound = _shape("init.uniform", shape), checks.number("init.uniform", "bound", bound, 0)
    if _blank.get():
        return np.zeros(shape, np.float32)
    return memory.align(random.generator().uniform(-bound, bound, shape).astype(np.float32))


def normal(shape: tuple, std: float = 1.0) -> np.ndarray:
    """float32 normal values of standard deviation `std`."""
    shape, std = _shape("init.normal", shape), checks.number("init.normal", "std", std, 0)
    if _blank.get():
        return np.zeros(shape, np.float32)
    return memory.align((random.generator().standard_normal(shape) * std).astype(np.float32))


def fan_in_uniform(shape: tuple) -> np.ndarray:
    """PyTorch's default for linear and conv weights: U(-1/sqrt(fan in), 1/sqrt(fan in)) (He et al. 2015, a = sqrt 5)."""
    shape = checks.several("init.fan_in_uniform", "shape", shape, 0)
    return uniform(shape, 1 / math.sqrt(max(math.prod(shape[1:]), 1)))
