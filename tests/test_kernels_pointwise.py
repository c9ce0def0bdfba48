"""Kernels of functions of single elements: activations, fake quantization, dropout; and sums of rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from kernel_calls import EPS, KERNELS, SIZES, Call, around_zero, assert_equal, design, normal, tables

from tinyml._kernels import reference
from tinyml._kernels.reference.rows.dropout import philox
from tinyml._kernels.table import ACTIVATIONS


def _function(bound: Callable) -> Callable:
    """Cases of y = f(x), off by up to bound(|x|, |y|)."""
    def cases(rng, kernels):
        for n in SIZES:
            yield Call(n, [around_zero(rng, n), np.empty(n, np.float32)], (1,),
                       lambda x, y: [bound(np.abs(np.nan_to_num(x)), np.abs(np.nan_to_num(y))) + 2.0**-149])
    return cases


def _gradient(operand: Callable) -> Callable:
    """Cases of dx = dy * f'(x), given operand(x): the function's input or its output."""
    def cases(rng, kernels):
        for n in SIZES:
            x = operand(around_zero(rng, n)).astype(np.float32)
            yield Call(n, [x, normal(rng, n), np.empty(n, np.float32)], (2,), lambda x, dy, dx: [4 * EPS * np.abs(dy)])
    return cases


# Each function's own error, in ulp and over all floats, is tested in test_vector_math.py.
of_value, of_operand = _function(lambda x, y: 4 * EPS * y), _function(lambda x, y: 4 * EPS * x)
grad_of_value, grad = _gradient(np.tanh), _gradient(np.array)


def relu_grad(rng, kernels):
    for n in SIZES:
        yield Call(n, [around_zero(rng, n), around_zero(rng, n), np.empty(n, np.float32)], (2,))


def fake_quantize(rng, kernels):
    for rows, n in [(1, n) for n in (0, 1, 63, 5000)] + [(5, 9), (3, 4100), (0, 4)]:
        x = around_zero(rng, rows * n).reshape(rows, n)
        scale = np.float32(rng.choice([1e-3, 0.02, 3], rows))
        for zero, lo, hi in ((-128, -128, 127), (5, -128, 127), (0, -127, 127), (0, -2**31, 2**31 - 1)):
            yield Call((rows, n, zero), [x, scale, float(zero), float(lo), float(hi), np.empty((rows, n), np.float32),
                                         np.empty((rows, n), np.uint8)], (5, 6))


def dropout(rng, kernels):
    keys, least = (0, 1, 2**32, 2**64 - 1, 0x0123456789ABCDEF), (0, 1, 2**31, 2**31 - 1, 2**32 - 1, 10**9)
    for d in design(rng, n=(*SIZES, 31, 32, 33, 64, 127, 128, 129), key=keys, least=least):
        yield Call(d, [around_zero(rng, d.n), d.key, d.least, float(np.float32(1.25)), np.empty(d.n, np.float32)], (4,))


# ---- sums of rows


def sum_columns(rng, kernels):
    """One table of many shapes, and several: whole ones to a thread, and ones in chunks."""
    for p, c, x in tables(rng):
        yield Call((p, c), [x[None], np.empty((1, c), np.float32)], (1,), lambda x, y: [4 * EPS * np.abs(x).sum(axis=1)])
    for d in design(rng, b=(1, 0, 2, 5, 40), p=(1, 0, 7, 8, 9, 64, 600, 1100), c=(1, 0, 3, 16, 17, 70)):
        yield Call(d, [normal(rng, d.b, d.p, d.c), np.empty((d.b, d.c), np.float32)], (1,),
                   lambda x, y: [4 * EPS * np.abs(x).sum(axis=1)])


def grad_sum(rng, kernels):
    """Rows around the eight of one float sum and the 128 of a chunk, columns around the 256 of a strip."""
    def bound(activation, x, dy, dx, db):
        off = 4 * EPS * np.abs(dy)
        return [off, off.sum(axis=0) + 4 * EPS * np.abs(dx).sum(axis=0)]

    for activation in range(1, len(ACTIVATIONS)):
        for d in design(rng, p=(1, 0, 2, 7, 8, 9, 15, 127, 128, 129, 300), c=(1, 0, 2, 5, 16, 33, 255, 256, 257, 600)):
            x = around_zero(rng, d.p * d.c).reshape(d.p, d.c)
            yield Call((ACTIVATIONS[activation], d), [activation, x, normal(rng, d.p, d.c), np.empty_like(x),
                                                      np.empty(d.c, np.float32)], (3, 4), bound)


def scatter_rows(rng, kernels):
    def bound(x, ids, clear, y):
        size = np.empty_like(y)
        reference.scatter_rows_f32(np.abs(x), ids, True, size, 1)
        return [4 * EPS * size]

    # ids of one, two and three digits of the sort
    for d in design(rng, p=(1, 0, 2, 9, 70, 700), c=(1, 0, 2, 17, 127, 128, 129, 400), v=(1, 2, 70, 2048, 2049, 5_000_000)):
        if d.v * d.c > 5_000_000:
            continue
        ids = rng.integers(0, d.v, d.p)
        yield Call(d, [normal(rng, d.p, d.c), ids, True, np.empty((d.v, d.c), np.float32)], (3,), bound)


def indices(rng, d) -> np.ndarray:
    """An index, one that names whole rows, and one with a number that is not there."""
    index = rng.integers(0, d.n, (d.a, d.p, d.c))
    if d.kind == "rows":
        return np.broadcast_to(index[:, :, :1], index.shape)
    if d.kind == "outside" and index.size:
        index[-1, -1, -1] = rng.choice([-1, d.n])
    return index


def gather(rng, kernels):
    for d in design(rng, a=(1, 0, 3), n=(1, 2, 70), p=(1, 0, 5, 40), c=(1, 0, 2, 17), kind=("each", "rows", "outside")):
        x, index = normal(rng, d.a, d.n, d.c), indices(rng, d)
        y = np.zeros(index.shape, np.float32)
        assert kernels.gather_f32(x, index, y.copy(), 1) == reference.gather_f32(x, index, y.copy(), 1)
        if d.kind != "outside":
            yield Call(d, [x, index, y], (2,))


def scatter(rng, kernels):
    def bound(x, index, add, y):
        size = np.zeros_like(y)
        reference.scatter_f32(np.abs(x), index, True, size, 1)
        return [40 * EPS * size + EPS]

    for d in design(rng, a=(1, 0, 3), n=(1, 2, 70), p=(1, 0, 5, 40), c=(1, 0, 2, 17), kind=("each", "rows", "outside"),
                    add=(True, False)):
        x, index, y = normal(rng, d.a, d.p, d.c), indices(rng, d), normal(rng, d.a, d.n, d.c)
        assert kernels.scatter_f32(x, index, d.add, y.copy(), 1) == reference.scatter_f32(x, index, d.add, y.copy(), 1)
        if d.kind != "outside":
            yield Call(d, [x, index, d.add, y], (3,), bound, updated=(3,))


CASES = {
    "exp_f32": of_value, "tanh_f32": of_value, "tanh_grad_f32": grad_of_value, "sigmoid_f32": of_value,
    "sigmoid_grad_f32": grad_of_value, "silu_f32": of_operand, "silu_grad_f32": grad, "gelu_f32": of_operand,
    "gelu_grad_f32": grad, "gelu_tanh_f32": of_operand, "gelu_tanh_grad_f32": grad, "relu_grad_f32": relu_grad,
    "fake_quantize_f32": fake_quantize, "sum_columns_f32": sum_columns,
    "activation_grad_sum_f32": grad_sum, "scatter_rows_f32": scatter_rows, "dropout_f32": dropout,
    "gather_f32": gather, "scatter_f32": scatter,
}


@pytest.mark.parametrize("isa", KERNELS)
@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(name, isa):
    assert_equal(name, isa, CASES[name])


@pytest.mark.parametrize("counter, key, words", [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
     (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
])
def test_philox_gives_the_published_words(counter, key, words):
    """The known answers of the authors' Random123."""
    assert philox([counter], key)[0].tolist() == list(words)
