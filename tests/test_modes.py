"""A mode for a while is the thread's: what runs in evaluation changes no model, and no other thread's dropout."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from values import normal

from tinyml import data, models, nn
from tinyml.evaluation import evaluate, predict
from tinyml.nn import functional as F
from tinyml.nn.mode import mode


class Noisy(nn.Module):
    """Says in its output whether it was in training mode."""

    def __init__(self):
        self.inner, self.fc = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(4)), nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.inner(x))


def modes(model):
    return [m.training for m in model.modules()]


def test_within_it_layers_are_in_the_mode_and_attributes_as_they_were():
    model = Noisy()
    model.inner.eval()
    own = modes(model)
    with mode(model, training=False):
        assert not any(modes(model))
        with mode(model.inner, training=True):
            assert modes(model) == [False, True, True, True, False]
        assert not any(modes(model))
    assert modes(model) == own
    other = Noisy()
    with mode(model, training=True):
        other.eval()
        assert all(modes(model)) and not any(modes(other))


def test_what_a_user_sets_within_it_holds():
    model = Noisy()
    with mode(model, training=False):
        model.train()
        assert all(modes(model))
        model.inner.training = False
        assert not model.inner.training
    assert modes(model) == [True, False, True, True, True]


def test_an_interrupt_leaves_the_mode():
    model, x = Noisy(), normal(8, 4)

    def interrupted():
        yield x, np.zeros(8, np.int64)
        raise KeyboardInterrupt

    for run in (lambda: evaluate(model, interrupted(), F.cross_entropy), lambda: predict(model, interrupted())):
        with pytest.raises(KeyboardInterrupt):
            run()
        assert all(modes(model))


def test_threads_that_evaluate_beside_one_that_trains():
    """Wrong before: evaluation in one thread switched the dropout of another off, and left models in eval."""
    model, x = Noisy(), normal(8, 4)
    gpt = models.TinyGPT(20, 16, 1, 2, 16, dropout=0.5)
    loader = data.DataLoader(data.ArrayDataset(x, np.zeros(8, np.int64)), 4)
    expected = predict(model, [x])
    done, wrong = threading.Event(), []

    def train():
        dropped = model.inner[0]
        while not done.is_set():
            if not (dropped(np.ones((100, 4), np.float32)).numpy() == 0).any():
                wrong.append("dropout was off")

    def use(i):
        if i % 4 == 0:
            gpt.generate([1], 3)
        elif i % 4 == 1:
            evaluate(model, loader, F.cross_entropy)
        elif i % 4 == 2:
            model.to_int8(), gpt.to_int8()
        elif not np.array_equal(predict(model, [x]), expected):
            wrong.append("another prediction")

    thread = threading.Thread(target=train)
    thread.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(use, range(80)))
    finally:
        done.set()
        thread.join()
    assert not wrong and all(modes(model)) and all(modes(gpt))
