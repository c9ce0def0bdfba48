"""Kernels of codes: from floats and back, tables, requantization, sums and products."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from kernel_calls import KERNELS, SIZES, SPECIAL, Call, accumulators, assert_equal, codes_of, design, normal

from tinyml._kernels.products import fixed_point


def quantize(rng, kernels):
    for d in design(rng, n=SIZES, scale=(1, 0.1, 0.0173, 1e-30, 1e30, 2.0**-126), zero=(128, 0, 255, 7)):
        scale = np.float32(d.scale)
        # a third ties and whole codes, a third values that hardly clip, a third special
        x = np.where(rng.random(d.n) < 0.5, rng.integers(-600, 600, d.n) / 2, rng.uniform(-200, 200, d.n))
        x = np.where(rng.random(d.n) < 0.3, rng.choice(SPECIAL, d.n), x.astype(np.float32) * scale).astype(np.float32)
        yield Call(d, [x, scale, d.zero, np.empty(d.n, np.uint8)], (3,))


def quantize_images(rng, kernels):
    for d in design(rng, b=(1, 2, 0, 3), h=(1, 0, 2, 9), w=(1, 0, 5, 63, 64, 65, 200), c=(1, 0, 2, 3, 17), gap=(0, 1)):
        x = (normal(rng, d.b, d.c, d.h + d.gap, d.w + d.gap) * np.float32(90))[:, :, d.gap :, d.gap :].transpose(0, 2, 3, 1)
        x[rng.random(x.shape) < 0.02] = rng.choice(SPECIAL)
        yield Call(d, [x, np.float32(0.7), 100, np.empty(x.shape, np.uint8)], (3,))


def quantize_rows(rng, kernels):
    for d in design(rng, rows=(1, 0, 2, 3, 50), n=(1, 0, 2, 5, 17, 64, 1000)):
        size = rng.choice(np.float32([0, 1, 1e-44, 1e-39, 3.5e-36, 1e38, 0.01]), (d.rows, 1))
        x = (rng.integers(-254, 255, (d.rows, d.n)) / np.float32(254) * size).astype(np.float32)
        x[rng.random(x.shape) < 0.002 * (d.n > 20)] = rng.choice(SPECIAL)
        yield Call(d, [x, np.empty(d.rows, np.float32), np.empty(x.shape, np.uint8)], (1, 2))
    # every kind of bad or smallest row
    x = np.repeat(SPECIAL[:, None], 3, axis=1)
    x[:, 0] = 1e-41
    yield Call("special", [x, np.empty(len(x), np.float32), np.empty(x.shape, np.uint8)], (1, 2))


def dequantize(rng, kernels):
    for d in design(rng, n=SIZES, scale=(1, 0.1, 1e-37, 1e36), zero=(128, 0, 255, 7)):
        yield Call(d, [codes_of(rng, np.uint8, d.n), np.float32(d.scale), d.zero, np.empty(d.n, np.float32)], (3,))


def lookup(rng, kernels):
    for n in SIZES:
        yield Call(n, [codes_of(rng, np.uint8, n), codes_of(rng, np.uint8, 256), np.empty(n, np.uint8)], (2,))


def requantize_double(rng, kernels):
    for d in design(rng, rows=(1, 0, 2, 40), n=(1, 0, 3, 16, 33), clamp=((0, 255), (0, 255), (128, 200)),
                    zero=(128, 0, 255), exponent=((-40, 20), (-12, -2), (-1, 1), (0, 29))):
        m, s = fixed_point.multiplier(np.exp2(rng.uniform(*d.exponent, d.n)))
        yield Call(d, [accumulators(rng, d.rows, d.n), m, s, d.zero, *d.clamp, np.empty((d.rows, d.n), np.uint8)], (6,))


def add_codes(rng, kernels):
    for d in design(rng, n=SIZES, za=(0, 128, 255), zb=(128, 0, 255), a=(1e-3, 0.5, 1, 40, 2.0**20, 2.0**30 - 1),
                    b=(0.5, 1e-6, 1, 3, 2.0**30 - 1), signs=((1, 1), (1, -1), (-1, 1), (-1, -1)), zero=(128, 0, 255),
                    clamp=((0, 255), (0, 255), (128, 200))):
        (ma, mb), shift = fixed_point.shared_multipliers([d.a, d.b])
        yield Call(d, [codes_of(rng, np.uint8, d.n), codes_of(rng, np.uint8, d.n), d.za, d.zb, d.signs[0] * ma,
                       d.signs[1] * mb, shift, d.zero, *d.clamp, np.empty(d.n, np.uint8)], (10,))


def mul_codes(rng, kernels):
    for d in design(rng, n=SIZES, za=(0, 128, 255), zb=(128, 0, 255), zero=(128, 0, 255),
                    real=(0, 2.0**-60, 1e-9, 2.0**-16, 0.004, 0.5, 1, 40, 2.0**30 - 1),
                    clamp=((0, 255), (0, 255), (128, 200))):
        m, shift = fixed_point.multiplier(d.real)
        yield Call(d, [codes_of(rng, np.uint8, d.n), codes_of(rng, np.uint8, d.n), d.za, d.zb, int(m), int(shift), d.zero,
                       *d.clamp, np.empty(d.n, np.uint8)], (9,))


CASES = {"quantize": quantize, "quantize_images": quantize_images, "quantize_rows": quantize_rows, "dequantize": dequantize,
         "lookup": lookup, "requantize_double": requantize_double, "add_codes": add_codes, "mul_codes": mul_codes}


@pytest.mark.parametrize("isa", KERNELS)
@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(name, isa):
    assert_equal(name, isa, CASES[name])


@pytest.mark.parametrize("isa", KERNELS)
def test_sums_and_products_of_codes_are_exact(isa):
    """What the reference computes in int64 too: all pairs of extreme codes, in Python's integers, at every shift."""
    grid = np.uint8([0, 1, 127, 128, 254, 255])
    a, b = (np.ascontiguousarray(v.reshape(-1)) for v in np.meshgrid(grid, grid))
    largest = 2**31 - 1
    for shift, zero, za, zb in itertools.product(range(1, 56), (0, 128, 255), (0, 100, 255), (0, 255)):
        def close(v, shift=shift, zero=zero):
            return min(max(zero + ((v + 2 ** (shift - 1)) >> shift), 0), 255)

        y = np.empty(a.size, np.uint8)
        for ma, mb in ((largest, largest), (largest, -largest), (-largest, 3)):
            KERNELS[isa].add_codes(a, b, za, zb, ma, mb, shift, zero, 0, 255, y, 1)
            assert y.tolist() == [close((i - za) * ma + (j - zb) * mb) for i, j in zip(a.tolist(), b.tolist(), strict=True)]
        for m in (largest, 2**30, 1, 0):
            KERNELS[isa].mul_codes(a, b, za, zb, m, shift, zero, 0, 255, y, 1)
            assert y.tolist() == [close((i - za) * (j - zb) * m) for i, j in zip(a.tolist(), b.tolist(), strict=True)]
