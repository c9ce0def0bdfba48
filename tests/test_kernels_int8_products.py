"""Kernels of integer products: packed layers, whose results are codes, floats or sums, and weights as they lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernel_calls import KERNELS, Call, assert_equal, codes_of, convolutions, design, normal

from tinyml._kernels.products import integer_layer
from tinyml._kernels.reference.products.convolution import conv2d


def integer_layers(rng: np.random.Generator, kernels: Any):
    """Packed layers with the codes they were packed from, and inputs; biases up to the ends of int32."""
    for i, c in enumerate(convolutions(rng)):
        g, total = c.window.groups, c.window.groups * c.n
        codes = codes_of(rng, np.int8, total, c.k, *c.window.size)
        reach = 2**31 if i % 3 == 1 else 3000
        bias = None if i % 3 == 0 else rng.integers(-reach, reach, total)
        real = np.exp2(rng.uniform(-22, -2, total)) if i % 4 else rng.choice([0, 2.0**-40, 0.5, 1, 3, 2.0**20], total)
        lo, hi = [(-128, 127), (-128, 127), (-3, 90), (5, 5)][rng.integers(4)]
        requant = integer_layer.Requant(real, int(rng.choice([-128, 0, 9, 127])), lo, hi)
        layer = integer_layer.IntegerLayer(codes, bias, int(rng.choice([-128, 0, 5, 127])), c.window, requant, kernels)
        yield c, layer, codes, bias, codes_of(rng, np.uint8, *c.read, g * c.k)


def product_int8(rng, kernels):
    for c, layer, *_, x in integer_layers(rng, kernels):
        y = np.empty((*c.written, layer.n * layer.groups), np.uint8)
        yield Call(c, [x, layer.weight, layer.bias, layer.block, y, c.shape(4), layer.n, layer.zero_point + 128,
                       layer.saturate, layer.requant.lo + 128, layer.requant.hi + 128], (4,), codes=(0, 7),
                   offset=kernels.offset)


def product_int8_f32(rng, kernels):
    for i, (c, layer, *_, x) in enumerate(integer_layers(rng, kernels)):
        total = layer.n * layer.groups
        rows = np.exp2(rng.uniform(-9, 3, int(np.prod(c.written)))).astype(np.float32)
        columns = np.exp2(rng.uniform(-9, 3, total)).astype(np.float32)
        rows[rng.random(len(rows)) < 0.1] = np.nan      # the scale of a row that was not finite
        y = np.empty((*c.written, total), np.float32)
        yield Call(c, [x, layer.weight, layer.bias, rows, columns, normal(rng, total) if i % 2 else None, y,
                       c.shape(4), layer.n, layer.zero_point + 128], (6,), codes=(0, 9), offset=kernels.offset)


def product_int8_i32(rng, kernels):
    for c, layer, *_, x in integer_layers(rng, kernels):
        y = np.empty((*c.written, layer.n * layer.groups), np.int32)
        yield Call(c, [x, layer.weight, layer.bias, y, c.shape(4), layer.n, layer.zero_point + 128], (3,), codes=(0, 6),
                   offset=kernels.offset)


def dynamic_linear(rng, kernels):
    """Weights as they lie: whole vectors and rows and what is left of them, in one group or many."""
    for d in design(rng, m=(1, 0, 2, 3, 7, 13, 40), k=(1, 3, 4, 31, 32, 63, 64, 65, 96, 130, 160, 320),
                    n=(1, 0, 3, 8, 15, 16, 17, 48, 64, 70, 130), group=(None, 32, 64)):
        x, scale = normal(rng, d.m, d.k), np.exp2(rng.uniform(-9, 3, (d.n, -(-d.k // (d.group or d.k))))).astype(np.float32)
        x[rng.random(d.m) < 0.1] *= np.float32(1e-38)       # scales below the normal floats
        x[rng.random(x.shape) < 0.5 / d.k] = rng.choice([np.nan, np.inf, 0])
        yield Call(d, [x, codes_of(rng, np.int8, d.n, d.k), scale, normal(rng, d.n) if rng.random() < 0.5 else None,
                       d.group or d.k, 0, np.empty((d.m, d.n), np.float32)], (6,))


CASES = {"product_int8": product_int8, "product_int8_f32": product_int8_f32, "product_int8_i32": product_int8_i32,
         "dynamic_linear_few_rows": dynamic_linear, "dynamic_linear_many_rows": dynamic_linear}


@pytest.mark.parametrize("isa", KERNELS)
@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(name, isa):
    assert_equal(name, isa, CASES[name])


@pytest.mark.parametrize("isa", KERNELS)
def test_integer_layers_sum_what_they_were_given(isa):
    """Folding and packing, which the reference shares: against a convolution of q - z by the unpacked codes."""
    for c, layer, codes, bias, x in integer_layers(np.random.default_rng(3), KERNELS[isa]):
        g = c.window.groups
        weight = codes.astype(np.float64).reshape(g, c.n, c.k, c.window.taps).transpose(0, 3, 2, 1)
        expected = np.empty((*c.written, g * c.n))      # float64 holds these sums exactly
        conv2d(x - (128.0 + layer.zero_point), weight, bias, expected, c.shape())
        wrapped = expected.astype(np.int64).astype(np.int32)
        assert (layer.accumulators(x) == wrapped).all(), c
        rows, columns = normal(np.random.default_rng(0), len(x)), normal(np.random.default_rng(1), g * c.n)
        floats = wrapped.astype(np.float32) * (rows[:, None, None, None] * columns)
        assert (layer.floats(x, rows, columns, None) == floats).all(), c
        assert (layer.unpacked() == codes).all(), c
