"""Trainer: fitting, evaluation, checkpoints, modes, interruptions, and where a value that is not finite came from."""

from __future__ import annotations

import json
import math
import os

import numpy as np
import pytest
from safetensors.numpy import load_file

import tinyml.random
from tinyml import nn, optim
from tinyml.data import ArrayDataset, DataLoader, RandomBatches, TextDataset
from tinyml.errors import DtypeError, FileError, NonFiniteError, ShapeError
from tinyml.models import MLP, CifarCNN, TinyGPT
from tinyml.nn import functional as F
from tinyml.tape import state
from tinyml.tensor import Tensor
from tinyml.trainer import Trainer


def separable(n=60, classes=3, seed=0):
    """Points around one corner per class."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, n)
    return ArrayDataset((np.eye(classes)[targets] * 3 + rng.standard_normal((n, classes))).astype(np.float32), targets)


def trainer(model=None, lr=0.1, kind=optim.SGD, schedule=None, **options):
    model = model or MLP(3, 8, 3)
    optimizer = kind(model.parameters(), lr)
    options["schedule"] = schedule(optimizer) if schedule else None
    return Trainer(model, optimizer, **{"progress": False} | options)


def batches(data, size=16):
    """The same batches at every pass, in a plain list."""
    return [data.batch(np.arange(i, min(i + size, len(data)))) for i in range(0, len(data), size)]


class Raising:
    """A loader that raises after some batches."""

    def __init__(self, loader, after, error):
        self.loader, self.after, self.error = loader, after, error

    def __iter__(self):
        for i, batch in enumerate(self.loader):
            if i == self.after:
                raise self.error
            yield batch


# ---- fit


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
    total = 0.0
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
        (lambda: Trainer(model, optimizer, clip_norm=0), ShapeError, "expected clip_norm above 0, got 0"),
        (lambda: Trainer(model, optimizer, evaluate_every=0), ShapeError, "expected evaluate_every to be a whole number"),
        (lambda: Trainer(model, optimizer, sample="text"), DtypeError, "sample to be a function .* got str"),
        (lambda: Trainer(model, optimizer).load_best(), FileError, "expected a Trainer with a checkpoint_dir"),
        (lambda: Trainer(model, optimizer, checkpoint_dir=tmp_path).load_best(), FileError, r"best\.safetensors"),
    ]:
        with pytest.raises(error, match=message):
            call()


# ---- evaluations within an epoch


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


# ---- evaluate, predict, modes


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
    assert found == pytest.approx({"loss": F.cross_entropy(logits, targets).item(), "count": 40,
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
    for wrong, message in ((x, r"pass \[inputs\]"), ([], "no batch"), ([(x, y, y)], "tuple of 3"), ([1.0], "float")):
        with pytest.raises(ShapeError, match=message):
            t.predict(wrong)


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


# ---- checkpoints


def weights(model):
    return {name: array.tobytes() for name, array in model.state_dict().items()}


def stored(path):
    return {name: array.tobytes() for name, array in load_file(path).items()}


def checkpointed(folder):
    arrays = load_file(folder / "checkpoint.safetensors")
    return {name.removeprefix("model."): a.tobytes() for name, a in arrays.items() if name.startswith("model.")}


class Scripted:
    """A metric with given values; keeps the model's weights of every call."""

    def __init__(self, model, scores):
        self.model, self.scores, self.seen = model, iter(scores), []

    def __call__(self, outputs, targets):
        assert isinstance(outputs, np.ndarray) and len(outputs) == len(targets)
        self.seen.append(weights(self.model))
        return next(self.scores)


