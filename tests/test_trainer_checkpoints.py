"""Trainer's files: the last epoch and the best, how the best is chosen, and what an interrupt leaves."""

from __future__ import annotations

import json
import math
import os

import numpy as np
import pytest
from trainers import NormedAndTied, Raising, Scripted, batches, checkpointed, separable, stored, trainer, weights

from tinyml.errors import FileError
from tinyml.models import MLP
from tinyml.nn import functional as F


def test_checkpoints_hold_the_last_and_the_best_epoch(tmp_path):
    data = batches(separable(), 60)
    t = trainer(NormedAndTied(), checkpoint_dir=tmp_path / "made" / "here")
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


# ---- damage and interrupts


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
