"""Every function of the kernel table against its twin in reference/, on every instruction set that this CPU runs.

Integers and codes must agree byte for byte, floats within a bound derived from the lengths of their sums, and any
number of threads must give the same bytes. Run as a program, the file repeats the calls between protected pages.
"""

from __future__ import annotations

import ctypes
import inspect
import itertools
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from processes import run_python

from tinyml._kernels import convolution, dispatch, fixed_point, floats, integers, reference, table
from tinyml._kernels.windows import Window, adaptive_spans, spans, sweep

KERNELS = {isa: dispatch.load(isa) for isa in dispatch.available()}
FUNCTIONS = [function for functions in table.KERNELS.values() for function in functions]
EPS = 2.0**-23      # spacing of float32 at 1: twice the error of one rounding
GARBAGE = {"f": np.float32(1e30), "u": 0x7F, "i": 0x7F7F7F7F}       # what outputs hold before a call


@dataclass
class Call:
    """One call of a kernel: its arguments without the threads, which of them it writes, how far floats may be off."""

    about: Any
    args: list
    outputs: tuple[int, ...]
    bound: Callable[..., list] | None = None    # float64 arguments with results -> allowed error of each output
    codes: tuple[int, ...] = ()     # arguments that the reference sees less ...
    offset: int = 0                 # ... what this instruction set takes off codes
    updated: tuple[int, ...] = ()   # outputs that are read before they are written


def design(rng: np.random.Generator, **values: tuple) -> Iterator[SimpleNamespace]:
    """Combinations in which every value of every dimension comes up at least three times (a Latin hypercube)."""
    count = 3 * max(len(v) for v in values.values())
    columns = {}
    for name, choices in values.items():
        columns[name] = rng.permutation([i % len(choices) for i in range(count)])
    for i in range(count):
        yield SimpleNamespace(**{name: values[name][column[i]] for name, column in columns.items()})


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


# Remainders around the tile heights (6, 12, 16), blocks (48, 96), vectors (4, 8, 16) and panels (up to 64) of all builds.
ROWS = (1, 0, 2, 5, 6, 7, 11, 12, 13, 15, 16, 17, 47, 48, 49, 97, 200)
DEPTHS = (1, 0, 2, 3, 4, 5, 7, 8, 31, 70)
COLUMNS = (1, 0, 3, 4, 5, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130)


# ---- float products


def layout(rng: np.random.Generator, how: str, *shape: int) -> np.ndarray:
    """Normal values [S][M][K] in memory of many kinds: the product must read any strides."""
    s, m, k = shape
    if how == "transposed":
        return normal(rng, s, k, m).transpose(0, 2, 1)
    if how == "reversed":
        return normal(rng, s, m, k)[:, ::-1, ::-1]
    if how == "gaps":
        return normal(rng, s, 3 * m, 2 * k)[:, ::3, ::2]
    if how == "stretched":
        return np.broadcast_to(normal(rng, 1, m, k), shape)
    return normal(rng, *shape)


LAYOUTS = ("plain", "transposed", "reversed", "gaps", "stretched")


def gemm(rng, kernels):
    for d in design(rng, s=(1, 2, 0, 3), m=ROWS, k=DEPTHS, n=COLUMNS, bias=(True, False), a=LAYOUTS, b=LAYOUTS):
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


@dataclass
class Convolution:
    """Sizes of one convolution: a product of many rows is one of 1x1 windows over images of one pixel."""

    window: Window
    read: tuple[int, int, int]          # images, height, width of what is read ...
    written: tuple[int, int, int]       # ... and of what is written
    k: int
    n: int
    transposed: tuple[int, int] | None = None

    @property
    def channels(self) -> int:
        return self.k * self.window.groups

    @property
    def depthwise(self) -> bool:
        return self.window.groups > 1 and self.k == self.n == 1

    def shape(self, multiple: int = 1) -> np.ndarray:
        """What kernels read of the geometry; `multiple` as in windows.sweep."""
        return sweep((*self.read, self.channels), self.window, self.transposed, self.depthwise, multiple)[0]


def convolutions(rng: np.random.Generator, transposed: tuple = (False,)) -> Iterator[Convolution]:
    for d in design(rng, m=ROWS, k=DEPTHS, n=COLUMNS):
        yield Convolution(Window(), (d.m, 1, 1), (d.m, 1, 1), d.k, d.n)
    pairs = ((1, 1), (2, 1), (1, 2), (2, 3))
    for d in design(rng, images=(1, 2, 3, 0), h=(1, 4, 7, 12), w=(1, 3, 6, 13), kh=(1, 2, 3), kw=(3, 1, 2),
                    stride=pairs, padding=((0, 0), (1, 1), (2, 0), (0, 2)), dilation=pairs, groups=(1, 2, 1, 3),
                    transposed=transposed, k=(1, 2, 3, 4, 6, 9, 50), n=(1, 2, 5, 8, 13, 16, 20, 33, 70)):
        window = Window((d.kh, d.kw), d.stride, d.padding, d.dilation, d.groups)
        # at least one output
        h, w = (max(n, r * (t - 1) + 1 - 2 * p)
                for n, r, t, p in zip((d.h, d.w), d.dilation, window.size, d.padding, strict=True))
        image, out = (d.images, h, w), (d.images, *window.output(h, w))
        read, written = (out, image) if d.transposed else (image, out)
        yield Convolution(window, read, written, d.k, d.n, (h, w) if d.transposed else None)


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


# ---- integer products


