"""Kernels of attention, its gradient and rotary positions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from kernel_calls import EPS, KERNELS, SPECIAL, Call, assert_equal, design, normal

from tinyml._kernels import reference
from tinyml._kernels.reference.attention.attention import attention_weights


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
    """The errors of the heads of queries, summed for each head of keys that they share."""
    return errors.reshape(*k.shape[:2], errors.shape[1] // k.shape[1], *errors.shape[2:]).sum(axis=2)


def attention_errors(q, k, scale, causal):
    """softmax of the scores, and how far its elements are off in proportion: by the errors of two scores, each of a size up
    to scale |q| |k|, of their difference, and by the roundings of exp, of its sum and of the new start of a block."""
    with np.errstate(all="ignore"):
        e, _, total = attention_weights(q, k, scale, causal)
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


CASES = {"attention_f32": attention, "attention_grad_f32": attention_grad, "rotary_f32": rotary}


@pytest.mark.parametrize("isa", KERNELS)
@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(name, isa):
    assert_equal(name, isa, CASES[name])
