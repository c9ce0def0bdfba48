"""Calls of a kernel with arguments of every kind, and what checks one against its twin in reference/.

Integers and codes must agree byte for byte, floats within a bound derived from the lengths of their sums, and any
number of threads must give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from tinyml._kernels import dispatch, reference
from tinyml._kernels.products.windows import Window, sweep

KERNELS = {isa: dispatch.load(isa) for isa in dispatch.available()}
EPS = 2.0**-23      # spacing of float32 at 1: twice the error of one rounding
GARBAGE = {"f": np.float32(1e30), "u": 0x7F, "i": 0x7F7F7F7F}       # what outputs hold before a call
SEED = 7
# Remainders around the tile heights (6, 12, 16), blocks (48, 96), vectors (4, 8, 16) and panels (up to 64) of all builds.
ROWS = (1, 0, 2, 5, 6, 7, 11, 12, 13, 15, 16, 17, 47, 48, 49, 97, 200)
DEPTHS = (1, 0, 2, 3, 4, 5, 7, 8, 31, 70)
COLUMNS = (1, 0, 3, 4, 5, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130)
SIZES = (1, 0, 2, 15, 16, 17, 63, 65, 1000, 4095, 4096, 4097, 9000)
SPECIAL = np.array([0, -0.0, 1e-45, -1e-40, 3e38, -3e38, np.inf, -np.inf, np.nan], np.float32)


@dataclass
class Call:
    """One call of a kernel: its arguments without the threads, which of them it writes, how far floats may be off."""

    about: Any
    args: list
    outputs: tuple[int, ...]
    bound: Callable[..., list] | None = None    # float64 arguments with results -> allowed error of each output
    codes: tuple[int, ...] = ()     # the arguments that are codes, from which the reference subtracts ...
    offset: int = 0                 # ... this, which the instruction set subtracts from codes
    updated: tuple[int, ...] = ()   # outputs that are read before they are written


# ---- arguments


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


def around_zero(rng: np.random.Generator, n: int) -> np.ndarray:
    x = normal(rng, n) * np.float32(4)
    special = np.float32([0, -0.0, 1e-40, 30, -30, 1e18, np.inf, -np.inf, np.nan])
    return np.where(rng.random(n) < 0.1, rng.choice(special, n), x)


def tables(rng: np.random.Generator) -> Iterator[tuple]:
    """(P, C, x): columns that fill 4, 2 and 1 vectors, and numbers of columns that do not; with 100 columns, 163 rows make
    one partial sum. Some values are far from zero, where one-pass variances fail."""
    for d in design(rng, p=(1, 0, 2, 40, 162, 163, 513, 1300), c=(1, 0, 2, 5, 16, 33, 100), offset=(0, 0, 100)):
        yield d.p, d.c, (normal(rng, d.p, d.c) + np.float32(d.offset)).astype(np.float32)


def codes_of(rng: np.random.Generator, dtype: type, *shape: int) -> np.ndarray:
    """Codes that make the largest sums (one extreme, or alternating extremes), as often as random codes."""
    info = np.iinfo(dtype)
    kind = rng.integers(4)
    if kind == 0:
        return np.full(shape, rng.choice([info.min, info.max]), dtype)
    if kind == 1:
        return rng.choice([info.min, info.max], shape).astype(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


def accumulators(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Whole int32 range: both ends, zero, and every magnitude between."""
    magnitude = np.exp2(rng.uniform(0, 31, shape)) * rng.choice([-1, 1], shape)
    ends = rng.choice([-(2**31), -(2**31) + 1, -1, 0, 1, 2**31 - 1], shape)
    mixed = np.where(rng.random(shape) < 0.3, ends, magnitude)
    return mixed.astype(np.int64).clip(-(2**31), 2**31 - 1).astype(np.int32)


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


def assert_equal(name: str, isa: str, cases: Callable) -> None:
    """The kernel of that name, built for that instruction set, equals its twin in all calls that `cases` makes."""
    for call in cases(np.random.default_rng(SEED), KERNELS[isa]):
        check(name, KERNELS[isa], call)
