"""The models learn: a step does what its gradient says, a tiny set is learned by heart, and a seed repeats it all."""

from __future__ import annotations

import numpy as np
import pytest
from values import normal

import tinyml.random
from tinyml import nn, optim
from tinyml.models import MLP, CifarCNN, ResNet8, TinyGPT
from tinyml.nn import functional as F

LLAMA = {"kv_heads": 2, "norm": "rms", "positions": "rotary", "activation": "swiglu", "bias": False}


@pytest.mark.parametrize(("make", "x", "shape"), [
    (lambda: CifarCNN(1, 7, 2), normal(3, 1, 9, 6), (3, 7)), (lambda: ResNet8(1, 7, 4), normal(3, 1, 9, 6), (3, 7)),
    (lambda: MLP(6, 5, 4, 7), normal(3, 6), (3, 7)), (lambda: MLP(24, 7), normal(3, 1, 4, 6), (3, 7)),
    (lambda: TinyGPT(7, 5, 2, 2, 4), np.array([[1, 2, 6]]), (1, 3, 7)),
    (lambda: TinyGPT(7, 5, 2, 4, 8, **LLAMA), np.array([[1, 2, 6]]), (1, 3, 7))])
def test_a_small_step_lowers_the_loss_as_much_as_the_gradient_says(make, x, shape):
    model, targets = make(), np.random.default_rng(3).integers(0, 7, shape[:-1])
    logits = model(x)
    assert logits.shape == shape and logits.dtype == np.float32
    loss_of = model.default_loss or F.cross_entropy
    loss = loss_of(logits, targets)
    loss.backward()
    squared = sum(float(np.square(p.grad.numpy(), dtype=np.float64).sum()) for p in model.parameters())
    lr = 2e-3 / squared
    optim.SGD(model.parameters(), lr).step()
    after = loss_of(model(x), targets)
    assert loss.item() - after.item() == pytest.approx(lr * squared, rel=0.1)


def fit(model, x, targets, steps, lr):
    optimizer = optim.AdamW(model.parameters(), lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model.default_loss or F.cross_entropy)(model(x), targets)
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize("make", [lambda: CifarCNN(width=4), lambda: ResNet8(width=4), lambda: MLP(192, 32, 10)])
def test_image_models_learn_a_tiny_batch_by_heart(make):
    model, x, targets = make(), normal(8, 3, 8, 8), np.arange(8)
    assert fit(model, x, targets, 60, 0.01) < 0.2
    assert (model(x).numpy().argmax(1) == targets).all()


@pytest.mark.parametrize("parts", [{}, LLAMA], ids=["GPT-2", "Llama"])
def test_tiny_gpt_learns_a_text_by_heart_and_recites_it(parts):
    text = np.random.default_rng(0).permutation(12)
    model = TinyGPT(12, 12, 2, 4, 16, **parts)
    assert fit(model, text[None, :-1], text[None, 1:], 80, 0.01) < 0.1
    np.testing.assert_array_equal(model.generate(text[:1], 11, temperature=0), text)


def test_manual_seed_repeats_weights_dropout_and_samples():
    def run():
        tinyml.random.manual_seed(7)
        model = TinyGPT(9, 6, 1, 2, 8, dropout=0.5)
        return [*model.state_dict().values(), model(np.array([[1, 2, 3]])).numpy(), model.generate([1, 2], 5)]

    for a, b in zip(run(), run(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(nn.Linear(3, 3).weight.numpy(), nn.Linear(3, 3).weight.numpy())
