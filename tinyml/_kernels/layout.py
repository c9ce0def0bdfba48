"""How arrays lie in memory: images with their channels last, rows one after the other, runs of elements."""

from __future__ import annotations

import math

import numpy as np


def nhwc(x: np.ndarray) -> np.ndarray:
    """An array (B, C, ...) as contiguous (B, ..., C), that is NCHW as NHWC. It costs nothing where memory is so already."""
    return np.ascontiguousarray(x.transpose(0, *range(2, x.ndim), 1))


def nchw(y: np.ndarray) -> np.ndarray:
    """The (B, C, ...) view of an array (B, ..., C)."""
    return y.transpose(0, y.ndim - 1, *range(1, y.ndim - 1))


def in_elements(a: np.ndarray) -> np.ndarray:
    """`a`, or a copy where a stride is not a whole number of elements, as in packed records: kernels count in elements."""
    return a if a.flags.aligned else a.copy()


def as_rows(x: np.ndarray) -> np.ndarray:
    """(..., C) as contiguous (P, C)."""
    if not x.flags.c_contiguous:
        x = np.ascontiguousarray(x)
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def as_run(x: np.ndarray) -> np.ndarray:
    """`x` where its elements lie in one run of memory, in C or NHWC order; else a contiguous copy."""
    if x.flags.c_contiguous or (x.ndim == 4 and x.transpose(0, 2, 3, 1).flags.c_contiguous):
        return x
    return np.ascontiguousarray(x)


def as_heads(x: np.ndarray, lead: tuple[int, ...]) -> np.ndarray:
    """(..., T, D), its leading dimensions broadcast to `lead`, as (B, H, T, D) whose rows are contiguous."""
    if x.strides[-1] != x.itemsize or any(s % x.itemsize for s in x.strides):
        x = np.ascontiguousarray(x)
    if x.shape[:-2] != lead:
        x = np.broadcast_to(x, (*lead, *x.shape[-2:]))
    return x.reshape(math.prod(lead[:-1]), lead[-1] if lead else 1, *x.shape[-2:])
