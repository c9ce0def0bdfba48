"""Pooling of codes and of floats."""

from collections.abc import Iterator

import numpy as np


def _windows(rows: np.ndarray, columns: np.ndarray) -> Iterator[tuple[int, int, slice, slice]]:
    for i, (y0, y1) in enumerate(rows):
        for j, (x0, x1) in enumerate(columns):
            yield i, j, slice(y0, y1), slice(x0, x1)


def max_pool_int8(x: np.ndarray, rows: np.ndarray, columns: np.ndarray, y: np.ndarray, threads: int) -> None:
    """The largest code of each window."""
    for i, j, ys, xs in _windows(rows, columns):
        y[:, i, j] = x[:, ys, xs].max(axis=(1, 2))


def avg_pool_int8(x: np.ndarray, rows: np.ndarray, columns: np.ndarray, m: np.ndarray, shift: np.ndarray, zero_in: int,
                  zero_out: int, y: np.ndarray, threads: int) -> None:
    """Equation (8)."""
    for i, j, ys, xs in _windows(rows, columns):
        total = (x[:, ys, xs].astype(np.int64) - zero_in).sum(axis=(1, 2))
        y[:, i, j] = np.clip(zero_out + ((total * m[i, j] + (np.int64(1) << (shift[i, j] - 1))) >> shift[i, j]), 0, 255)


def max_pool_f32(x: np.ndarray, rows: np.ndarray, columns: np.ndarray, y: np.ndarray, at: np.ndarray | None,
                 threads: int) -> None:
    """The largest value of each window: of equal values the first; a NaN above all, of several the last, as in PyTorch."""
    width = x.shape[2]
    for i, j, ys, xs in _windows(rows, columns):
        window = x[:, ys, xs]
        flat = window.reshape(x.shape[0], window.shape[1] * window.shape[2], x.shape[3])
        nan = np.isnan(flat)
        best = np.where(nan.any(axis=1), flat.shape[1] - 1 - nan[:, ::-1].argmax(axis=1), flat.argmax(axis=1))
        y[:, i, j] = np.take_along_axis(flat, best[:, None], axis=1)[:, 0]
        inner = window.shape[2]
        if at is not None:
            at[:, i, j] = (ys.start + best // inner) * width + xs.start + best % inner


def max_pool_grad_f32(dy: np.ndarray, at: np.ndarray, dx: np.ndarray, threads: int) -> None:
    """Each gradient is added to the pixel that was the maximum."""
    dx[...] = 0
    flat = dx.reshape(dx.shape[0], dx.shape[1] * dx.shape[2], dx.shape[3])
    b, c = np.arange(dx.shape[0])[:, None], np.arange(dx.shape[3])[None, :]
    for i in range(dy.shape[1]):
        for j in range(dy.shape[2]):
            flat[b, at[:, i, j], c] += dy[:, i, j]


def avg_pool_f32(x: np.ndarray, rows: np.ndarray, columns: np.ndarray, divisor: np.ndarray, y: np.ndarray,
                 threads: int) -> None:
    """The sum of each window / divisor."""
    for i, j, ys, xs in _windows(rows, columns):
        y[:, i, j] = x[:, ys, xs].sum(axis=(1, 2)) / divisor[i, j]


def avg_pool_grad_f32(dy: np.ndarray, rows: np.ndarray, columns: np.ndarray, divisor: np.ndarray, dx: np.ndarray,
                      threads: int) -> None:
    """Each gradient / divisor is added to all pixels of its window."""
    dx[...] = 0
    for i, j, ys, xs in _windows(rows, columns):
        dx[:, ys, xs] += (dy[:, i, j] / divisor[i, j])[:, None, None]
