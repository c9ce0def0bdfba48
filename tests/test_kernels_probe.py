"""Kernels that measure what the machine can do at most."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_calls import COLUMNS, EPS, KERNELS, ROWS, SIZES, Call, accumulators, assert_equal, codes_of, design, normal


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


CASES = {"probe_fma_f32": probe_fma, "probe_dot4_int8": probe_dot4, "probe_read": probe_read, "probe_cycles": probe_cycles}


@pytest.mark.parametrize("isa", KERNELS)
@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(name, isa):
    assert_equal(name, isa, CASES[name])
