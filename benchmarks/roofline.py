"""The limits of this machine, measured by the probe kernels: multiply-adds, dot products of bytes, reading, the clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyml._kernels.dispatch import active
from tinyml.timing import least_time

from .machine import cache_bytes

ROUNDS = 2000
ROWS, COLUMNS = 96, 64      # whole tiles of every instruction set; 16 of the tallest, which is enough for several threads
LEAST = 2**28               # the least bytes of the buffer that measures memory: twice the cache if that is more


@dataclass(frozen=True)
class Peaks:
    """Peaks on `threads` threads: operations (two per multiply-add) and bytes per second; the clock of one core in Hz."""

    threads: int
    fma: float
    dot4: float
    read: float
    clock: float


def fma_peak(threads: int, seconds: float, kernels: Any = active) -> float:
    """The float32 operations per second."""
    rows = ROWS * threads
    start, w, y = (np.zeros(s, np.float32) for s in ((rows, COLUMNS), COLUMNS, (rows, COLUMNS)))
    w += np.float32(0.5)
    least = least_time(lambda: kernels.probe_fma_f32(start, 0.5, w, y, ROUNDS, threads), seconds)
    return 2 * rows * COLUMNS * ROUNDS / least


def dot4_peak(threads: int, seconds: float, kernels: Any = active) -> float:
    """The operations per second of products of unsigned and signed bytes, summed in int32."""
    rows = ROWS * threads
    start, y = np.zeros((rows, COLUMNS), np.int32), np.empty((rows, COLUMNS), np.int32)
    x, w = np.array([1, 2, 3, 4], np.uint8), np.ones((COLUMNS, 4), np.int8)
    least = least_time(lambda: kernels.probe_dot4_int8(start, x, w, y, ROUNDS, threads), seconds)
    return 8 * rows * COLUMNS * ROUNDS / least


def reader(nbytes: int, threads: int, kernels: Any = active) -> Callable[[], Any]:
    """A function that reads a buffer of `nbytes` bytes at each call."""
    x = np.ones(max(nbytes // 4, 1024), np.int32)       # ones, because untouched zeros would share one page of memory
    return lambda: kernels.probe_read(x, threads)


def read_rate(nbytes: int, threads: int, seconds: float) -> float:
    """The bytes per second of reading a buffer of `nbytes` again and again, from the cache that holds it or from memory."""
    return nbytes / least_time(reader(nbytes, threads), seconds)


def clock(threads: int, seconds: float, kernels: Any = active) -> float:
    """The cycles per second of each of `threads` cores, from additions that wait for each other and take one cycle each."""
    start, y = np.zeros(threads, np.int64), np.empty(threads, np.int64)
    return 100 * ROUNDS / least_time(lambda: kernels.probe_cycles(start, 1, y, 100 * ROUNDS, threads), seconds)


def bytes_beyond_cache() -> int:
    """The size of a buffer that is too large for the last-level cache, in bytes."""
    return max(LEAST, 2 * cache_bytes("L3"))


def measure(threads: int, seconds: float) -> Peaks:
    """Measure all peaks, each for `seconds`."""
    return Peaks(threads, fma_peak(threads, seconds), dot4_peak(threads, seconds),
                 read_rate(bytes_beyond_cache(), threads, seconds), clock(threads, seconds))


class Roofline:
    """The peaks on one core and on `threads`."""

    def __init__(self, threads: int, seconds: float):
        self.peaks = [measure(n, seconds) for n in sorted({1, threads})]

    def limit(self, bound: str) -> float:
        """The peak "fma" or "dot4" on all threads."""
        return getattr(self.peaks[-1], bound)
