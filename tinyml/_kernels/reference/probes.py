"""What the probes of the machine compute."""

import numpy as np


def probe_fma_f32(start: np.ndarray, x: float, w: np.ndarray, y: np.ndarray, rounds: int, threads: int) -> None:
    """y = start + x * w, that product added `rounds` times."""
    y[...] = start
    for _ in range(rounds):
        y += x * w


def probe_dot4_int8(start: np.ndarray, x: np.ndarray, w: np.ndarray, y: np.ndarray, rounds: int, threads: int) -> None:
    """y = start + rounds * (w . x), modulo 2^32; x less OFFSET."""
    y[...] = (start + rounds * (w.astype(np.int64) @ x.astype(np.int64))).astype(np.int32)


def probe_read(x: np.ndarray, threads: int) -> int:
    """Sum of x modulo 2^32."""
    return int(x.sum(dtype=np.int64)) % 2**32


def probe_cycles(start: np.ndarray, step: int, y: np.ndarray, rounds: int, threads: int) -> None:
    """y = start + rounds * step, modulo 2^64."""
    y[...] = start
    for _ in range(rounds):
        y += step
