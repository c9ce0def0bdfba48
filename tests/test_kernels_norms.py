"""Kernels of normalisation: moments, batch, layer and RMS norm, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_calls import EPS, KERNELS, Call, assert_equal, normal, tables


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


CASES = {"moments_f32": moments, "batch_norm_f32": batch_norm, "batch_norm_grad_f32": batch_norm_grad,
         "layer_norm_f32": layer_norm, "layer_norm_grad_f32": layer_norm_grad, "rms_norm_f32": rms_norm,
         "rms_norm_grad_f32": rms_norm_grad}


@pytest.mark.parametrize("isa", KERNELS)
@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(name, isa):
    assert_equal(name, isa, CASES[name])
