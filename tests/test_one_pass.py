"""Paired comparisons use one pass over the data, because the next pass may give other batches."""

from __future__ import annotations

import numpy as np
import pytest

import tinyml
from tinyml import nn, precision
from tinyml.batches import keep_batches, read_batches
from tinyml.data import ArrayDataset, DataLoader, RandomBatches
from tinyml.evaluation import run_models
from tinyml.precision.analysis.score import Score
from tinyml.tensors import Tensor

RNG = np.random.default_rng(0)
X = RNG.standard_normal((96, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    tinyml.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 5)).eval()


@pytest.fixture(scope="module")
def labels(model):
    """The model's own classes, so that its accuracy is 1 where outputs stand beside their own targets, and else is not."""
    return model(X).numpy().argmax(1)


class OwnEpoch:
    """A loader of another library: shuffles by an epoch of its own."""

    def __init__(self, x, y):
        self.x, self.y, self.epoch = x, y, 0

    def __iter__(self):
        self.epoch += 1
        order = np.random.default_rng(self.epoch).permutation(len(self.x))
        yield from ((self.x[i], self.y[i]) for i in np.split(order, 6))


class OneBuffer(OwnEpoch):
    """Fills the same two arrays again for each batch."""

    def __iter__(self):
        x, y = np.empty_like(self.x[:16]), np.empty_like(self.y[:16])
        for a, b in super().__iter__():
            x[...], y[...] = a, b
            yield x, y


def loaders(y):
    items = ArrayDataset(X, y)
    return {"shuffling": DataLoader(items, 16, shuffle=True), "seeded": DataLoader(items, 16, shuffle=True, seed=3),
            "augmenting": DataLoader(items, 16, shuffle=True, transform=lambda x, rng: x + np.float32(1e-6) * rng.random()),
            "with an epoch of its own": OwnEpoch(X, y), "that fills one buffer": OneBuffer(X, y),
            "that can be walked once": iter(DataLoader(items, 16, shuffle=True)),
            "a generator": (pair for pair in OwnEpoch(X, y))}


KINDS = list(loaders(np.zeros(96, int)))


@pytest.mark.parametrize("kind", KINDS)
def test_diagnosis_and_max_drop_pair_outputs_with_their_own_targets(model, labels, kind):
    found = precision.diagnose(model, loaders(labels)[kind], [X])
    assert found.metric == "accuracy" and found.float_value == 1.0 and found.drop < 20
    plan = model.to_int8(calibration=[X], max_drop=20, validation=loaders(labels)[kind])
    assert plan.info["frontier"][0]["drop"] < 20 and not plan.islands
    both = model.to_int8(calibration=loaders(labels)[kind], max_drop=20)
    assert both.info["frontier"][-1]["drop"] < 20 and both.info["calibration"]["samples"] == 96


@pytest.mark.parametrize("kind", KINDS)
def test_agreement_is_with_the_float_model_on_the_same_inputs(model, labels, kind):
    score = Score(model, (x for x, _ in loaders(labels)[kind]))
    assert score.metric == "agreement" and score.value(model) == score.float_value == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_repairs_and_training_aware_of_int8_go_over_what_they_were_calibrated_with(model, labels, kind):
    plan = model.to_int8(calibration=loaders(labels)[kind], repairs=["equalize", "correct_bias", "learn_rounding"])
    assert np.mean(plan(X).numpy().argmax(1) == labels) > 0.9 and plan.info["calibration"]["samples"] == 96
    prepared = precision.prepare_qat(model, loaders(labels)[kind])
    assert np.mean(prepared.to_int8()(X).numpy().argmax(1) == labels) > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_comparisons_and_reports_take_one_pass(model, labels, kind):
    plan = model.to_int8(calibration=[X])
    found = precision.compare(model, plan, loaders(labels)[kind], show=False, seconds=0)
    assert found.a.accuracy == 1.0 and found.agreement == found.b.accuracy > 0.9 and found.samples == 96
    counts = [sum(h.counts) for layer in plan.report(loaders(labels)[kind], seconds=0).layers for h in layer.activations]
    assert counts and all(n % 96 == 0 for n in counts)


def test_all_models_see_the_same_batch_in_evaluation_mode():
    passes = OwnEpoch(X, np.arange(96))
    models = nn.Sequential(nn.Dropout(0.5)), nn.Sequential(nn.ReLU()), nn.Linear(8, 2)
    with run_models(models, read_batches("test", passes)) as run:
        for n, (inputs, (same, positive, linear), targets) in enumerate(run):
            assert np.array_equal(inputs.array, X[targets.array]) and np.array_equal(same.array, inputs.array)
            assert np.array_equal(positive.array, np.maximum(inputs.array, 0))
            assert not any(m.training for model in models for m in model.modules()) and not linear.requires_grad
            if n == 3:
                break
    assert passes.epoch == 1 and all(model.training for model in models)


def test_batches_are_kept_as_they_came(labels):
    walked = []

    def once():
        for pair in RandomBatches(ArrayDataset(X, labels), 4, 3, seed=1):
            walked.append(pair)
            yield pair

    kept = keep_batches("score", once())
    assert len(walked) == 3 and len(kept) == len(list(kept)) == 3
    for (x, y), (a, b) in zip(walked, kept, strict=True):
        assert np.array_equal(x.array, a.array) and np.array_equal(y.array, b.array)
        assert not np.shares_memory(x.array, a.array)
    given = [X, (Tensor(X), labels)]        # a list has all of them at once: nothing is copied
    assert all(np.shares_memory(x.array, X) for x, _ in keep_batches("score", given))
