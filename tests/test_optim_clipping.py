"""Clipping gradients by their norm: before the step and in it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_optim_parity import gradient, initial
from optimizers import EXPECTED, parameters, with_gradients

from tinyml import nn, optim
from tinyml._kernels import dispatch
from tinyml.errors import NonFiniteError, ShapeError


def test_clipping_is_pytorchs():
    ps = with_gradients(parameters(*initial()), gradient(0))
    assert optim.clip_grad_norm_(ps, 1.5) == pytest.approx(float(EXPECTED["clip/norm"]), rel=1e-6)
    for i, p in enumerate(ps):
        np.testing.assert_allclose(p.grad.numpy(), EXPECTED[f"clip/{i}"], rtol=1e-6)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=4), st.floats(1e-3, 1e3), st.integers(0, 2**32 - 1))
def test_the_norm_after_clipping_is_at_most_max_norm(sizes, max_norm, seed):
    rng = np.random.default_rng(seed)
    grads = [rng.standard_normal(n).astype(np.float32) * 10 for n in sizes]
    ps = with_gradients([nn.Parameter(np.zeros(n, np.float32)) for n in sizes], grads)
    before = float(np.linalg.norm(np.concatenate(grads).astype(np.float64)))
    assert optim.clip_grad_norm_(ps, max_norm) == pytest.approx(before, rel=1e-12)
    after = np.concatenate([p.grad.numpy() for p in ps])
    assert np.linalg.norm(after) <= max_norm * (1 + 1e-5)
    if before < max_norm - 1e-5:
        np.testing.assert_array_equal(after, np.concatenate(grads))


def test_a_norm_just_at_max_norm_is_scaled_as_pytorch_does():
    (p,) = with_gradients(parameters([0.0]), [np.array([1e-4], np.float32)])
    optim.clip_grad_norm_([p], 1e-4)
    assert p.grad.item() == pytest.approx(1e-4 * 1e-4 / (1e-4 + 1e-6), rel=1e-5)


def test_clipping_in_the_step_is_clipping_before_it():
    ends = []
    for inside in (True, False):
        ps = with_gradients(parameters(*initial()), gradient(0))
        optimizer = optim.AdamW(ps, lr=0.1)
        if inside:
            optimizer.step(min(1, 0.5 / (optim.grad_norm(ps) + 1e-6)))
        else:
            optim.clip_grad_norm_(ps, 0.5)
            optimizer.step()
        ends.append([p.numpy().tobytes() for p in ps])
    assert ends[0] == ends[1]


def test_clipping_measures_what_float32_squares_cannot_hold():
    (p,) = with_gradients(parameters([0.0, 0.0]), [np.array([3e30, 4e30], np.float32)])
    assert optim.clip_grad_norm_([p], math.inf) == pytest.approx(5e30)
    np.testing.assert_array_equal(p.grad.numpy(), np.array([3e30, 4e30], np.float32))
    optim.clip_grad_norm_([p], 10.0)
    np.testing.assert_allclose(p.grad.numpy(), [6, 8], rtol=1e-6)


def test_the_norm_depends_on_no_number_of_threads():
    grads = [np.random.default_rng(n).standard_normal(n).astype(np.float32) for n in (200_000, 3, 70_000)]
    ps = with_gradients(parameters(*grads), grads)
    norms = []
    for threads in (1, 2, 3):
        dispatch.set_num_threads(threads)
        norms.append(optim.grad_norm(ps))
    assert norms[0] == norms[1] == norms[2] == pytest.approx(math.sqrt(sum((g.astype(float) ** 2).sum() for g in grads)))


def test_clipping_without_gradients_is_zero():
    assert optim.clip_grad_norm_(parameters([1.0]), 1.0) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_an_error_and_nothing_is_scaled(bad):
    ps = with_gradients(parameters([0.0, 0.0], [0.0]), [np.array([30, 40], np.float32), np.array([bad], np.float32)])
    with pytest.raises(NonFiniteError, match=r"expected finite gradients, .* for parameter 1 of shape \(1,\)"):
        optim.clip_grad_norm_(ps, 1.0)
    np.testing.assert_array_equal(ps[0].grad.numpy(), [30, 40])


@pytest.mark.parametrize("max_norm", [0, -1, math.nan])
def test_a_max_norm_that_is_not_positive_is_an_error(max_norm):
    with pytest.raises(ShapeError, match="expected max_norm to be a number above 0"):
        optim.clip_grad_norm_(parameters([1.0]), max_norm)
