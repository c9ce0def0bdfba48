"""Perplexity over all of a text, and pictures of losses."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_report import elements

from tinyml import Trainer, data, manual_seed, models, no_grad, optim, report
from tinyml.errors import DtypeError, FileError, ShapeError
from tinyml.models import TinyGPT, perplexity

CORE = sys.modules["tinyml.models.gpt.perplexity"]      # the package has the function by that name


def one_by_one(model, ids, context):
    """The mean of -ln p of each id but the first, window by window, in float64."""
    losses = []
    with no_grad():
        for begin in range(0, len(ids) - 1, context):
            window = ids[begin : begin + context + 1]
            logits = model(window[None, :-1]).numpy()[0].astype(np.float64)
            logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
            losses += [-row[target] for row, target in zip(logits, window[1:], strict=True)]
    return np.mean(losses)


@given(length=st.integers(2, 60), context=st.none() | st.integers(1, 8), largest=st.sampled_from([1, 300, 2**24]))
@settings(deadline=None, max_examples=30)
def test_each_id_but_the_first_is_predicted_once(length, context, largest):
    manual_seed(0)
    model = TinyGPT(11, 8, 1, 2, 8)
    for p in model.parameters():
        p.array *= 20        # predictions that differ
    ids = np.random.default_rng(length).integers(0, 11, length)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CORE, "LARGEST", largest)
        found = perplexity(model, ids, context)
    assert model.training and found["count"] == length - 1
    assert found["loss"] == pytest.approx(one_by_one(model.eval(), ids, context or 8), rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))
    assert found["bits"] * math.log(2) == pytest.approx(found["loss"])


def test_a_text_of_whole_windows_has_the_loss_that_a_trainer_finds(tmp_path):
    model, ids = TinyGPT(11, 8, 2, 2, 8, dropout=0.5), np.random.default_rng(0).integers(0, 11, 81)
    trainer = Trainer(model, optim.SGD(model.parameters(), 0.1), progress=False)
    found = trainer.evaluate(data.DataLoader(data.TextDataset(ids, 8), 3))
    data.write_tokens(tmp_path / "ids.npy", ids, 11)
    for source in (ids, ids.astype(np.uint8), list(ids), data.TokenFile(tmp_path / "ids.npy")):
        assert perplexity(model, source)["loss"] == pytest.approx(found["loss"], rel=1e-6)
    assert perplexity(model.to_int8(), ids)["loss"] == pytest.approx(found["loss"], rel=0.01)


@pytest.mark.parametrize(("cache", "off"), [("float32", 1e-6), ("float16", 1e-4), ("int8", 1e-2)])
def test_what_is_stored_of_earlier_positions_changes_little(cache, off):
    manual_seed(0)
    model, ids = TinyGPT(11, 8, 2, 2, 16, kv_heads=1), np.random.default_rng(0).integers(0, 11, 77)
    for p in model.parameters():
        p.array *= 3
    for context in (None, 3):
        plain, found = (perplexity(model, ids, context, c)["loss"] for c in (None, cache))
        assert found == pytest.approx(plain, rel=off) and (found != plain or cache == "float32")
    with pytest.raises(DtypeError, match="float32, float16, int8, got 'int4'"):
        perplexity(model, ids, cache="int4")


def test_a_hopeless_model_has_no_finite_perplexity():
    model = TinyGPT(3, 4, 1, 1, 2)
    model.norm.weight.array[:], model.norm.bias.array[:] = 0, [1, 0]
    model.tokens.weight.array[:] = [[1e4, 0], [0, 0], [0, 0]]
    assert perplexity(model, [1, 2, 1, 2])["perplexity"] == math.inf


@pytest.mark.parametrize(("ids", "context", "error", "message"), [
    ([1], None, ShapeError, r"at least two integers, got int64 of shape \(1,\)"), ([[1, 2]], None, ShapeError, "shape"),
    ([0.5, 1.5], None, DtypeError, "float64"), ([1, 11], None, ShapeError, "from 0 to 10, got 1 to 11"),
    ([1, -100], None, ShapeError, "got -100 to 1"), ([1, 2], 9, ShapeError, "context to be .* from 1 to 8, got 9"),
    ([1, 2], 0, ShapeError, "got 0"), ([1, 2], 2.0, DtypeError, r"got 2\.0")])
def test_wrong_arguments_are_errors(ids, context, error, message):
    with pytest.raises(error, match=message):
        perplexity(TinyGPT(11, 8, 1, 2, 8), ids, context)
    with pytest.raises(DtypeError, match="expected model to be a TinyGPT, got MLP"):
        perplexity(models.MLP(3, 3), [1, 2])


# ---- losses as a picture

HISTORY = [{"epoch": 1, "updates": 4, "train_loss": 2.5, "evaluations": [
                {"updates": 2, "train_loss": 3.0, "validation_loss": 2.0}, {"updates": 4, "train_loss": 2.0}]},
           {"epoch": 2, "updates": 8, "train_loss": 1.5, "validation_loss": 1.0}]


def test_a_picture_has_a_point_for_each_evaluation():
    from tinyml.report.losses import collect_points
    assert collect_points(HISTORY, "train_loss") == [(2, 3.0), (4, 2.0), (8, 1.5)]
    assert collect_points(HISTORY, "validation_loss") == [(2, 2.0), (8, 1.0)]


def test_losses_are_drawn(tmp_path):
    report.plot_losses(json.loads(json.dumps(HISTORY)), tmp_path / "losses.svg")
    shown = [e.text for e in elements(tmp_path / "losses.svg", "text")]
    assert {"train loss", "validation loss", "updates", "loss"} <= set(shown) and "Accuracy" not in shown
    lines = [(e.get("class"), e.get("d").count("L")) for e in elements(tmp_path / "losses.svg", "path")
             if e.get("class").startswith("line")]
    assert lines == [("line train", 2), ("line validation", 1)]
    titles = [e.text for e in elements(tmp_path / "losses.svg", "title")]
    assert titles == ["Loss", "3 at 2", "2 at 4", "1.5 at 8", "2 at 2", "1 at 8"]
    report.plot_losses([{**row, "validation_accuracy": 0.5} for row in HISTORY[1:]], tmp_path / "accuracy.svg")
    assert {"Loss", "Accuracy", "0.5 at 8"} <= {e.text for e in elements(tmp_path / "accuracy.svg", "title")}
    for losses in ([math.nan], [math.inf, 1.0], [1e30, -1e30], [1e-300, 0.0], [-3.5]):
        report.plot_losses([{"updates": i, "train_loss": v} for i, v in enumerate(losses)], tmp_path / "odd.svg")
        places = [float(e.get("cy")) for e in elements(tmp_path / "odd.svg", "circle")]
        assert len(places) == np.isfinite(losses).sum() and all(26 <= y <= 190 for y in places)
    with pytest.raises(FileError, match="cannot write"):
        report.plot_losses(HISTORY, tmp_path / "no" / "losses.svg")


def test_what_is_no_history_or_picture_is_an_error(tmp_path):
    for wrong, error, message in (([], ShapeError, "an empty one"), ([{"epoch": 1}], ShapeError, "one with epoch"),
                                  ({}, DtypeError, "got dict"), ([1], DtypeError, "a list of dicts, got list")):
        with pytest.raises(error, match=f"plot_losses: expected .*{message}"):
            report.plot_losses(wrong, tmp_path / "losses.svg")
    with pytest.raises(DtypeError, match=r"plot_losses: expected a file that ends in \.svg, .* got \.png"):
        report.plot_losses(HISTORY, tmp_path / "losses.png")
    assert not list(tmp_path.iterdir())
