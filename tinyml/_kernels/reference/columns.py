"""Sums over rows, rows by number, dropout."""

from __future__ import annotations

import numpy as np

from .pointwise import gelu_grad_f32, gelu_tanh_grad_f32, relu_grad_f32, silu_grad_f32


def sum_columns_f32(x, y, threads):
    """The sums over rows of each table."""
    y[...] = x.sum(axis=1)


def relu_grad_sum_f32(y, dy, dx, db, threads):
    """relu_grad_f32, and its sum over rows."""
    relu_grad_f32(y, dy, dx, threads)
    sum_columns_f32(dx[None], db[None], threads)


def gelu_grad_sum_f32(x, dy, dx, db, threads):
    """gelu_grad_f32, and its sum over rows."""
    gelu_grad_f32(x, dy, dx, threads)
    sum_columns_f32(dx[None], db[None], threads)


def gelu_tanh_grad_sum_f32(x, dy, dx, db, threads):
    """gelu_tanh_grad_f32, and its sum over rows."""
    gelu_tanh_grad_f32(x, dy, dx, threads)
    sum_columns_f32(dx[None], db[None], threads)


def silu_grad_sum_f32(x, dy, dx, db, threads):
    """silu_grad_f32, and its sum over rows."""
    silu_grad_f32(x, dy, dx, threads)
    sum_columns_f32(dx[None], db[None], threads)


def scatter_rows_f32(x, ids, clear, y, threads):
    """Rows of x added to the rows of y that ids name, y zero before, or zeroed if `clear`."""
    if clear:
        y[...] = 0
    np.add.at(y, ids, x)


def philox(counters, key):
    """The four 32-bit words (..., 4) of Philox4x32-10 for counters (..., 4) and a key of two words."""
    a, b, c, d = np.moveaxis(np.asarray(counters, np.uint64), -1, 0)
    key0, key1 = (int(word) for word in key)
    low, half = np.uint64(2**32 - 1), np.uint64(32)
    for _ in range(10):
        p, q = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b, c, d = (q >> half) ^ b ^ np.uint64(key0), q & low, (p >> half) ^ d ^ np.uint64(key1), p & low
        key0, key1 = (key0 + 0x9E3779B9) % 2**32, (key1 + 0xBB67AE85) % 2**32
    return np.stack([a, b, c, d], axis=-1)


def dropout_f32(x, key, least, scale, y, threads):
    """y = x * scale where the element's word of Philox4x32-10 is at least `least`, else 0."""
    element = np.arange(x.size, dtype=np.uint64)
    block, half, i = element // np.uint64(64), element // np.uint64(32) % np.uint64(2), element % np.uint64(32)
    counter = np.uint64(16) * block + i // np.uint64(2)
    zero = np.zeros_like(counter)
    words = philox(np.stack([counter % np.uint64(2**32), counter // np.uint64(2**32), zero, zero], axis=-1),
                   (key % 2**32, key // 2**32))
    word = np.take_along_axis(words, (np.uint64(2) * half + i % np.uint64(2)).astype(np.intp)[:, None], axis=-1)[:, 0]
    with np.errstate(invalid="ignore"):
        y[...] = np.where(word >= least, x * x.dtype.type(scale), 0)
