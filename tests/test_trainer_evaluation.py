"""Trainer's evaluate and predict, and evaluations and samples within an epoch."""

from __future__ import annotations

import json

import numpy as np
import pytest
from trainers import Scripted, batches, separable, stored, trainer, weights

from tinyml import nn, optim
from tinyml.data import ArrayDataset, DataLoader, RandomBatches, TextDataset
from tinyml.errors import ShapeError
from tinyml.models import MLP, CifarCNN, TinyGPT, next_token_loss
from tinyml.nn import functional as F
from tinyml.tape import state
from tinyml.tensors import Tensor
from tinyml.trainer import Trainer


def test_evaluate_weights_by_samples():
    t, data = trainer(), separable(50)
    x, y = data.batch(np.arange(50))
    logits = t.model(x)
    whole = {"loss": F.cross_entropy(logits, y).item(), "accuracy": (logits.numpy().argmax(1) == y).mean(), "count": 50}
    for size in (50, 16, 7):
        assert t.evaluate(DataLoader(data, size)) == pytest.approx(whole, rel=1e-6)


def test_evaluate_of_an_image_model_uses_running_moments_and_leaves_them():
    model = CifarCNN(width=2)
    data = ArrayDataset(np.random.default_rng(0).standard_normal((9, 3, 4, 4)).astype(np.float32), np.arange(9))
    t, before = trainer(model), model.state_dict()
    a, b = t.evaluate(DataLoader(data, 9)), t.evaluate(DataLoader(data, 2))
    assert a == pytest.approx(b, rel=1e-5)      # a batch's own moments would differ
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters()) and state.grad


def test_evaluate_of_a_language_model_counts_every_target():
    t, data = trainer(TinyGPT(11, 4, 1, 2, 8)), TextDataset(np.random.default_rng(0).integers(0, 11, 41), 4)
    ids, targets = data.batch(np.arange(10))
    logits = t.model(ids)
    found = t.evaluate(DataLoader(data, 3))
    assert found == pytest.approx({"loss": next_token_loss(logits, targets).item(), "count": 40,
                                   "accuracy": (logits.numpy().argmax(-1) == targets).mean()}, rel=1e-5)


@pytest.mark.parametrize(("loss", "ignored"), [(F.cross_entropy, -100), (nn.CrossEntropyLoss(ignore_index=2), 2)])
def test_ignored_targets_do_not_count(loss, ignored):
    t, data = trainer(loss=loss), separable(40)
    x, y = data.batch(np.arange(40))
    y = np.where(np.arange(40) % 5 < 2, ignored, y)
    y[:8] = ignored
    counted = y != ignored
    logits = t.model(x)
    found = t.evaluate([(x[i : i + 8], y[i : i + 8]) for i in range(0, 40, 8)])       # the first has none that counts
    assert found["count"] == counted.sum() and found["loss"] == pytest.approx(loss(logits, y).item(), rel=1e-6)
    assert found["accuracy"] == (logits.numpy().argmax(1) == y)[counted].mean()


def test_regression_has_no_accuracy():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 3)).astype(np.float32)
    data = ArrayDataset(x, x @ rng.standard_normal((3, 2)).astype(np.float32))
    t = trainer(MLP(3, 2), loss=F.mse_loss)
    row = t.fit(DataLoader(data, 8), 60, validation=DataLoader(data, 8))[-1]
    assert "validation_accuracy" not in row and row["validation_loss"] < 1e-3
    found = t.evaluate(DataLoader(data, 8))
    assert found.keys() == {"loss", "count"} and found["count"] == 30


def test_predict_takes_pairs_and_bare_inputs():
    t, data = trainer(), separable(20)
    x, y = data.batch(np.arange(20))
    expected = t.model(x).numpy()
    for loader in (DataLoader(data, 6), [x[:9], x[9:]], [Tensor(x)], ((a, b) for a, b in [(x, y)])):
        got = t.predict(loader)
        assert isinstance(got, np.ndarray)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)      # few rows are summed in another order
    for wrong, message in ((x, r"pass \[inputs\]"), ([], "no batch"), ([(x, y, y)], "tuple of 3"), ([1.0], r"got 1\.0")):
        with pytest.raises(ShapeError, match=message):
            t.predict(wrong)


# ---- within an epoch


def test_evaluations_between_epochs_are_in_the_history_and_in_its_file(tmp_path):
    windows = TextDataset(np.random.default_rng(0).integers(0, 11, 200), 4, 1)
    validation = RandomBatches(windows, 3, 2)       # without a seed: only fit makes them the same every time
    seen, model = [], TinyGPT(11, 4, 1, 2, 8)

    class Watched(Trainer):
        def evaluate(self, loader, metric=None):
            batches = [(x.numpy().tobytes(), y.numpy().tobytes()) for x, y in loader]
            loader.epoch -= 1
            seen.append((batches, json.loads(path.read_text()) if path.exists() else []))
            return super().evaluate(loader, metric)

    path = tmp_path / "history.json"
    t = Watched(model, optim.AdamW(model.parameters(), 0.01), checkpoint_dir=tmp_path, progress=False, accumulate=2,
                evaluate_every=3)
    history = t.fit(RandomBatches(windows, 4, 15), 2, validation)
    assert [row["updates"] for row in history] == [8, 16] and validation.epoch == 0
    assert [[e["updates"] for e in row["evaluations"]] for row in history] == [[3, 6, 8], [11, 14, 16]]
    for row in history:
        assert all(e.keys() == {"updates", "train_loss", "lr", "validation_loss", "validation_accuracy"}
                   for e in row["evaluations"])
        parts = [e["train_loss"] * batches for e, batches in zip(row["evaluations"], (6, 6, 3), strict=True)]
        assert row["train_loss"] == pytest.approx(sum(parts) / 15)
    assert len(seen) == 6 and all(batches == seen[0][0] for batches, _ in seen)
    assert seen[5][1] == [history[0], {"epoch": 2, "updates": 14, "evaluations": history[1]["evaluations"][:2]}]
    assert json.loads(path.read_text()) == history


def test_the_best_evaluation_within_an_epoch_is_kept(tmp_path):
    data = batches(separable(), 10)
    t = trainer(checkpoint_dir=tmp_path, evaluate_every=2)
    metric = Scripted(t.model, [0.1, 0.9, 0.5])
    t.fit(data, 1, validation=batches(separable(), 60), metric=metric)
    assert stored(tmp_path / "best.safetensors") == metric.seen[1] != weights(t.model)


def test_a_sample_and_the_speed_are_printed(capsys):
    model = TinyGPT(11, 4, 1, 2, 8)
    modes = []

    def sample():
        modes.append((model.training, state.grad))
        return "".join("abcdefghijk"[i] for i in model.generate([0], 5))

    loader = DataLoader(TextDataset(np.arange(101) % 11, 4), 5)
    t = Trainer(model, optim.AdamW(model.parameters(), 0.0), evaluate_every=2, sample=sample)
    t.fit(loader, 1)
    out, err = capsys.readouterr()
    lines = [line for line in err.replace("\r", "\n").splitlines() if line.startswith("a")]
    assert out == "" and len(lines) == 3 and len(set(lines)) == 1 and len(lines[0]) == 6      # the same draws every time
    assert modes == [(False, False)] * 3 and model.training
    assert "  update 2: train loss " in err and "tokens/s=" in err
    trainer(progress=True).fit(batches(separable()), 1)
    assert "samples/s=" in capsys.readouterr().err
