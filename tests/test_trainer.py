"""Trainer: fit is the loop one would write; what it reports, what it refuses, and layers' modes."""

from __future__ import annotations

import numpy as np
import pytest
from trainers import Raising, batches, separable, trainer

import tinyml.random
from tinyml import nn, optim
from tinyml.data import DataLoader
from tinyml.errors import DtypeError, FileError, ShapeError
from tinyml.models import MLP
from tinyml.nn import functional as F
from tinyml.tape import state
from tinyml.tensors import Tensor
from tinyml.trainer import Trainer


def test_fit_learns_and_reports_each_epoch():
    t = trainer()
    loader = DataLoader(separable(), 16, shuffle=True)
    history = t.fit(loader, 8, validation=DataLoader(separable(seed=1), 7))
    assert history is t.history and [row["epoch"] for row in history] == list(range(1, 9))
    assert set(history[0]) == {"epoch", "updates", "train_loss", "lr", "validation_loss", "validation_accuracy", "seconds"}
    assert history[-1]["train_loss"] < 0.6 * history[0]["train_loss"] and history[-1]["validation_accuracy"] > 0.85
    assert all(row["lr"] == 0.1 and row["seconds"] > 0 for row in history)
    t.fit(loader, 1)
    assert len(history) == 9 and set(history[-1]) == {"epoch", "updates", "train_loss", "lr", "seconds"}


def test_fit_is_the_loop_one_would_write():
    data = batches(separable())
    tinyml.random.manual_seed(1)
    t = trainer(kind=optim.AdamW, lr=0.01, clip_norm=0.5, schedule=lambda o: optim.OneCycleLR(o, 0.05, 8))
    tinyml.random.manual_seed(1)
    model = MLP(3, 8, 3)
    optimizer = optim.AdamW(model.parameters(), 0.01)
    schedule = optim.OneCycleLR(optimizer, 0.05, 8)
    rates = []
    for _ in range(2):
        total = 0.0
        for x, y in data:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optim.clip_grad_norm_(model.parameters(), 0.5)
            rates.append(optimizer.lr)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(y)
    history = t.fit(data, 2)
    assert history[-1]["train_loss"] == pytest.approx(total / 60, rel=1e-12)
    assert [row["lr"] for row in history] == [rates[3], rates[7]]
    for name, array in t.model.state_dict().items():
        np.testing.assert_array_equal(array, model.state_dict()[name])


def test_progress_shows_loss_and_lr_on_stderr_or_nothing(capsys):
    trainer(progress=True).fit(DataLoader(separable(), 16), 2)
    out, err = capsys.readouterr()
    assert out == "" and "epoch 2: 100%" in err and "4/4" in err and "loss=" in err and "lr=1.00e-01" in err
    trainer().fit(DataLoader(separable(), 16), 2)
    assert capsys.readouterr() == ("", "")


def test_fit_takes_any_iterable_of_pairs():
    x, y = separable().batch(np.arange(60))
    for loader in ([(x, y)], [[Tensor(x), Tensor(y)]], (pair for pair in [(x, y)])):
        assert len(trainer().fit(loader, 1)) == 1


class Modes(nn.Module):
    """Notes at every call whether it trains, with gradients."""

    def __init__(self):
        self.linear, self.frozen, self.seen = nn.Linear(3, 3), nn.Dropout(0.1), []

    def forward(self, x):
        self.seen.append((self.training, self.frozen.training, state.grad))
        return self.linear(x)


def test_modes_are_set_and_every_layers_own_comes_back():
    data = batches(separable(20), 20)
    t = trainer(Modes())
    t.model.frozen.eval()
    modes = [m.training for m in t.model.modules()]
    t.fit(data, 2, validation=data)
    t.evaluate(data)
    t.predict(data)
    train, use = (True, True, True), (False, False, False)
    assert t.model.seen == [train, use, train, use, use, use]
    for wrong in (lambda: t.fit(Raising(data * 2, 1, OSError("disk")), 1),
                  lambda: t.predict([np.zeros((2, 4), np.float32)]),
                  lambda: t.evaluate(Raising(data * 2, 1, OSError("disk")))):
        with pytest.raises((OSError, ShapeError)):
            wrong()
    assert [m.training for m in t.model.modules()] == modes == [True, True, False] and state.grad


# ---- what is refused


def test_wrong_fits_are_errors():
    data = batches(separable())
    for call, error, message in [
        (lambda: trainer().fit(data, 0), ShapeError, "epochs to be a whole number of at least 1, got 0"),
        (lambda: trainer().fit(data, 1.5), ShapeError, r"at least 1, got 1\.5"),
        (lambda: trainer().fit([], 1), ShapeError, "epoch 1: no batch came from the list"),
        (lambda: trainer().fit(iter(data), 2), ShapeError, "epoch 2: no batch came from the list_iterator"),
        (lambda: trainer().fit([data[0][0]], 1), ShapeError, r"batches \(inputs, targets\), got ndarray"),
        (lambda: trainer().fit([(*data[0], 1)], 1), ShapeError, "got tuple of 3"),
        (lambda: trainer().fit(data, 1, metric="f1"), ShapeError, "expected metric 'accuracy', 'loss' or.*got 'f1'"),
        (lambda: trainer().fit(data, 1, metric=max), ShapeError, "and no validation loader"),
        (lambda: trainer().fit(data, 1, validation=[]), ShapeError, "evaluate: no batch"),
        (lambda: trainer(loss=lambda o, y: o).fit(data, 1), ShapeError, r"of one element, got shape \(16, 3\)"),
        (lambda: trainer(loss=lambda o, y: 1.0).fit(data, 1), ShapeError, "of one element, got float"),
    ]:
        with pytest.raises(error, match=message):
            call()


def test_wrong_trainers_are_errors(tmp_path):
    model, other = MLP(3, 3), MLP(3, 3)
    optimizer, elsewhere = optim.SGD(model.parameters(), 0.1), optim.SGD(other.parameters(), 0.1)
    for call, error, message in [
        (lambda: Trainer(np.tanh, optimizer), DtypeError, "expected a tinyml Module, got <class 'numpy.ufunc'>"),
        (lambda: Trainer(model, model.parameters()), DtypeError, "expected a tinyml Optimizer, got <class 'list'>"),
        (lambda: Trainer(model, optimizer, schedule=0.1), DtypeError, "a tinyml Schedule, got <class 'float'>"),
        (lambda: Trainer(model, elsewhere), ShapeError, "an optimizer of the model's parameters"),
        (lambda: Trainer(model, optimizer, schedule=optim.LinearWarmup(elsewhere, 2)), ShapeError, "another optimizer"),
        (lambda: Trainer(model, optimizer, clip_norm=0), ShapeError, "expected clip_norm to be a number above 0, got 0"),
        (lambda: Trainer(model, optimizer, evaluate_every=0), ShapeError, "expected evaluate_every to be a whole number"),
        (lambda: Trainer(model, optimizer, sample="text"), DtypeError, "sample to be a function .* got str"),
        (lambda: Trainer(model, optimizer).load_best(), FileError, "expected a Trainer with a checkpoint_dir"),
        (lambda: Trainer(model, optimizer, checkpoint_dir=tmp_path).load_best(), FileError, r"best\.safetensors"),
    ]:
        with pytest.raises(error, match=message):
            call()