def test_checkpoints_hold_the_last_and_the_best_epoch(tmp_path):
    data = batches(separable(), 60)
    t = trainer(CifarCNNLike(), checkpoint_dir=tmp_path / "made" / "here")
    metric = Scripted(t.model, [0.1, math.nan, 0.7, 0.7, 0.2])
    history = t.fit(data, 5, validation=data, metric=metric)
    assert [row["validation_metric"] for row in history] == pytest.approx([0.1, math.nan, 0.7, 0.7, 0.2], nan_ok=True)
    folder = tmp_path / "made" / "here"
    assert sorted(os.listdir(folder)) == ["best.safetensors", "checkpoint.safetensors", "history.json"]
    assert checkpointed(folder) == weights(t.model) == metric.seen[4]
    assert stored(folder / "best.safetensors") == metric.seen[2]       # the first of equals
    read = json.loads((folder / "history.json").read_text())
    assert math.isnan(read[1].pop("validation_metric")) and read[0] == history[0] and len(read) == 5
    t.load_best()
    assert weights(t.model) == metric.seen[2]
    t.fit(data, 1, validation=data, metric=Scripted(t.model, [0.6]))    # a further fit competes with the first
    assert stored(folder / "best.safetensors") == metric.seen[2] != checkpointed(folder)


class CifarCNNLike(nn.Module):
    """Buffers, and tied parameters, in a small model of vectors."""

    def __init__(self):
        self.first, self.norm, self.second = nn.Linear(3, 3), nn.BatchNorm2d(3), nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.norm(self.first(x).reshape(-1, 3, 1, 1)).reshape(-1, 3))


@pytest.mark.parametrize(("metric", "validation", "kind"), [
    ("accuracy", "classes", "validation_accuracy"), ("loss", "classes", "validation_loss"),
    ("accuracy", "numbers", "validation_loss"), ("accuracy", None, "train_loss"), ("loss", None, "train_loss")])
def test_the_best_epoch_is_chosen_by_what_there_is(tmp_path, metric, validation, kind):
    data = batches(separable(), 60)
    if validation == "numbers":
        data = [(x, x[:, ::-1].copy()) for x, _ in data]
    loss = F.mse_loss if validation == "numbers" else F.cross_entropy
    t = trainer(MLP(3, 3), lr=1.5, loss=loss, checkpoint_dir=tmp_path)
    best = None
    for _ in range(8):      # a rate so large that some epochs are worse than the one before
        with np.errstate(all="ignore"):
            row = t.fit(data, 1, validation=data if validation else None, metric=metric)[-1]
        value = row[kind] if kind == "validation_accuracy" else -row[kind]
        if best is None or value > best[0]:
            best = value, weights(t.model)
        assert stored(tmp_path / "best.safetensors") == best[1]


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_the_best_epoch_is_chosen_by_the_validation_loss_and_not_by_the_training_loss(tmp_path, metric):
    data = batches(separable())
    if metric == "accuracy":        # which numbers have none of
        data = [(x, x) for x, _ in data]
    t = trainer(lr=0.05, loss=F.cross_entropy if metric == "loss" else F.mse_loss, checkpoint_dir=tmp_path)
    contrary = [(-x, y) for x, y in data]       # what is learned is wrong there
    row = t.fit(data, 1, validation=contrary, metric=metric)[-1]
    best = weights(t.model)
    later = t.fit(data, 4, validation=contrary, metric=metric)[-1]
    assert later["train_loss"] < row["train_loss"] and later["validation_loss"] > row["validation_loss"]
    assert stored(tmp_path / "best.safetensors") == best


def test_the_best_by_one_measure_does_not_compete_with_the_best_by_another(tmp_path):
    data = batches(separable())
    t = trainer(checkpoint_dir=tmp_path)
    t.fit(data, 1, validation=data, metric=lambda outputs, targets: 1e9)
    t.fit(data, 1)
    assert stored(tmp_path / "best.safetensors") == weights(t.model)


def test_a_score_that_is_nan_is_worse_than_any_other(tmp_path):
    data = batches(separable(), 60)
    t = trainer(checkpoint_dir=tmp_path)
    t.fit(data, 2, validation=data, metric=Scripted(t.model, [math.nan, -5.0]))
    assert stored(tmp_path / "best.safetensors") == weights(t.model)


