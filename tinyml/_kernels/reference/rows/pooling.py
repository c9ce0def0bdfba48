"""Pooling of codes and of floats."""

import numpy as np


def _windows(rows, columns):
    for i, (y0, y1) in enumerate(rows):
        for j, (x0, x1) in enumerate(columns):
            yield i, j, slice(y0, y1), slice(x0, x1)


def max_pool_int8(x, rows, columns, y, threads):
    """The largest code of each window."""
    for i, j, ys, xs in _windows(rows, columns):
        y[:, i, j] = x[:, ys, xs].max(axis=(1, 2))


def avg_pool_int8(x, rows, columns, m, shift, zero_in, zero_out, y, threads):
    """Equation (8)."""
    for i, j, ys, xs in _windows(rows, columns):
        total = (x[:, ys, xs].astype(np.int64) - zero_in).sum(axis=(1, 2))
        y[:, i, j] = np.clip(zero_out + ((total * m[i, j] + (np.int64(1) << (shift[i, j] - 1))) >> shift[i, j]), 0, 255)


def max_pool_f32(x, rows, columns, y, at, threads):
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


def max_pool_grad_f32(dy, at, dx, threads):
    """Each gradient is added to the pixel that was the maximum."""
    dx[...] = 0
    flat = dx.reshape(dx.shape[0], dx.shape[1] * dx.shape[2], dx.shape[3])
    b, c = np.arange(dx.shape[0])[:, None], np.arange(dx.shape[3])[None, :]
    for i in range(dy.shape[1]):
        for j in range(dy.shape[2]):
            flat[b, at[:, i, j], c] += dy[:, i, j]


def avg_pool_f32(x, rows, columns, divisor, y, threads):
    """The sum of each window / divisor."""
    for i, j, ys, xs in _windows(rows, columns):
        y[:, i, j] = x[:, ys, xs].sum(axis=(1, 2)) / divisor[i, j]


def avg_pool_grad_f32(dy, rows, columns, divisor, dx, threads):
    """Each gradient / divisor is added to all pixels of its window."""
    dx[...] = 0
    for i, j, ys, xs in _windows(rows, columns):
        dx[:, ys, xs] += (dy[:, i, j] / divisor[i, j])[:, None, None]
