"""Kernels of optimizers: updates of all parameters at once, to the bit, and the sums that clipping needs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from kernel_calls import KERNELS, SIZES, Call, around_zero, assert_equal, design, normal


def updates(slots: int, per_parameter: tuple[int, ...], *scalars: tuple) -> Callable:
    """Calls of a kernel that updates parameters and their slots, to the bit, with choices of each scalar; those at the
    positions `per_parameter` are arrays. Slots lie among others, in another order than the parameters."""
    def cases(rng, kernels):
        for d in design(rng, n=SIZES, others=((), (1,), (17, 0, 5000)),
                        **{str(i): choices for i, choices in enumerate(scalars)}):
            sizes = [d.n, *d.others]
            p, g = ([around_zero(rng, n) for n in sizes] for _ in range(2))
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


CASES = {"sgd_f32": sgd, "adam_f32": adam, "adamw_f32": adamw, "square_sums_f32": square_sums}


@pytest.mark.parametrize("isa", KERNELS)
@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(name, isa):
    assert_equal(name, isa, CASES[name])