def test_a_damaged_best_checkpoint_is_an_error_and_loads_nothing(tmp_path):
    t = trainer(checkpoint_dir=tmp_path)
    t.fit(batches(separable()), 1)
    before = weights(t.model)
    whole = (tmp_path / "best.safetensors").read_bytes()
    for damaged in (b"", whole[:-5], b"\xff" * 40):
        (tmp_path / "best.safetensors").write_bytes(damaged)
        with pytest.raises(FileError, match=r"load_best: expected .*best\.safetensors as fit writes it"):
            t.load_best()
    assert weights(t.model) == before


def test_an_interrupt_in_an_epoch_leaves_the_last_checkpoint(tmp_path):
    data = batches(separable())
    t = trainer(checkpoint_dir=tmp_path)
    t.fit(data, 1)
    kept = weights(t.model)
    with pytest.raises(KeyboardInterrupt):
        t.fit(Raising(data, 2, KeyboardInterrupt()), 3)
    assert checkpointed(tmp_path) == kept != weights(t.model)
    assert len(t.history) == 1 and t.model.training


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "best.safetensors", "history.json"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupt_in_writing_leaves_whole_files_and_no_others(tmp_path, monkeypatch, name, error):
    data, replace = batches(separable()), os.replace
    t = trainer(checkpoint_dir=tmp_path)
    t.fit(data, 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupted(source, target):
        if target.name == name:
            raise error()
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(FileError, match=f"{name}: cannot write") if error is OSError else pytest.raises(error):
        t.fit(data, 1)
    assert (tmp_path / name).read_bytes() == before[name]
    assert sorted(os.listdir(tmp_path)) == sorted(before)
    t.load_best()


# ---- values that are not finite


def run_into(t, loader, epochs=1):
    """The error's text; checks that the failed step changed nothing."""
    seen = {}

    class Watched:
        def __iter__(self):
            for batch in loader:
                seen.update(before=weights(t.model), lr=t.optimizer.lr, random=tinyml.random.get_state())
                yield batch

    with np.errstate(all="ignore"), pytest.raises(NonFiniteError) as caught:
        t.fit(Watched(), epochs)
    assert weights(t.model) == seen["before"] and t.optimizer.lr == seen["lr"]
    assert t.model.training and tinyml.random.get_state() == seen["random"]
    return str(caught.value)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_bad_input_is_named(bad):
    data = batches(separable())
    data[2][0][5, 1] = bad
    text = run_into(trainer(CifarCNNLike()), data)
    assert text.startswith("epoch 1, step 3: expected a finite loss, got nan; the first to go bad: ")
    assert text.endswith(f"the batch's inputs: {bad} at index (5, 1) of shape (16, 3)")


def test_a_bad_target_is_named():
    data = [(x, x.copy()) for x, _ in batches(separable())]
    data[1][1][0, 2] = math.inf
    text = run_into(trainer(MLP(3, 3), loss=F.mse_loss), data)
    assert "epoch 1, step 2" in text and "got inf" in text and "batch's targets: inf at index (0, 2)" in text


def test_a_bad_parameter_is_named():
    t = trainer(CifarCNN(width=2))
    t.model[3].weight.data[1, 0, 2, 2] = math.nan
    data = [(np.zeros((2, 3, 4, 4), np.float32), np.array([0, 1]))]
    assert "parameter 3.weight: nan at index (1, 0, 2, 2) of shape (2, 2, 3, 3)" in run_into(t, data)


def test_the_op_and_layer_where_numbers_overflow_are_named():
    t = trainer(TinyGPT(11, 4, 2, 2, 8))
    t.model.blocks[1].up.weight.data[:] = 3e38
    data = batches(TextDataset(np.arange(20) % 11, 4))
    text = run_into(t, data)        # the causal mask's -inf, which comes earlier, is none
    assert "the output of linear in layer blocks.1.up (Linear): " in text and " at index (0, 0, 0) of" in text


class Logarithm(nn.Module):
    """ln(x - shift), -inf or NaN for small x."""

    def __init__(self, shift):
        self.linear, self.shift = nn.Linear(3, 3), shift

    def forward(self, x):
        return self.linear((x - self.shift).log())


def test_the_first_of_several_bad_ops_is_named():
    t = trainer(nn.Sequential(Logarithm(0), Logarithm(0)))
    data = [(np.array([[1, 2, -3]], np.float32), np.array([0]))]
    text = run_into(t, data)
    assert "the output of log in layer 0 (Logarithm): nan at index (0, 2) of shape (1, 3)" in text


def test_a_shared_layer_goes_by_its_first_name():
    layer = Logarithm(2)
    text = run_into(trainer(nn.Sequential(layer, layer)), [(np.ones((1, 3), np.float32), np.array([0]))])
    assert "in layer 0 (Logarithm)" in text


def test_a_loss_over_no_target_is_named():
    data = [(np.ones((2, 3), np.float32), np.full(2, -100))]
    text = run_into(trainer(), data)
    assert "the output of cross_entropy in the loss: nan at index () of shape ()" in text


class Gamble(nn.Module):
    """Overflows for one draw in about eight."""

    def forward(self, x):
        return x * (np.float32(3e38) if tinyml.random.generator().random() < 1 / 8 else np.float32(1)) * np.float32(4)


def test_random_choices_are_repeated_to_find_the_op():
    for seed in range(5):
        tinyml.random.manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.1), Gamble())
        text = run_into(trainer(model, lr=0.0), batches(separable()), 99)
        assert "the output of mul in layer 2 (Gamble): " in text


