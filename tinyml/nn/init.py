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

__all__ = ["at_most", "blank", "fan_in_uniform", "full", "normal", "uniform"]

OVERHEAD = 256      # elements that a Parameter counts for beside its own: the objects around it take memory too
_left: ContextVar[list[int] | None] = ContextVar("left", default=None)
_blank: ContextVar[bool] = ContextVar("blank", default=False)


@contextmanager
def at_most(elements: int) -> Iterator[None]:
    """Within it, Parameters of at most so many elements in all are made: files may name any size.

    Args:
        elements: how many; each Parameter counts OVERHEAD more.

    Raises:
        ShapeError: from what would exceed it, before it allocates.

    Example:
        >>> with nn.init.at_most(1000):
        ...     layer = nn.Linear(8, 8)
    """
    token = _left.set([elements])
    try:
        yield
    finally:
        _left.reset(token)


@contextmanager
def blank() -> Iterator[None]:
    """Within it, initial values are zeros, and none are drawn: who loads a model has others.

    Example:
        >>> with nn.init.blank():
        ...     nn.Linear(2, 2).bias
        Parameter containing:
        tensor([0., 0.], requires_grad=True)
    """
    token = _blank.set(True)
    try:
        yield
    finally:
        _blank.reset(token)


def check(size: int, what: str) -> None:
    """Raise where more elements are to be made than may still be (`at_most`).

    Args:
        size: how many.
        what: who makes them, for the error.

    Raises:
        ShapeError: there are too many.
    """
    left = _left.get()
    if left is not None and size > left[0]:
        raise ShapeError(f"{what}: expected a size of at most {left[0]} here, got {size}")
    checks.room(what, "values", (size,))


def claim(size: int) -> None:
    """Note that a Parameter is made.

    Args:
        size: its elements.

    Raises:
        ShapeError: there are more than may still be made (`at_most`).
    """
    check(size + OVERHEAD, "Parameter")
    left = _left.get()
    if left is not None:
        left[0] -= size + OVERHEAD


def _shape(what: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    shape = checks.several(what, "shape", shape, 0)
    check(math.prod(shape), what)
    checks.room(what, "drawing values", shape, 12)      # a float64 and a float32 for each
    return shape


def full(shape: tuple[int, ...], value: float) -> np.ndarray:
    """An array of one value.

    Args:
        shape: of the array.
        value: of each element.

    Returns:
        A float32 array.

    Raises:
        ShapeError, DtypeError: a size below 0, or a value that is no number.

    Example:
        >>> nn.init.full((2,), 1.0)
        array([1., 1.], dtype=float32)
    """
    shape = _shape("init.full", shape)
    return np.full(shape, checks.number("init.full", "value", value, infinite=True), np.float32)


def uniform(shape: tuple[int, ...], bound: float) -> np.ndarray:
    """Uniform values from -bound to bound.

    Args:
        shape: of the array.
        bound: of the values, at least 0.

    Returns:
        A float32 array, drawn from tinyml's generator.

    Raises:
        ShapeError, DtypeError: a size or a bound below 0, or that is no number.

    Example:
        >>> bool(abs(nn.init.uniform((3, 4), 0.1)).max() <= 0.1)
        True
    """
    shape, bound = _shape("init.uniform", shape), checks.number("init.uniform", "bound", bound, 0)
    if _blank.get():
        return np.zeros(shape, np.float32)
    return memory.align(random.generator().uniform(-bound, bound, shape).astype(np.float32))


def normal(shape: tuple[int, ...], std: float = 1.0) -> np.ndarray:
    """Values of a normal distribution around 0.

    Args:
        shape: of the array.
        std: standard deviation, at least 0.

    Returns:
        A float32 array, drawn from tinyml's generator.

    Raises:
        ShapeError, DtypeError: a size or a deviation below 0, or that is no number.

    Example:
        >>> nn.init.normal((3, 4), 0.02).shape
        (3, 4)
    """
    shape, std = _shape("init.normal", shape), checks.number("init.normal", "std", std, 0)
    if _blank.get():
        return np.zeros(shape, np.float32)
    return memory.align((random.generator().standard_normal(shape) * std).astype(np.float32))


def fan_in_uniform(shape: tuple[int, ...]) -> np.ndarray:
    """Uniform values from -1 / sqrt(K) to 1 / sqrt(K): PyTorch's default for weights (He et al. 2015, a = sqrt 5).

    Args:
        shape: (N, K) of a linear layer; of a convolution (N, C, kh, kw), for which K is C kh kw.

    Returns:
        A float32 array, drawn from tinyml's generator.

    Raises:
        ShapeError, DtypeError: a size below 0, or that is no whole number.

    Example:
        >>> bool(abs(nn.init.fan_in_uniform((3, 4))).max() <= 0.5)
        True
    """
    shape = checks.several("init.fan_in_uniform", "shape", shape, 0)
    return uniform(shape, 1 / math.sqrt(max(math.prod(shape[1:]), 1)))
