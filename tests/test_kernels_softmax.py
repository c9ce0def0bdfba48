"""Kernels of softmax, its logarithm and cross entropy, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_calls import EPS, KERNELS, SPECIAL, Call, assert_equal, normal, tables

from tinyml._kernels import reference


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


CASES = {"softmax_f32": softmax, "softmax_grad_f32": softmax_grad, "log_softmax_f32": log_softmax,
         "log_softmax_grad_f32": log_softmax_grad, "cross_entropy_f32": cross_entropy,
         "cross_entropy_grad_f32": cross_entropy_grad}


@pytest.mark.parametrize("isa", KERNELS)
@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(name, isa):
    assert_equal(name, isa, CASES[name])
