"""Kernels of pooling: largest and average, of codes and floats, and their gradients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from kernel_calls import EPS, KERNELS, SPECIAL, Call, assert_equal, codes_of, design, normal

from tinyml._kernels import reference
from tinyml._kernels.products import fixed_point
from tinyml._kernels.products.windows import adaptive_spans, spans


def pools(rng: np.random.Generator) -> Iterator[tuple]:
    """(shape NHWC, rows, columns) of plain, padded, overlapping and adaptive pooling."""
    plain = ((2, 2, 0), (3, 2, 1), (3, 1, 1), (1, 1, 0), (2, 3, 1), (5, 4, 2))      # window, stride, padding
    for d in design(rng, images=(1, 2, 0, 5), h=(1, 4, 7), w=(1, 5, 12), c=(1, 0, 3, 16, 33, 64), y=plain, x=plain,
                    outputs=((1, 1), (2, 3), (4, 9), None, None)):
        h, w = (max(n, k - 2 * p) for n, (k, _, p) in zip((d.h, d.w), (d.y, d.x), strict=True))
        if d.outputs is None:
            yield (d.images, h, w, d.c), spans(h, *d.y), spans(w, *d.x)
        else:
            yield (d.images, h, w, d.c), adaptive_spans(h, d.outputs[0]), adaptive_spans(w, d.outputs[1])


def _counts(rows, columns):
    return np.outer(rows[:, 1] - rows[:, 0], columns[:, 1] - columns[:, 0]).astype(np.float32)


def max_pool_int8(rng, kernels):
    for shape, rows, columns in pools(rng):
        y = np.empty((shape[0], len(rows), len(columns), shape[3]), np.uint8)
        yield Call(shape, [codes_of(rng, np.uint8, *shape), rows, columns, y], (3,))


def avg_pool_int8(rng, kernels):
    for shape, rows, columns in pools(rng):
        y = np.empty((shape[0], len(rows), len(columns), shape[3]), np.uint8)
        m, s = fixed_point.multiplier(np.exp2(rng.uniform(-3, 3)) / _counts(rows, columns).astype(np.float64))
        yield Call(shape, [codes_of(rng, np.uint8, *shape), rows, columns, m, s, int(rng.choice([0, 100, 255])),
                           int(rng.choice([0, 128, 255])), y], (7,))


def max_pool_f32(rng, kernels):
    for shape, rows, columns in pools(rng):
        x = rng.integers(-3, 3, shape).astype(np.float32)       # many equals: the first must win
        x[rng.random(shape) < 0.1] = rng.choice(SPECIAL)
        out = (shape[0], len(rows), len(columns), shape[3])
        yield Call(shape, [x, rows, columns, np.empty(out, np.float32), np.empty(out, np.int32)], (3, 4),
                   lambda x, rows, columns, y, at: [0, 0])
        yield Call(shape, [x, rows, columns, np.empty(out, np.float32), None], (3,), lambda x, rows, columns, y, at: [0])


def max_pool_grad_f32(rng, kernels):
    for shape, rows, columns in pools(rng):
        out = (shape[0], len(rows), len(columns), shape[3])
        at = np.empty(out, np.int32)
        reference.max_pool_f32(normal(rng, *shape), rows, columns, np.empty(out, np.float32), at, 1)

        def bound(dy, at, dx):
            size = np.empty_like(dx)
            reference.max_pool_grad_f32(np.abs(dy), at, size, 1)
            return [at[0, ..., 0].size * EPS * size if at.size else size]

        yield Call(shape, [normal(rng, *out), at, np.empty(shape, np.float32)], (2,), bound)


def avg_pool_f32(rng, kernels):
    for shape, rows, columns in pools(rng):
        counts = _counts(rows, columns)

        def bound(x, rows, columns, divisor, y):
            size = np.empty_like(y)
            reference.avg_pool_f32(np.abs(x), rows, columns, divisor, size, 1)
            return [(divisor.max() + 2) * EPS * size]

        yield Call(shape, [normal(rng, *shape), rows, columns, counts,
                           np.empty((shape[0], *counts.shape, shape[3]), np.float32)], (4,), bound)


def avg_pool_grad_f32(rng, kernels):
    for shape, rows, columns in pools(rng):
        counts = _counts(rows, columns)

        def bound(dy, rows, columns, divisor, dx, terms=counts.size + 2):
            size = np.empty_like(dx)
            reference.avg_pool_grad_f32(np.abs(dy), rows, columns, divisor, size, 1)
            return [terms * EPS * size]

        yield Call(shape, [normal(rng, shape[0], *counts.shape, shape[3]), rows, columns, counts,
                           np.empty(shape, np.float32)], (4,), bound)


CASES = {"max_pool_int8": max_pool_int8, "avg_pool_int8": avg_pool_int8, "max_pool_f32": max_pool_f32,
         "max_pool_grad_f32": max_pool_grad_f32, "avg_pool_f32": avg_pool_f32, "avg_pool_grad_f32": avg_pool_grad_f32}


@pytest.mark.parametrize("isa", KERNELS)
@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(name, isa):
    assert_equal(name, isa, CASES[name])
