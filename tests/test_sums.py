"""Sums, means, variances and gradients that sum: a few units in the last place from the sum in float64, of any layout.

A first term of 2^24 makes every later 1 vanish where terms are added one by one in float32.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tinyml import Tensor
from tinyml._kernels.rows import sums
from tinyml.nn import functional as F
from tinyml.tape import unbroadcast
from tinyml.tensors import OPS, apply

EPS = 2.0**-23
BIG = np.float32(2**24)


@st.composite
def laid_out(draw: st.DrawFn) -> np.ndarray:
    """Float32 of up to four dimensions and some ten thousand elements: permuted, cut, reversed, repeated."""
    shape = draw(st.lists(st.sampled_from([1, 2, 3, 9, 40, 130, 700]), min_size=1, max_size=4))
    while math.prod(shape) > 40_000:
        shape.remove(max(shape))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    step = draw(st.sampled_from([1, 1, 2, -1]))
    x = rng.random((*shape[:-1], shape[-1] * abs(step)), np.float32)[..., ::step].transpose(
        draw(st.permutations(range(len(shape)))))
    x = x if not draw(st.booleans()) else np.where(rng.random(x.shape) < 1e-3, BIG, x)
    if draw(st.booleans()):
        x = np.broadcast_to(x[..., :1] if draw(st.booleans()) else x[:1], x.shape)
    return x


@settings(max_examples=400)
@given(laid_out(), st.data())
def test_totals_are_those_of_float64(x, data):
    axes = data.draw(st.one_of(st.none(), st.integers(-x.ndim, x.ndim - 1),
                               st.sets(st.integers(0, x.ndim - 1)).map(lambda s: tuple(sorted(s)))))
    keepdims = data.draw(st.booleans())
    for function, plain in ((sums.total, np.sum), (sums.mean, np.mean)):
        got, want = function(x, axes, keepdims), plain(x, axis=axes, keepdims=keepdims, dtype=np.float64)
        bound = plain(np.abs(x), axis=axes, keepdims=keepdims, dtype=np.float64)
        # NumPy's own sums of up to FEW elements may lose more
        terms = x.size // max(want.size, 1)
        ulps = 8 if x.size > sums.FEW and terms > sums.TERMS else 8 + terms / 2
        assert got.dtype == x.dtype and got.shape == want.shape
        assert (np.abs(got - want) <= ulps * EPS * bound).all()


LONG = 6000     # terms, the first of which is 2^24
LAYOUTS = {
    "rows": (lambda a: a[:, None] * np.ones(3, np.float32), 0), "channels": (lambda a: np.ones((2, 1)) * a, 1),
    "first of three": (lambda a: np.ones((1, 5, 7)) * a[:, None, None], 0),
    "middle": (lambda a: np.ones((4, 1, 5)) * a[:, None], 1), "transposed": (lambda a: (a[:, None] * np.ones(3)).T, 1),
    "channels last": (lambda a: (np.ones((1, 3, 1, 1)) * a.reshape(2, 1, 30, 100)).transpose(0, 2, 3, 1).copy().transpose(
        0, 3, 1, 2), (0, 2, 3)),
    "columns of a table": (lambda a: (a.reshape(-1, 2).repeat(2, axis=1)[:, ::2] * np.ones(2, np.float32)), None),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_layout_loses_terms(layout):
    make, axis = LAYOUTS[layout]
    a = np.ones(LONG, np.float32)
    a[0] = BIG
    x = make(a).astype(np.float32)
    want = x.sum(axis=axis, dtype=np.float64)
    assert np.asarray(want).min() >= 2**24 + LONG - 1
    t = Tensor(x, requires_grad=True)
    # of 128 terms side by side NumPy adds every eighth one by one
    np.testing.assert_allclose(t.sum(axis).numpy(), want, rtol=8 * EPS)
    np.testing.assert_allclose(t.mean(axis).numpy(), x.mean(axis=axis, dtype=np.float64), rtol=8 * EPS)
    np.testing.assert_allclose(t.var(axis).numpy(), x.var(axis=axis, dtype=np.float64, ddof=1), rtol=1e-5)


def gradients(dtype: type = np.float32) -> np.ndarray:
    g = np.ones((LONG, 3), np.float32)
    g[0] = BIG if dtype == np.float32 else 2048
    return g.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("gather", ["index", "two indices", "mask", "slice", "embedding", "broadcast", "broadcast_to",
                                    "bias"])
def test_gradients_that_repeat_lose_no_terms(gather, dtype):
    """What was gathered, embedded or broadcast LONG times gets the sum of LONG gradients."""
    g, zeros = gradients(dtype), np.zeros(LONG, np.int64)
    w = Tensor(np.zeros((4, 3), dtype), requires_grad=True)
    row = Tensor(np.zeros(3, dtype), requires_grad=True)
    y, leaf = {
        "index": lambda: (w[zeros + 1], w), "two indices": lambda: (w[(zeros - 3)[:, None], np.arange(3)], w),
        "mask": lambda: (w[None, np.array([0, 1, 0, 0], bool)][:, zeros][0], w),
        "slice": lambda: (w[:, None][zeros + 1, 0, ::-1], w), "embedding": lambda: (F.embedding(zeros + 1, w), w),
        "broadcast": lambda: (Tensor(np.zeros_like(g)) + row, row),
        "broadcast_to": lambda: (row.broadcast_to(LONG, 3), row),
        "bias": lambda: (F.linear(np.zeros((LONG, 2), dtype), np.zeros((3, 2), dtype), row), row),
    }[gather]()
    y.backward(g.astype(y.dtype))
    got = leaf.grad.numpy()
    want = g.sum(axis=0, dtype=np.float64)
    got = got if got.ndim == 1 else got[1]
    np.testing.assert_allclose(got, want, rtol=4 * EPS if dtype == np.float32 else 2.0**-10)
    assert leaf is row or not np.delete(leaf.grad.numpy(), 1, axis=0).any()


@settings(max_examples=150)
@given(st.data())
def test_gathered_gradients_are_what_add_at_gives(data):
    """Any index: arrays, masks, slices, None, Ellipsis, negative and repeated."""
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    n = len(shape)
    array = st.integers(0, 10**6).map(np.random.default_rng)
    parts, left = [], n
    while left and data.draw(st.integers(0, 3)):
        d = n - left
        kind = data.draw(st.sampled_from(["array", "mask", "slice", "int", "none", "column"]))
        rng = data.draw(array)
        parts.append({"array": rng.integers(-shape[d], shape[d], 3), "mask": rng.random(shape[d]) < 0.6,
                      "column": rng.integers(0, shape[d], (2, 1)), "none": None, "int": -1,
                      "slice": slice(None, None, data.draw(st.sampled_from([1, 2, -1])))}[kind])
        left -= kind != "none"
    if data.draw(st.booleans()):
        parts.insert(data.draw(st.integers(0, len(parts))), Ellipsis)
        left = 1
    x = np.random.default_rng(0).standard_normal((*shape, 3)).astype(np.float32)
    index = (*parts, slice(None) if left else np.array([[0, 2, 2, 1] * 700]))
    try:
        expected = x[index]
    except IndexError:      # arrays that do not broadcast, or that count from the other end behind an Ellipsis
        reject()
    t = Tensor(x, requires_grad=True)
    g = np.random.default_rng(1).integers(-4, 5, expected.shape).astype(np.float32)
    apply(OPS["getitem"], t, index=index).backward(g)      # x[index] takes integers beside arrays first
    want = np.zeros_like(x)
    np.add.at(want, index, g)
    np.testing.assert_array_equal(t.grad.numpy(), want)


def test_pooling_over_a_large_image_loses_no_terms():
    x = np.ones((1, 2, 80, 90), np.float32)
    x[..., 0, 0] = BIG
    want = (2**24 + 80 * 90 - 1) / (80 * 90)
    np.testing.assert_allclose(F.adaptive_avg_pool2d(x, 1).numpy(), want, rtol=4 * EPS)
    np.testing.assert_allclose(F.avg_pool2d(x, (80, 90)).numpy(), want, rtol=4 * EPS)


def test_equal_maxima_are_counted_exactly():
    x = Tensor(np.broadcast_to(np.float32(1), (2**24 + 2, 1)), requires_grad=True)
    x.amax(axis=0).backward(np.ones(1, np.float32))
    assert (x.grad.numpy() == np.float32(1) / np.float32(2**24 + 2)).all()


def test_ids_changed_after_forward_change_no_gradient():
    """The kernel trusts them: it would write where they point."""
    ids, w = np.array([0, 1, 1]), Tensor(np.zeros((2, 2), np.float32), requires_grad=True)
    y = F.embedding(ids, w)
    ids[:] = 10**12
    y.backward(np.ones((3, 2), np.float32))
    assert w.grad.numpy().tolist() == [[1, 1], [2, 2]]


def test_a_sum_in_float16_is_that_of_float32():
    g = np.ones((5000, 2), np.float16)
    assert unbroadcast(g, (2,)).tolist() == [5000, 5000]
    assert np.isinf(sums.total(np.full((5000, 2), 60, np.float16), 0)).all()
    assert sums.mean(np.full((5000, 2), 60, np.float16), 0).tolist() == [60, 60]
