"""Float ops that write their result where they are told: what their forward gives, bit for bit, without its allocations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .._kernels.products.windows import spans
from .._kernels.rows import pooling
from ..ops.pooling import AdaptiveAvgPool2d, AvgPool2d
from .arena import in_memory

# takes the operands in standard memory, the array to write to and the op's attributes; returns what writes
Writer = Callable[..., Callable[[], object]]


def _arithmetic(ufunc: np.ufunc) -> Writer:
    def write(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Callable[[], object]:
        if a.shape == b.shape:
            a, b, out = map(in_memory, (a, b, out))
        return partial(ufunc, a, b, out=out)

    return write


def _relu(x: np.ndarray, out: np.ndarray) -> Callable[[], object]:
    return partial(np.maximum, in_memory(x), np.float32(0), out=in_memory(out))


def _clip(x: np.ndarray, out: np.ndarray, lo: float, hi: float) -> Callable[[], object]:
    return partial(in_memory(x).clip, np.float32(lo), np.float32(hi), out=in_memory(out))


def _max_pool(x: np.ndarray, out: np.ndarray, size: tuple, stride: tuple, padding: tuple) -> Callable[[], object]:
    rows, columns = map(spans, x.shape[2:], size, stride, padding)
    return pooling.bind_max_pool(x, rows, columns, out)


def _mean_of(windows: Callable) -> Writer:
    def write(x: np.ndarray, out: np.ndarray, **attrs: Any) -> Callable[[], object]:
        return pooling.bind_avg_pool(x, *windows(x.shape, **attrs), out)

    return write


WRITERS: dict[str, Writer] = {
    "add": _arithmetic(np.add), "sub": _arithmetic(np.subtract), "mul": _arithmetic(np.multiply), "relu": _relu,
    "clip": _clip, "max_pool2d": _max_pool, "avg_pool2d": _mean_of(AvgPool2d.windows),
    "adaptive_avg_pool2d": _mean_of(AdaptiveAvgPool2d.windows),
}
