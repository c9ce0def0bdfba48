"""Dropout by Philox4x32-10."""

import numpy as np

from ...products.fixed_point import Real


def philox(counters: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """The four 32-bit words (..., 4) of Philox4x32-10 for counters (..., 4) and a key of two words."""
    a, b, c, d = np.moveaxis(np.asarray(counters, np.uint64), -1, 0)
    key0, key1 = (int(word) for word in key)
    low, half = np.uint64(2**32 - 1), np.uint64(32)
    for _ in range(10):
        p, q = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b, c, d = (q >> half) ^ b ^ np.uint64(key0), q & low, (p >> half) ^ d ^ np.uint64(key1), p & low
        key0, key1 = (key0 + 0x9E3779B9) % 2**32, (key1 + 0xBB67AE85) % 2**32
    return np.stack([a, b, c, d], axis=-1)


def dropout_f32(x: np.ndarray, key: int, least: int, scale: Real, y: np.ndarray, threads: int) -> None:
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
