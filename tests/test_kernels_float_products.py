"""Kernels of float products: matrices, few rows, convolutions and their gradients, packing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from kernel_calls import COLUMNS, DEPTHS, EPS, KERNELS, ROWS, Call, Convolution, assert_equal, convolutions, design, normal

from tinyml._kernels import memory, reference
from tinyml._kernels.layout import nchw, nhwc
from tinyml._kernels.products import convolution
from tinyml._kernels.products.matmul import FEW, matmul


def layout(rng: np.random.Generator, how: str, *shape: int) -> np.ndarray:
    """Normal values [S][M][K] in many memory layouts: the product must read any strides."""
    s, m, k = shape
    if how == "transposed":
        return normal(rng, s, k, m).transpose(0, 2, 1)
    if how == "reversed":
        return normal(rng, s, m, k)[:, ::-1, ::-1]
    if how == "gaps":
        return normal(rng, s, 3 * m, 2 * k)[:, ::3, ::2]
    if how == "stretched":
        return np.broadcast_to(normal(rng, 1, m, k), shape)
    if how == "on lines":
        return memory.align(normal(rng, *shape))
    return normal(rng, *shape)


LAYOUTS = ("plain", "transposed", "reversed", "gaps", "stretched", "on lines")


def gemm(rng, kernels):
    # the large ones: several rounds of packed panels, parts of K and groups of rows
    for d in [*design(rng, s=(1, 2, 0, 3), m=ROWS, k=DEPTHS, n=COLUMNS, bias=(True, False), a=LAYOUTS, b=LAYOUTS),
              *design(rng, s=(1,), m=(110,), k=(600,), n=(70, 300), bias=(True,), a=LAYOUTS[:2],
                       b=("plain", "transposed", "on lines"))]:
        def bound(a, b, bias, c, k=d.k):
            return [(k + 2) * EPS * (np.abs(a) @ np.abs(b) + (0 if bias is None else np.abs(bias)))]

        yield Call(d, [layout(rng, d.a, d.s, d.m, d.k), layout(rng, d.b, d.s, d.k, d.n),
                       normal(rng, d.n) if d.bias else None, np.empty((d.s, d.m, d.n), np.float32)], (3,), bound)


def few_rows(rng, kernels, half=False):
    for d in design(rng, s=(1, 2, 0, 3), m=(1, 0, 2, 3, 4, 5, 8, 9), k=DEPTHS, n=COLUMNS, bias=(True, False),
                    gaps=(True, False)):
        # rows of x and w with something between them, or none
        x, w = (normal(rng, d.s, r * (1 + d.gaps), d.k + 3 * d.gaps)[:, :: 1 + d.gaps, : d.k] for r in (d.m, d.n))
        if half:
            w = w.astype(np.float16)
            w[rng.random(w.shape) < 0.1] = rng.choice(np.float16([0, -0.0, 2**-24, -1e-5, 2**-14, 65504, -65504]))

        def bound(x, w, bias, y, k=d.k):
            w = np.abs(w.view(np.float16).astype(np.float64) if half else w)
            return [(k + 2) * EPS * (np.abs(x) @ w.swapaxes(1, 2) + (0 if bias is None else np.abs(bias)))]

        yield Call(d, [x, w.view(np.uint16) if half else w, normal(rng, d.n) if d.bias else None,
                       np.empty((d.s, d.m, d.n), np.float32)], (3,), bound)
    if half:    # every float16 there is, each an output of its own
        w = np.arange(2**16, dtype=np.uint16).reshape(1, -1, 1)
        yield Call("all", [np.ones((1, 1, 1), np.float32), w, None, np.empty((1, 1, 2**16), np.float32)], (3,),
                   lambda x, w, bias, y: [0])


def few_rows_f16(rng, kernels):
    yield from few_rows(rng, kernels, half=True)


def float_layers(rng: np.random.Generator) -> Iterator[tuple[Convolution, np.ndarray]]:
    """Convolutions, and their weights [G][taps][K][N] in the memory order of a forward pass or of its gradient."""
    for i, c in enumerate(convolutions(rng, transposed=(False, True))):
        g, taps = c.window.groups, c.window.taps
        yield c, (normal(rng, g, c.n, c.k, taps).transpose(0, 3, 2, 1) if i % 2 else
                  normal(rng, g, c.k, c.n, taps).transpose(0, 3, 1, 2))


def pack(rng, kernels):
    for c, weight in float_layers(rng):
        packed = np.empty_like(convolution.pack(weight, kernels))
        yield Call(c, [weight.transpose(2, 1, 3, 0) if c.depthwise else weight, packed], (1,), lambda w, packed: [0])


def product_f32(rng, kernels):
    for i, (c, weight) in enumerate(float_layers(rng)):
        def bound(x, packed, bias, lo, hi, y, shape, terms=c.window.taps * c.k + 2):
            size = np.empty_like(y)
            reference.product_f32(np.abs(x), np.abs(packed), None if bias is None else np.abs(bias), -np.inf, np.inf, size,
                                  shape, 1)
            return [terms * EPS * size]

        lo, hi = [(-np.inf, np.inf), (0.0, np.inf), (0.0, 0.5)][rng.integers(3)]
        x = normal(rng, *c.read, c.channels)
        if i % 5 == 0:
            x[rng.random(x.shape) < 0.01] = np.nan      # a clamp lets it through
        yield Call(c, [x, convolution.pack(weight, kernels), normal(rng, c.window.groups * c.n) if i % 3 else None, lo, hi,
                       np.empty((*c.written, c.window.groups * c.n), np.float32), c.shape()], (5,), bound)


def conv2d_grad_weight(rng, kernels):
    for c in convolutions(rng):
        g, pixels = c.window.groups, int(np.prod(c.written))

        def bound(x, dy, dw, shape, terms=pixels + 2):
            size = np.empty_like(dw)
            reference.conv2d_grad_weight_f32(np.abs(x), np.abs(dy), size, shape, 1)
            return [terms * EPS * size]

        yield Call(c, [normal(rng, *c.read, g * c.k), normal(rng, *c.written, g * c.n),
                       np.empty((g, c.window.taps, c.k, c.n), np.float32),
                       c.shape()], (2,), bound)


CASES = {"gemm_f32": gemm, "few_rows_f32": few_rows, "few_rows_f16": few_rows_f16, "pack_f32": pack,
         "product_f32": product_f32, "conv2d_grad_weight_f32": conv2d_grad_weight}


@pytest.mark.parametrize("isa", KERNELS)
@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(name, isa):
    assert_equal(name, isa, CASES[name])


def test_matmul_takes_any_layout_and_float16():
    """Few rows and many, the kernels that read weights as they lie and the one that packs them, leading dimensions."""
    rng = np.random.default_rng(5)
    leads = (((), ()), ((2,), ()), ((), (3,)), ((2, 1), (1, 3)), ((2,), (2,)))
    for d in design(rng, m=(1, 2, FEW, FEW + 1), k=(1, 0, 5, 40), n=(1, 7, 33), a=LAYOUTS, b=LAYOUTS,
                    lead=leads, half=(True, False), bias=(True, False)):
        a, b = (layout(rng, how, int(np.prod(lead)), *size).reshape(*lead, *size) for how, lead, size in (
            (d.a, d.lead[0], (d.m, d.k)), (d.b, d.lead[1], (d.k, d.n))))
        bias = normal(rng, d.n) if d.bias else None
        b = b.astype(np.float16) if d.half else b
        y = matmul(a, b, bias)
        wide = [0 if v is None else v.astype(np.float64) for v in (a, b, bias)]
        allowed = (d.k + 2) * EPS * (np.abs(wide[0]) @ np.abs(wide[1]) + np.abs(wide[2]))
        assert y.dtype == np.float32 and (np.abs(y - (wide[0] @ wide[1] + wide[2])) <= allowed).all(), d
        if d.half:      # the sums of the values as float32, to the bit
            assert y.tobytes() == matmul(a, b.astype(np.float32), bias).tobytes(), d


@pytest.mark.parametrize("isa", KERNELS)
def test_float_layers_keep_what_they_were_given(isa):
    """Packing, which the reference shares: against a convolution by the weights themselves, in float64."""
    rng = np.random.default_rng(4)
    for c in convolutions(rng):
        weight, bias = normal(rng, c.window.groups * c.n, c.k, *c.window.size), normal(rng, c.window.groups * c.n)
        layer = convolution.FloatLayer(weight, bias, c.window, 0, 2, KERNELS[isa])
        x = normal(rng, *c.read, c.channels)
        exact, size = (nhwc(convolution.conv2d(nchw(part(x).astype(float)), part(weight).astype(float),
                                          part(bias).astype(float), c.window)) for part in (np.array, np.abs))
        bound = (c.window.taps * c.k + 2) * EPS * size
        assert (np.abs(layer.run(x) - exact.clip(0, 2)) <= bound).all(), c
        assert (layer.unpacked() == weight).all(), c
