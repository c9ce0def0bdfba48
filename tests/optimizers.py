"""Optimizers over small parameters, the gradients they take, and PyTorch's numbers for them."""

from __future__ import annotations

import numpy as np
from make_optim_parity import FOLDER, OPTIMIZERS, gradient

from tinyml import nn, optim
from tinyml.tensors import Tensor

EXPECTED = dict(np.load(FOLDER / "optim.npz"))


def parameters(*arrays):
    return [nn.Parameter(np.array(a, np.float32)) for a in arrays]


def with_gradients(ps, grads):
    for p, g in zip(ps, grads, strict=True):
        p.grad = None if g is None else Tensor(np.array(g).astype(p.dtype, copy=False))
    return ps


def make(name, ps):
    kind, options = OPTIMIZERS[name]
    return getattr(optim, kind)(ps, **options)


def run(optimizer, steps):
    for step in steps:
        with_gradients(optimizer.parameters, gradient(step))
        optimizer.step()


def values(optimizer):
    return [p.numpy().copy() for p in optimizer.parameters]