def codes_of(rng: np.random.Generator, dtype: type, *shape: int) -> np.ndarray:
    """Codes that make the largest sums (one extreme, or extremes that alternate) as often as random ones."""
    info = np.iinfo(dtype)
    kind = rng.integers(4)
    if kind == 0:
        return np.full(shape, rng.choice([info.min, info.max]), dtype)
    if kind == 1:
        return rng.choice([info.min, info.max], shape).astype(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


def integer_layers(rng: np.random.Generator, kernels: Any):
    """Packed layers with the codes they were packed from, and inputs; biases up to the ends of int32."""
    for i, c in enumerate(convolutions(rng)):
        g, total = c.window.groups, c.window.groups * c.n
        codes = codes_of(rng, np.int8, total, c.k, *c.window.size)
        reach = 2**31 if i % 3 == 1 else 3000
        bias = None if i % 3 == 0 else rng.integers(-reach, reach, total)
        real = np.exp2(rng.uniform(-22, -2, total)) if i % 4 else rng.choice([0, 2.0**-40, 0.5, 1, 3, 2.0**20], total)
        lo, hi = [(-128, 127), (-128, 127), (-3, 90), (5, 5)][rng.integers(4)]
        requant = integers.Requant(real, int(rng.choice([-128, 0, 9, 127])), lo, hi)
        layer = integers.IntegerLayer(codes, bias, int(rng.choice([-128, 0, 5, 127])), c.window, requant, kernels)
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


def linear_int8(rng, kernels):
    """Weights as they lie: whole vectors and rows and what is left of them, in one group or many."""
    for d in design(rng, m=(1, 0, 2, 3, 7, 13, 40), k=(1, 3, 4, 31, 32, 63, 64, 65, 96, 130, 160, 320),
                    n=(1, 0, 3, 8, 15, 16, 17, 48, 64, 70, 130), group=(None, 32, 64)):
        groups = 1 if d.group is None else -(-d.k // d.group)
        wide = max(-(-d.k // 4) * 4, groups * (d.group or 0))
        scales = [np.exp2(rng.uniform(-9, 3, (rows, groups))).astype(np.float32) for rows in (d.m, d.n)]
        scales[0][rng.random(scales[0].shape) < 0.05] = np.nan      # of a row that was not finite
        yield Call(d, [codes_of(rng, np.uint8, d.m, wide), scales[0], codes_of(rng, np.int8, d.n, d.k), scales[1],
                       normal(rng, d.n) if rng.random() < 0.5 else None, d.group or d.k,
                       np.empty((d.m, d.n), np.float32)], (6,))


# ---- codes


SIZES = (1, 0, 2, 15, 16, 17, 63, 65, 1000, 4095, 4096, 4097, 9000)
SPECIAL = np.array([0, -0.0, 1e-45, -1e-40, 3e38, -3e38, np.inf, -np.inf, np.nan], np.float32)


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


def accumulators(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Whole int32 range: both ends, zero, and every magnitude between."""
    magnitude = np.exp2(rng.uniform(0, 31, shape)) * rng.choice([-1, 1], shape)
    ends = rng.choice([-(2**31), -(2**31) + 1, -1, 0, 1, 2**31 - 1], shape)
    mixed = np.where(rng.random(shape) < 0.3, ends, magnitude)
    return mixed.astype(np.int64).clip(-(2**31), 2**31 - 1).astype(np.int32)


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


# ---- pooling


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


# ---- normalisation and pointwise functions


def tables(rng: np.random.Generator) -> Iterator[tuple]:
    """(P, C, x): columns of which some fill 4, 2 and 1 vectors and some do not; with 100 of them, 163 rows make one partial
    sum. Some far from zero, where one-pass variances fail."""
    for d in design(rng, p=(1, 0, 2, 40, 162, 163, 513, 1300), c=(1, 0, 2, 5, 16, 33, 100), offset=(0, 0, 100)):
        yield d.p, d.c, (normal(rng, d.p, d.c) + np.float32(d.offset)).astype(np.float32)


def moments(rng, kernels):
    def bound(x, mean, variance):
        # a difference from the rounded mean is off by one rounding of the mean, squared in the variance
        return [EPS * np.abs(mean) + 1e-30, 8 * EPS * variance + (EPS * mean) ** 2]

    for p, c, x in tables(rng):
        yield Call((p, c), [x, np.empty(c, np.float32), np.empty(c, np.float32)], (1, 2), bound)


def batch_norm(rng, kernels):
    for i, (p, c, x) in enumerate(tables(rng)):
        x[rng.random(x.shape) < 0.01] = np.nan
        yield Call((p, c), [x, normal(rng, c), normal(rng, c), i % 2 == 1, np.empty((p, c), np.float32)], (4,),
                   lambda x, a, b, relu, y: [2 * EPS * (np.abs(x * a) + np.abs(b))])


def batch_norm_grad(rng, kernels):
    def bound(x, dy, mean, rstd, gamma, shift, training, dx, dgamma, dbeta):
        xhat, n, a, dy = np.abs((x - mean) * rstd), max(len(x), 1), gamma * rstd, np.abs(dy)
        # what is so near 0 that rounding decides whether the ReLU lets it through
        unsure = np.zeros_like(dy) if shift is None else dy * (
            np.abs(x * a + shift) <= 4 * EPS * (np.abs(x * a) + np.abs(shift)))
        allowed = [16 * EPS * dy + unsure, 4 * EPS * (dy * xhat).sum(axis=0) + (unsure * xhat).sum(axis=0),
                   4 * EPS * dy.sum(axis=0) + unsure.sum(axis=0)]
        if training:
            allowed[0] = allowed[0] + 4 * (allowed[2] + xhat * allowed[1]) / n
        return [allowed[0] * np.abs(a), *allowed[1:]]

    for i, (p, c, x) in enumerate(tables(rng)):
        mean, rstd = (x.mean(axis=0) if p else np.zeros(c, np.float32)), np.abs(normal(rng, c)) + np.float32(0.5)
        gamma = normal(rng, c)
        shift = normal(rng, c) - mean * gamma * rstd if i % 3 else None
        yield Call((p, c), [x, normal(rng, p, c), mean, rstd, gamma, shift, i % 2 == 0, np.empty((p, c), np.float32),
                            np.empty(c, np.float32), np.empty(c, np.float32)], (7, 8, 9), bound)


def layer_norm(rng, kernels):
    def bound(x, gamma, beta, eps, y, mean, rstd):
        shift = EPS * np.abs(mean) * rstd       # error of the mean, in standard deviations
        size = (np.abs(x) + np.abs(mean)[:, None]) * rstd[:, None] * np.abs(gamma) + np.abs(beta)
        return [8 * EPS * size, EPS * np.abs(mean) + 1e-30, rstd * (8 * EPS + shift**2)]

    for i, (p, c, x) in enumerate(tables(rng)):
        eps = float(np.float32((1e-5, 1e-2)[i % 2]))
        yield Call((p, c), [x, normal(rng, c), normal(rng, c), eps, np.empty((p, c), np.float32),
                            np.empty(p, np.float32), np.empty(p, np.float32)], (4, 5, 6), bound)


def layer_norm_grad(rng, kernels):
    def bound(x, dy, mean, rstd, gamma, dx, dgamma, dbeta):
        if not x.size:
            return [0, 0, 0]
        xhat, d = np.abs((x - mean[:, None]) * rstd[:, None]), np.abs(dy * gamma)
        size = d + d.mean(axis=1, keepdims=True) + xhat * (d * xhat).mean(axis=1, keepdims=True)
        sums = (np.abs(dy) * xhat).sum(axis=0), np.abs(dy).sum(axis=0)
        return [16 * EPS * size * rstd[:, None], 4 * EPS * sums[0], 4 * EPS * sums[1]]

    for p, c, x in tables(rng):
        mean = x.mean(axis=1) if c else np.zeros(p, np.float32)
        yield Call((p, c), [x, normal(rng, p, c), mean, np.abs(normal(rng, p)) + np.float32(0.5), normal(rng, c),
                            np.empty((p, c), np.float32), np.empty(c, np.float32), np.empty(c, np.float32)],
                   (5, 6, 7), bound)


def rms_norm(rng, kernels):
    for i, (p, c, x) in enumerate(tables(rng)):
        eps = float(np.float32((1e-5, 1e-2)[i % 2]))
        yield Call((p, c), [x, normal(rng, c), eps, np.empty((p, c), np.float32), np.empty(p, np.float32)], (3, 4),
                   lambda x, gamma, eps, y, rstd: [8 * EPS * np.abs(y), 4 * EPS * rstd])


def rms_norm_grad(rng, kernels):
    def bound(x, dy, rstd, gamma, dx, dgamma):
        if not x.size:
            return [0, 0]
        xhat, d = np.abs(x * rstd[:, None]), np.abs(dy * gamma)
        size = d + xhat * (d * xhat).mean(axis=1, keepdims=True)
        return [16 * EPS * size * rstd[:, None], 4 * EPS * (np.abs(dy) * xhat).sum(axis=0)]

    for p, c, x in tables(rng):
        yield Call((p, c), [x, normal(rng, p, c), np.abs(normal(rng, p)) + np.float32(0.5), normal(rng, c),
                            np.empty((p, c), np.float32), np.empty(c, np.float32)], (4, 5), bound)


def softmax(rng, kernels):
    def bound(x, y):
        if not x.size:
            return [0]
        with np.errstate(invalid="ignore"):
            below = np.nan_to_num(x.max(axis=1, keepdims=True) - x, nan=0, posinf=0, neginf=0)
        return [(16 + below) * EPS * np.nan_to_num(y) + 2.0**-126]

    for p, c, x in tables(rng):
        x = x * np.float32(rng.choice([1, 30]))
        x[rng.random(x.shape) < 0.01] = rng.choice(SPECIAL)
        yield Call((p, c), [x, np.empty((p, c), np.float32)], (1,), bound)


def softmax_grad(rng, kernels):
    for p, c, x in tables(rng):
        y = np.empty((p, c), np.float32)
        reference.softmax_f32(x, y, 1)
        yield Call((p, c), [y, normal(rng, p, c), np.empty((p, c), np.float32)], (2,),
                   lambda y, dy, dx: [4 * EPS * y * (np.abs(dy) + np.abs(y * dy).sum(axis=1, keepdims=True))])


def log_softmax(rng, kernels):
    def bound(x, y):
        if not x.size:
            return [0]
        with np.errstate(invalid="ignore"):
            below = np.nan_to_num(x.max(axis=1, keepdims=True) - x, nan=0, posinf=0, neginf=0)
        return [8 * EPS * (1 + below + np.log(x.shape[1]))]

    for p, c, x in tables(rng):
        x = x * np.float32(rng.choice([1, 30]))
        x[rng.random(x.shape) < 0.01] = rng.choice(SPECIAL)
        yield Call((p, c), [x, np.empty((p, c), np.float32)], (1,), bound)


def log_softmax_grad(rng, kernels):
    for p, c, x in tables(rng):
        y = np.empty((p, c), np.float32)
        reference.log_softmax_f32(x, y, 1)
        yield Call((p, c), [y, normal(rng, p, c), np.empty((p, c), np.float32)], (2,),
                   lambda y, dy, dx: [4 * EPS * (np.abs(dy) + np.exp(y) * np.abs(dy).sum(axis=1, keepdims=True))])


def _targets(rng: np.random.Generator, p: int, c: int) -> np.ndarray:
    """Classes, and among them -1: rows that do not count."""
    return rng.integers(-1, c, p) if c else np.full(p, -1)


def cross_entropy(rng, kernels):
    def bound(x, target, smoothing, loss, rows):
        if not x.size:
            return [0, 0]
        with np.errstate(invalid="ignore"):
            below = np.nan_to_num(x.max(axis=1, keepdims=True) - x, nan=0, posinf=0, neginf=0)
        return [8 * EPS * (1 + smoothing * below.mean(axis=1)), np.stack([np.zeros(len(x)), 4 * EPS * rows[1]])]

    for i, (p, c, x) in enumerate(tables(rng)):
        x = x * np.float32(rng.choice([1, 30]))
        x[rng.random(x.shape) < 0.01] = rng.choice(SPECIAL)
        yield Call((p, c), [x, _targets(rng, p, c), (0.0, 0.1)[i % 2], np.empty(p), np.empty((2, p), np.float32)], (3, 4),
                   bound)


def cross_entropy_grad(rng, kernels):
    def bound(x, target, smoothing, rows, g, dx):
        with np.errstate(invalid="ignore"):
            below = np.nan_to_num(rows[0][:, None] - x, nan=0, posinf=0, neginf=0)
            p = np.nan_to_num(np.exp(x - rows[0][:, None]) * rows[1][:, None])
        return [EPS * g * (4 + (16 + below) * p)]

    for i, (p, c, x) in enumerate(tables(rng)):
        target, rows, smoothing = _targets(rng, p, c), np.empty((2, p), np.float32), (0.0, 0.1)[i % 2]
        x[rng.random(x.shape) < 0.01] = rng.choice(SPECIAL)
        reference.cross_entropy_f32(x.astype(float), target, smoothing, np.empty(p), rows, 1)
        yield Call((p, c), [x, target, smoothing, rows, float(np.float32(0.37)), np.empty((p, c), np.float32)], (5,), bound)


# ---- attention


def heads(rng: np.random.Generator, how: str, b: int, h: int, t: int, d: int) -> np.ndarray:
    """Normal values [B][H][T][D], rows contiguous, in memory of many kinds."""
    if how == "merged":         # heads of a position side by side, as a layer's product leaves them
        return normal(rng, b, t, h, d).transpose(0, 2, 1, 3)
    if how == "part":
        return normal(rng, b, t, 3, h, d)[:, :, 1].transpose(0, 2, 1, 3)
    if how == "stretched":
        return np.broadcast_to(normal(rng, b, 1, t, d), (b, h, t, d))
    return normal(rng, b, h, t, d)


def attentions(rng: np.random.Generator) -> Iterator[tuple]:
    """(sizes, arguments up to causal): tails of blocks of 4 to 64, more keys than are read as they lie, scores up to some
    40, and values that are not finite: in a query it is a row, in a key whatever sees it."""
    how = ("plain", "merged", "part", "stretched")
    for i, d in enumerate(design(
            rng, b=(1, 2, 1, 0), h=(1, 3, 2), t=(1, 0, 2, 7, 16, 31, 32, 33, 64, 100, 130), causal=(True, False),
            more=(0, 0, 1, 5, 40, 270), s=(1, 5, 63, 64, 65, 257, 0), d=(1, 0, 3, 4, 8, 16, 17, 32, 33, 64),
            e=(1, 2, 4, 0, 8, 15, 16, 31, 32, 64, 65), q=how, k=how, v=how, size=(1, 1, 10), group=(1, 1, 2, 3))):
        keys = d.t + d.more if d.causal else d.s
        q, k, v = (heads(rng, *sizes) for sizes in ((d.q, d.b, d.h * d.group, d.t, d.d), (d.k, d.b, d.h, keys, d.d),
                                                    (d.v, d.b, d.h, keys, d.e)))
        q = q * np.float32(d.size)
        if i % 4 == 0 and min(q.size, k.size):
            q[0, 0, -1, 0], k = rng.choice(SPECIAL[-3:]), k.copy()
            k[-1, -1, keys // 2, -1] = rng.choice(SPECIAL[-3:])
        yield d, [q, k, v, float(np.float32(1 / np.sqrt(max(d.d, 1)))), d.causal]


def each(x: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Keys or values, once for each head of queries that shares them."""
    return np.repeat(x, q.shape[1] // x.shape[1], axis=1)


def of_group(errors: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Errors of the heads of queries, added for each head of keys."""
    return errors.reshape(*k.shape[:2], errors.shape[1] // k.shape[1], *errors.shape[2:]).sum(axis=2)


def attention_errors(q, k, scale, causal):
    """softmax of the scores, and how far its elements are off in proportion: by the errors of two scores, each of a size up
    to scale |q| |k|, of their difference, and by the roundings of exp, of its sum and of the new start of a block."""
    with np.errstate(all="ignore"):
        e, _, total = reference.attention_weights(q, k, scale, causal)
        size = scale * (np.abs(q) @ np.abs(k).swapaxes(-1, -2))
        size = np.where((e > 0) & np.isfinite(size), size, 0).max(axis=-1, keepdims=True)
        return e / total, EPS * ((2 * q.shape[-1] + 8) * size + k.shape[2] + 16)


def attention(rng, kernels):
    def bound(q, k, v, scale, causal, y, rows):
        if not k.shape[2]:
            return [0, 0]
        k, v = each(k, q), each(v, q)
        p, error = attention_errors(q, k, scale, causal)
        with np.errstate(all="ignore"):
            return [(error + (k.shape[2] + 2) * EPS) * (p @ np.abs(v)), np.stack([error[..., 0], error[..., 0] * rows[1]])]

    for d, args in attentions(rng):
        b, h, t, _ = args[0].shape
        y = np.empty((b, t, h, d.e), np.float32).transpose(0, 2, 1, 3)
        yield Call(d, [*args, y, np.empty((2, b, h, t), np.float32)], (5, 6), bound)


def attention_grad(rng, kernels):
    def bound(q, k, v, scale, causal, y, rows, dy, dq, dk, dv):
        if not k.shape[2] or not q.shape[2]:
            return [0, 0, 0]
        shared, k, v = k, each(k, q), each(v, q)
        p, error = attention_errors(q, k, scale, causal)
        with np.errstate(all="ignore"):
            # of ds = scale p (dp - delta): of p, and of the two sums
            size = np.abs(dy) @ np.abs(v).swapaxes(-1, -2) + np.abs(dy * y).sum(axis=-1, keepdims=True)
            ds = scale * p * size * (error + (v.shape[3] + k.shape[2] + q.shape[2] + 8) * EPS)
            p = p * (error + (q.shape[2] + 2) * EPS)
            return [ds @ np.abs(k), of_group(ds.swapaxes(-1, -2) @ np.abs(q), shared),
                    of_group(p.swapaxes(-1, -2) @ np.abs(dy), shared)]

    for d, args in attentions(rng):
        q, k = args[:2]
        if d.causal and not np.isfinite(np.concatenate([q.ravel(), k.ravel()])).all():
            continue        # p is 0 of a key that is not seen, or NaN, as the blocks happen to lie
        b, h, t, _ = q.shape
        y, rows = np.empty((b, h, t, d.e), np.float32), np.empty((2, b, h, t), np.float32)
        reference.attention_f32(*args, y, rows, 1)
        dy = heads(rng, d.q, b, h, t, d.e)
        yield Call(d, [*args, y, rows, dy, *(np.empty((b, n, m, c), np.float32).transpose(0, 2, 1, 3) for n, m, c in (
            (t, h, d.d), (k.shape[2], d.h, d.d), (k.shape[2], d.h, d.e)))], (8, 9, 10), bound)


def rotary(rng, kernels):
    """Halves and neighbours, all heads or some, angles of one position for all or for each sequence, any values."""
    def bound(x, cos, sin, heads, interleaved, inverse, y):
        half = x.shape[3] // 2
        size = np.abs(x[..., :half]) + np.abs(x[..., half:])
        if interleaved:
            size = np.abs(x).reshape(*x.shape[:3], half, 2).sum(axis=-1)
        return [2 * EPS * (np.repeat(size, 2, axis=3) if interleaved else np.concatenate([size, size], axis=3))]

    how = ("plain", "merged", "part", "stretched")
    for d in design(rng, b=(1, 2, 0), h=(1, 3, 2), t=(1, 0, 2, 7, 40), half=(1, 0, 3, 8, 16, 17, 32), heads=(3, 0, 1, 2),
                    interleaved=(False, True), inverse=(False, True), x=how, each=(False, True)):
        x = heads(rng, d.x, d.b, d.h, d.t, 2 * d.half)
        turns = normal(rng, d.b if d.each else 1, 1, d.t, d.half)
        cos, sin = (np.broadcast_to(f(turns), (d.b, d.h, d.t, d.half)) for f in (np.cos, np.sin))
        y = np.empty((d.b, d.t, d.h, 2 * d.half), np.float32).transpose(0, 2, 1, 3)
        yield Call(d, [x, cos, sin, min(d.heads, d.h), d.interleaved, d.inverse, y], (6,), bound)


def _around_zero(rng: np.random.Generator, n: int) -> np.ndarray:
    x = normal(rng, n) * np.float32(4)
    special = np.float32([0, -0.0, 1e-40, 30, -30, 1e18, np.inf, -np.inf, np.nan])
    return np.where(rng.random(n) < 0.1, rng.choice(special, n), x)


def _function(bound: Callable) -> Callable:
    """Cases of y = f(x), off by up to bound(|x|, |y|)."""
    def cases(rng, kernels):
        for n in SIZES:
            yield Call(n, [_around_zero(rng, n), np.empty(n, np.float32)], (1,),
                       lambda x, y: [bound(np.abs(np.nan_to_num(x)), np.abs(np.nan_to_num(y))) + 2.0**-149])
    return cases


def _gradient(operand: Callable) -> Callable:
    """Cases of dx = dy * f'(x), given operand(x): the function's input or its output."""
    def cases(rng, kernels):
        for n in SIZES:
            x = operand(_around_zero(rng, n)).astype(np.float32)
            yield Call(n, [x, normal(rng, n), np.empty(n, np.float32)], (2,), lambda x, dy, dx: [4 * EPS * np.abs(dy)])
    return cases


# Each function's own error, in ulp and over all floats, is tested in test_vector_math.py.
of_value, of_operand = _function(lambda x, y: 4 * EPS * y), _function(lambda x, y: 4 * EPS * x)
grad_of_value, grad = _gradient(np.tanh), _gradient(np.array)


def relu_grad(rng, kernels):
    for n in SIZES:
        yield Call(n, [_around_zero(rng, n), _around_zero(rng, n), np.empty(n, np.float32)], (2,))


def fake_quantize(rng, kernels):
    for rows, n in [(1, n) for n in (0, 1, 63, 5000)] + [(5, 9), (3, 4100), (0, 4)]:
        x = _around_zero(rng, rows * n).reshape(rows, n)
        scale = np.float32(rng.choice([1e-3, 0.02, 3], rows))
        for zero, lo, hi in ((-128, -128, 127), (5, -128, 127), (0, -127, 127), (0, -2**31, 2**31 - 1)):
            yield Call((rows, n, zero), [x, scale, float(zero), float(lo), float(hi), np.empty((rows, n), np.float32),
                                         np.empty((rows, n), np.uint8)], (5, 6))


# ---- rows that are added, dropout


def sum_columns(rng, kernels):
    for p, c, x in tables(rng):
        yield Call((p, c), [x, np.empty(c, np.float32)], (1,), lambda x, y: [4 * EPS * np.abs(x).sum(axis=0)])


def grad_sum(rng, kernels):
    """Rows around the eight of one float sum and the 128 of a chunk, columns around the 256 of a strip."""
    def bound(x, dy, dx, db):
        off = 4 * EPS * np.abs(dy)
        return [off, off.sum(axis=0) + 4 * EPS * np.abs(dx).sum(axis=0)]

    for d in design(rng, p=(1, 0, 2, 7, 8, 9, 15, 127, 128, 129, 300), c=(1, 0, 2, 5, 16, 33, 255, 256, 257, 600)):
        x = _around_zero(rng, d.p * d.c).reshape(d.p, d.c)
        yield Call(d, [x, normal(rng, d.p, d.c), np.empty_like(x), np.empty(d.c, np.float32)], (2, 3), bound)


def scatter_rows(rng, kernels):
    def bound(x, ids, y):
        size, count = np.empty_like(y), np.bincount(ids, minlength=len(y))
        reference.scatter_rows_f32(np.abs(x), ids, size, 1)
        return [EPS * count[:, None] * size]

    for d in design(rng, p=(1, 0, 2, 300), c=(1, 0, 2, 17, 127, 128, 129, 400), v=(1, 2, 70)):
        yield Call(d, [normal(rng, d.p, d.c), rng.integers(0, d.v, d.p), np.empty((d.v, d.c), np.float32)], (2,), bound)


def dropout(rng, kernels):
    keys, least = (0, 1, 2**32, 2**64 - 1, 0x0123456789ABCDEF), (0, 1, 2**31, 2**31 - 1, 2**32 - 1, 10**9)
    for d in design(rng, n=(*SIZES, 31, 32, 33, 64, 127, 128, 129), key=keys, least=least):
        yield Call(d, [_around_zero(rng, d.n), d.key, d.least, float(np.float32(1.25)), np.empty(d.n, np.float32)], (4,))


# ---- optimizers


def updates(slots: int, per_parameter: tuple[int, ...], *scalars: tuple) -> Callable:
    """Calls of a kernel that updates parameters and their slots, to the bit, with choices of each scalar; those at the
    positions `per_parameter` are arrays. Slots lie among others, in another order than the parameters."""
    def cases(rng, kernels):
        for d in design(rng, n=SIZES, others=((), (1,), (17, 0, 5000)),
                        **{str(i): choices for i, choices in enumerate(scalars)}):
            sizes = [d.n, *d.others]
            p, g = ([_around_zero(rng, n) for n in sizes] for _ in range(2))
            for w in p:
                w[~np.isfinite(w)] = 1
            at = np.cumsum([3, *(w.size for w in p[:0:-1])])[::-1].copy()
            state = [np.abs(normal(rng, at[0] + d.n + 2)) for _ in range(slots)]     # a second moment is at least 0
            values = [getattr(d, str(i)) for i in range(len(scalars))]
            for i in per_parameter:
                values[i] = np.float32([values[i], *rng.choice(scalars[i], len(p) - 1)])
            updated = (0, *range(2, 2 + slots))
            yield Call(d, [p, g, *(state or [None]), at, *values], updated, updated=updated)
    return cases


SCALES = (1.0, 0.3, 0.0)
with_momentum = updates(1, (2,), (0.1, 0.0), (0.9, 0.5), (0.0, 0.1), (False, True), SCALES)
without_momentum = updates(0, (2,), (0.1, 0.0), (0.0,), (0.0, 0.1), (False,), SCALES)
adam = updates(2, (0, 3, 4), (1e-3, 0.1), (0.9, 0.0), (0.999, 0.9), (1e-8, 0.05), (0.0, 0.1), SCALES)
adamw = updates(2, (0, 3, 4), (1e-3, 0.1), (0.9, 0.0), (0.999, 0.9), (1e-8, 0.05), (1.0, 0.95), SCALES)


def sgd(rng, kernels):
    yield from with_momentum(rng, kernels)
    yield from without_momentum(rng, kernels)


def square_sums(rng, kernels):
    for d in design(rng, n=SIZES, others=((), (1,), (17, 0, 5000)), kind=("normal", "huge", "inf", "nan")):
        x = [normal(rng, n) * np.float32(1 if d.kind == "normal" else 1e30) for n in (d.n, *d.others)]
        if d.kind in ("inf", "nan"):
            x[0][d.n // 2 :][:1] = float(d.kind)
        yield Call(d, [x, np.empty(len(x))], (1,), lambda x, sums: [10_000 * 2.0**-53 * np.nan_to_num(sums, posinf=0)])


# ---- what the machine can do at most


def probe_fma(rng, kernels):
    for d in design(rng, m=ROWS, n=COLUMNS, rounds=(0, 1, 2, 50)):
        def bound(start, x, w, y, rounds):
            return [(rounds + 1) * EPS * (np.abs(start) + rounds * np.abs(x * w))]

        yield Call(d, [normal(rng, d.m, d.n), float(np.float32(rng.normal())), normal(rng, d.n),
                       np.empty((d.m, d.n), np.float32), d.rounds], (3,), bound)


def probe_dot4(rng, kernels):
    for d in design(rng, m=ROWS, n=COLUMNS, rounds=(0, 1, 2, 70000)):      # the last wraps
        yield Call(d, [accumulators(rng, d.m, d.n), codes_of(rng, np.uint8, 4), codes_of(rng, np.int8, d.n, 4),
                       np.empty((d.m, d.n), np.int32), d.rounds], (3,), codes=(1,), offset=kernels.offset)


def probe_read(rng, kernels):
    for n in (*SIZES, 2**16 - 1, 2**16 + 40, 2**18 + 129):
        yield Call(n, [accumulators(rng, n)], ())


def probe_cycles(rng, kernels):
    for d in design(rng, units=(1, 0, 2, 5), step=(1, -3, 2**62), rounds=(0, 1, 7, 8, 9, 1000)):
        yield Call(d, [rng.integers(-2**63, 2**63 - 1, d.units), d.step, np.empty(d.units, np.int64), d.rounds], (2,))


# What tries each function of the table: a kernel that is added without its row here fails test_every_kernel_is_tried.
CASES: dict[str, Callable] = {
    "gemm_f32": gemm, "rows_f32": few_rows, "rows_f16": few_rows_f16, "pack_f32": pack, "product_f32": product_f32,
    "conv2d_grad_weight_f32": conv2d_grad_weight,
    "product_int8": product_int8, "product_int8_f32": product_int8_f32, "product_int8_i32": product_int8_i32,
    "rows_int8": linear_int8, "gemm_int8": linear_int8,
    "quantize": quantize, "quantize_images": quantize_images,
    "quantize_rows": quantize_rows, "dequantize": dequantize, "lookup": lookup,
    "requantize_double": requantize_double, "add_codes": add_codes, "mul_codes": mul_codes,
    "max_pool_int8": max_pool_int8, "avg_pool_int8": avg_pool_int8,
    "max_pool_f32": max_pool_f32, "max_pool_grad_f32": max_pool_grad_f32, "avg_pool_f32": avg_pool_f32,
    "avg_pool_grad_f32": avg_pool_grad_f32,
    "moments_f32": moments, "batch_norm_f32": batch_norm, "batch_norm_grad_f32": batch_norm_grad,
    "layer_norm_f32": layer_norm, "layer_norm_grad_f32": layer_norm_grad, "rms_norm_f32": rms_norm,
    "rms_norm_grad_f32": rms_norm_grad,
    "softmax_f32": softmax, "softmax_grad_f32": softmax_grad, "log_softmax_f32": log_softmax,
    "log_softmax_grad_f32": log_softmax_grad, "cross_entropy_f32": cross_entropy,
    "cross_entropy_grad_f32": cross_entropy_grad,
    "attention_f32": attention, "attention_grad_f32": attention_grad, "rotary_f32": rotary,
    "exp_f32": of_value, "tanh_f32": of_value, "tanh_grad_f32": grad_of_value, "sigmoid_f32": of_value,
    "sigmoid_grad_f32": grad_of_value, "silu_f32": of_operand, "silu_grad_f32": grad, "gelu_f32": of_operand,
    "gelu_grad_f32": grad, "gelu_tanh_f32": of_operand, "gelu_tanh_grad_f32": grad, "relu_grad_f32": relu_grad,
    "fake_quantize_f32": fake_quantize, "sum_columns_f32": sum_columns,
    "relu_grad_sum_f32": grad_sum, "gelu_grad_sum_f32": grad_sum, "gelu_tanh_grad_sum_f32": grad_sum,
    "silu_grad_sum_f32": grad_sum, "scatter_rows_f32": scatter_rows, "dropout_f32": dropout,
    "sgd_f32": sgd, "adam_f32": adam, "adamw_f32": adamw, "square_sums_f32": square_sums,
    "probe_fma_f32": probe_fma, "probe_dot4_int8": probe_dot4, "probe_read": probe_read, "probe_cycles": probe_cycles,
}


# ---- running them


def as_given(call: Call) -> list:
    """The arguments for a compiled kernel: read-only inputs (but the geometry), garbage in the outputs."""
    args = list(call.args)
    for i, a in enumerate(args):
        if i in call.updated:
            args[i] = [b.copy() for b in a] if isinstance(a, list) else a.copy()
        elif i in call.outputs:
            args[i] = np.full_like(a, GARBAGE[a.dtype.kind])
        elif isinstance(a, list):
            args[i] = [read_only(b) for b in a]
        elif isinstance(a, np.ndarray) and a.dtype != np.intp:
            args[i] = read_only(a)
    return args


def read_only(a: np.ndarray) -> np.ndarray:
    view = a.view()
    view.flags.writeable = False
    return view


def as_reference(call: Call) -> list:
    """The same for the reference: floats in float64, where the kernel is a float kernel."""
    args = as_given(call)
    for i in call.codes:
        args[i] = np.int64(args[i]) - call.offset
    if call.bound is None:
        return args
    return [[widened(b) for b in a] if isinstance(a, list) else widened(a) for a in args]


def widened(a: Any) -> Any:
    return a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype == np.float32 else a


def arrays_of(args: list, positions: Any) -> list[np.ndarray]:
    """The arrays among these arguments, those of lists one after the other."""
    found = (args[i] if isinstance(args[i], list) else [args[i]] for i in positions)
    return [a for group in found for a in group if isinstance(a, np.ndarray)]


def check(name: str, kernels: Any, call: Call) -> None:
    expected = as_reference(call)
    returned = getattr(reference, name)(*expected, 1)
    inputs = arrays_of(call.args, [i for i in range(len(call.args)) if i not in call.outputs])
    before = [a.tobytes() for a in inputs]
    runs = []
    for threads in (1, 2, 3):
        args = as_given(call)
        assert getattr(kernels, name)(*args, threads) == returned, call.about
        runs.append(arrays_of(args, call.outputs))
    for run in runs[1:]:
        assert [a.tobytes() for a in run] == [a.tobytes() for a in runs[0]], f"threads change bytes: {call.about}"
    assert [a.tobytes() for a in inputs] == before, f"wrote an input: {call.about}"
    wanted = arrays_of(expected, call.outputs)
    bounds = [None] * len(wanted) if call.bound is None else call.bound(*expected)
    for i, (got, want, bound) in enumerate(zip(runs[0], wanted, bounds, strict=True)):
        if bound is None:       # bit by bit, but any NaN for a NaN
            wrong = got.view(f"u{got.itemsize}") != want.view(f"u{got.itemsize}")
        else:
            with np.errstate(invalid="ignore"):
                wrong = ~((np.abs(got - want) <= bound) | (got == want))
        wrong &= ~((got != got) & (want != want))
        assert not wrong.any(), (f"output {i}: {wrong.sum()} of {got.size} are off, first {got[wrong][0]}, expected "
                                 f"{want[wrong][0]} (bound {np.max(bound)}): {call.about}")


def test_every_kernel_is_tried():
    assert list(CASES) == FUNCTIONS
    for kernels in KERNELS.values():
        for name in FUNCTIONS:
            compiled, twin = getattr(kernels, name), getattr(reference, name)
            assert list(inspect.signature(compiled).parameters) == list(inspect.signature(twin).parameters), name


@pytest.mark.parametrize("isa", KERNELS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_equals_the_reference(name, isa):
    for call in CASES[name](np.random.default_rng(7), KERNELS[isa]):
        check(name, KERNELS[isa], call)


@pytest.mark.parametrize("counter, key, words", [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
     (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
])
def test_philox_gives_the_published_words(counter, key, words):
    """The known answers of the authors' Random123."""
    assert reference.philox([counter], key)[0].tolist() == list(words)


def test_matmul_takes_any_layout_and_float16():
    """Few rows and many, the kernels that read weights as they lie and the one that packs them, leading dimensions."""
    rng = np.random.default_rng(5)
    leads = (((), ()), ((2,), ()), ((), (3,)), ((2, 1), (1, 3)), ((2,), (2,)))
    for d in design(rng, m=(1, 2, floats.FEW, floats.FEW + 1), k=(1, 0, 5, 40), n=(1, 7, 33), a=LAYOUTS, b=LAYOUTS,
                    lead=leads, half=(True, False), bias=(True, False)):
        a, b = (layout(rng, how, int(np.prod(lead)), *size).reshape(*lead, *size) for how, lead, size in (
            (d.a, d.lead[0], (d.m, d.k)), (d.b, d.lead[1], (d.k, d.n))))
        bias = normal(rng, d.n) if d.bias else None
        b = b.astype(np.float16) if d.half else b
        y = floats.matmul(a, b, bias)
        wide = [0 if v is None else v.astype(np.float64) for v in (a, b, bias)]
        allowed = (d.k + 2) * EPS * (np.abs(wide[0]) @ np.abs(wide[1]) + np.abs(wide[2]))
        assert y.dtype == np.float32 and (np.abs(y - (wide[0] @ wide[1] + wide[2])) <= allowed).all(), d
        if d.half:      # the sums of the values as float32, to the bit
            assert y.tobytes() == floats.matmul(a, b.astype(np.float32), bias).tobytes(), d


@pytest.mark.parametrize("isa", KERNELS)
def test_integer_layers_sum_what_they_were_given(isa):
    """Folding and packing, which the reference shares: against a convolution of q - z by the unpacked codes."""
    for c, layer, codes, bias, x in integer_layers(np.random.default_rng(3), KERNELS[isa]):
        g = c.window.groups
        weight = codes.astype(np.float64).reshape(g, c.n, c.k, c.window.taps).transpose(0, 3, 2, 1)
        expected = np.empty((*c.written, g * c.n))      # float64 holds these sums exactly
        reference.conv2d(x - (128.0 + layer.zero_point), weight, bias, expected, c.shape())
        wrapped = expected.astype(np.int64).astype(np.int32)
        assert (layer.accumulators(x) == wrapped).all(), c
        rows, columns = normal(np.random.default_rng(0), len(x)), normal(np.random.default_rng(1), g * c.n)
        floats = wrapped.astype(np.float32) * (rows[:, None, None, None] * columns)
        assert (layer.floats(x, rows, columns, None) == floats).all(), c
        assert (layer.unpacked() == codes).all(), c


@pytest.mark.parametrize("isa", KERNELS)
def test_float_layers_keep_what_they_were_given(isa):
    """Packing, which the reference shares: against a convolution by the weights themselves, in float64."""
    rng = np.random.default_rng(4)
    for c in convolutions(rng):
        weight, bias = normal(rng, c.window.groups * c.n, c.k, *c.window.size), normal(rng, c.window.groups * c.n)
        layer = convolution.FloatLayer(weight, bias, c.window, 0, 2, KERNELS[isa])
        x = normal(rng, *c.read, c.channels)
        exact, size = (floats.nhwc(convolution.conv2d(floats.nchw(part(x).astype(float)), part(weight).astype(float),
                                                 part(bias).astype(float), c.window)) for part in (np.array, np.abs))
        bound = (c.window.taps * c.k + 2) * EPS * size
        assert (np.abs(layer.run(x) - exact.clip(0, 2)) <= bound).all(), c
        assert (layer.unpacked() == weight).all(), c


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


# ---- between protected pages


class Guarded:
    """Memory of its own for one argument after the other, with pages before and behind it that must not be touched."""

    ROOM = 1 << 22

    def __init__(self):
        page = mmap.PAGESIZE
        self.memory = mmap.mmap(-1, self.ROOM + 2 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        libc = ctypes.CDLL(None, use_errno=True)
        for guard in (start, start + page + self.ROOM):
            if libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0):
                raise OSError(ctypes.get_errno(), "mprotect")
        self.page = page

    def place(self, a: np.ndarray, at_end: bool) -> np.ndarray:
        """`a` with its strides, flush against the page behind it (or before it)."""
        reaches = [(n - 1) * s for n, s in zip(a.shape, a.strides, strict=True)] if a.size else []
        low, high = sum(r for r in reaches if r < 0), sum(r for r in reaches if r > 0) + (a.itemsize if a.size else 0)
        begin = self.page + (self.ROOM - (high - low) if at_end else 0)
        moved = np.ndarray(a.shape, a.dtype, self.memory, begin - low, a.strides)
        moved[...] = a
        return moved


def run_guarded() -> None:
    """Every call of every kernel, all arguments flush against protected pages. A read beyond one ends the process."""
    arenas = [Guarded() for _ in range(20)]
    for isa, kernels in KERNELS.items():
        for name in FUNCTIONS:
            for number, call in enumerate(CASES[name](np.random.default_rng(7), kernels)):
                for at_end in (True, False):
                    print(name, isa, f"call {number}", "end" if at_end else "start", flush=True)
                    args, free = as_given(call), iter(arenas)
                    for i, a in enumerate(args):
                        if isinstance(a, list):
                            args[i] = [next(free).place(b, at_end) for b in a]
                        elif isinstance(a, np.ndarray):
                            args[i] = next(free).place(a, at_end)
                    getattr(kernels, name)(*args, 1)


@pytest.mark.skipif(os.name != "posix", reason="protecting pages takes mprotect, which this system does not have")
def test_kernels_stay_within_their_arguments():
    done = run_python(__file__)
    assert done.returncode == 0, f"ended with {done.returncode} in: {done.stdout[-100:]} {done.stderr[-500:]}"


if __name__ == "__main__":
    run_guarded()
