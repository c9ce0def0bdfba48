"""A training step of a whole model gives the same bytes on any number of threads."""

from __future__ import annotations

import numpy as np
import pytest

import tinyml
from tinyml import models, optim
from tinyml._kernels import dispatch
from tinyml.nn import functional as F


def convolutions() -> tuple:
    rng = np.random.default_rng(0)
    return models.CifarCNN(width=16), rng.standard_normal((16, 3, 32, 32), np.float32), rng.integers(0, 10, 16)


def transformer() -> tuple:
    ids = np.random.default_rng(0).integers(0, 65, (12, 65))
    return models.TinyGPT(65, 64, 2, 4, 64, dropout=0.1), ids[:, :-1], ids[:, 1:]


@pytest.mark.parametrize("case", [convolutions, transformer])
def test_weights_are_the_same_on_one_and_several_threads(case):
    def trained(threads: int) -> list[bytes]:
        dispatch.set_num_threads(threads)
        tinyml.manual_seed(0)
        model, x, y = case()
        optimizer = optim.AdamW(model.parameters(), 1e-2)
        for _ in range(3):
            optimizer.zero_grad()
            (model.default_loss or F.cross_entropy)(model(x), y).backward()
            optim.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        return [p.numpy().tobytes() for p in model.parameters()]

    one = trained(1)
    assert trained(2) == one and trained(3) == one