def test_a_bad_buffer_is_named_when_no_op_made_it():
    class Scaled(nn.Linear):
        def __init__(self):
            super().__init__(3, 3)
            self.factor = Tensor(np.float32([1, math.nan, 1]))

        def forward(self, x):
            return super().forward(x) * self.factor

    assert "the first to go bad: buffer factor: nan at index (1,)" in run_into(trainer(Scaled()), batches(separable()))


def test_a_bad_running_moment_does_not_stay():
    t = trainer(CifarCNNLike())
    data = batches(separable())
    data[0][0][0, 0] = math.nan
    run_into(t, data)       # checks all of the state dict, running moments and their count included
    assert t.model.norm.num_batches_tracked.item() == 0


@pytest.mark.parametrize("bad", [3, 4])
def test_a_bad_batch_of_a_group_is_named_and_the_group_makes_no_update(bad):
    t = trainer(CifarCNNLike(), accumulate=3, clip_norm=1.0)
    data = batches(separable(100))
    data[bad][0][0, 0] = math.inf
    assert f"epoch 1, step {bad + 1}: " in run_into(t, data)
    assert t.optimizer.updates == [1] * len(t.optimizer.updates) and t.model.norm.num_batches_tracked.item() == bad


class Root(nn.Module):
    """sqrt(|Wx| 0): 0 forward, infinite slope."""

    def __init__(self):
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        return self.fc(x) + (self.fc(x) * 0).sqrt()


def test_a_bad_gradient_is_named_when_gradients_are_clipped():
    data = batches(separable())
    text = run_into(trainer(Root(), clip_norm=1.0), data)
    assert text.startswith("epoch 1, step 1: expected finite gradients, got that of fc.weight: nan at index (0, 0)")
    text = run_into(trainer(Root()), data)       # without clipping the next step finds what it did
    assert "epoch 1, step 2" in text and "parameter fc.weight: nan" in text


def test_a_bad_gradient_of_a_parameter_outside_the_model_is_an_error():
    model, extra = MLP(3, 3), nn.Parameter(np.zeros(1, np.float32))

    def loss(outputs, targets):
        return F.cross_entropy(outputs, targets) + extra.sqrt().sum()

    t = Trainer(model, optim.SGD([*model.parameters(), extra], 0.1), loss=loss, clip_norm=1.0, progress=False)
    assert "got grad_norm: expected finite gradients" in run_into(t, batches(separable()))
