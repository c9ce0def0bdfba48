"""Updates: the weights of accumulated batches, batches without a target that counts, parameters in no optimizer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trainers import separable, trainer, weights

import tinyml
from tinyml import nn, optim
from tinyml.data import ArrayDataset, DataLoader
from tinyml.errors import DtypeError, ShapeError
from tinyml.models import MLP
from tinyml.nn import functional as F
from tinyml.trainer import Trainer

IGNORED = -100


def end(x, y, size, accumulate, loss=F.cross_entropy, clip_norm=None, epochs=1):
    """Weights, the last row of the history, and updates after training on batches of a size."""
    tinyml.manual_seed(0)
    model = MLP(x.shape[1], 5, 3) if y.dtype.kind in "iu" else MLP(x.shape[1], 5, y.shape[1])
    optimizer = optim.SGD(model.parameters(), 0.5)
    t = Trainer(model, optimizer, loss, progress=False, accumulate=accumulate, clip_norm=clip_norm)
    row = t.fit(DataLoader(ArrayDataset(x, y), size), epochs)[-1]
    return model.state_dict(), row


@settings(deadline=None, max_examples=40)
@given(n=st.integers(2, 24), size=st.integers(1, 6), accumulate=st.integers(2, 4), ignored=st.floats(0, 0.9),
       clip=st.sampled_from([None, 0.1]), seed=st.integers(0, 99))
def test_accumulated_batches_are_one_batch_of_all_their_targets(n, size, accumulate, ignored, clip, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, 4)).astype(np.float32), rng.integers(0, 3, n)
    y[rng.random(n) < ignored] = IGNORED
    y[0] = 0        # one counts
    many, row = end(x, y, size, accumulate, clip_norm=clip)
    whole, expected = end(x, y, size * accumulate, 1, clip_norm=clip)
    for name, array in whole.items():
        np.testing.assert_allclose(many[name], array, rtol=2e-5, atol=2e-6)
    assert row["updates"] == expected["updates"] and row["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-5)


def test_targets_of_other_kinds_weigh_by_samples():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((11, 4)).astype(np.float32), rng.standard_normal((11, 2)).astype(np.float32)
    many, whole = (end(x, y, size, accumulate, F.mse_loss)[0] for size, accumulate in ((3, 4), (11, 1)))
    for name, array in whole.items():
        np.testing.assert_allclose(many[name], array, rtol=1e-5, atol=1e-6)


def test_batches_whose_targets_are_all_ignored_are_passed_over():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((32, 4)).astype(np.float32), rng.integers(0, 3, 32)
    y[8:16] = IGNORED
    some, row = end(x, y, 8, 1, epochs=2)
    left, expected = end(np.delete(x, slice(8, 16), 0), np.delete(y, slice(8, 16)), 8, 1, epochs=2)
    assert all(np.array_equal(some[name], a) for name, a in left.items())
    assert row["updates"] == expected["updates"] == 6 and row["train_loss"] == expected["train_loss"]
    loss = nn.CrossEntropyLoss(ignore_index=2)
    for none, kind in ((IGNORED, F.cross_entropy), (2, loss)):
        with pytest.raises(ShapeError, match=rf"epoch 1: expected a target that counts, .* all {none}, which is ignored"):
            trainer(loss=kind).fit([(x[:8, :3], np.full(8, none))], 1)


def test_nothing_of_a_batch_that_is_passed_over_is_seen():
    """No forward, no update, no step of the schedule, no evaluation."""
    x, ends = np.ones((4, 3), np.float32), []
    counts, ignored = (x, np.zeros(4, np.int64)), (x, np.full(4, IGNORED))
    for data in ([counts, ignored, ignored], [ignored, counts], [counts]):
        tinyml.manual_seed(1)
        model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
        optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9)
        schedule = optim.LinearWarmup(optimizer, 9)
        row = Trainer(model, optimizer, schedule=schedule, progress=False, evaluate_every=1).fit(data, 1)[-1]
        ends.append((weights(model), tinyml.random.get_state(), schedule.steps, len(row["evaluations"]), row["updates"]))
    assert ends[0] == ends[1] == ends[2] and ends[0][2:] == (1, 1, 1)


# ---- parameters and losses


def replaced_head():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3))
    optimizer = optim.SGD(model.parameters(), 0.5)
    setattr(model, "1", nn.Linear(4, 2))
    return model, optimizer


def test_parameters_that_no_optimizer_holds_are_named():
    model, optimizer = replaced_head()
    with pytest.raises(ShapeError, match=r"does not hold 1\.weight, 1\.bias, .* of shapes \(3, 4\), \(3,\)\. Was a layer"):
        Trainer(model, optimizer)
    part = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3))
    with pytest.warns(UserWarning, match=r"does not hold 0\.weight, 0\.bias, so training leaves them as they are\."):
        t = Trainer(part, optim.SGD(part[1].parameters(), 0.5), progress=False)
    before = weights(part)
    t.fit(DataLoader(separable(), 16), 1)
    assert {name for name, a in weights(part).items() if a != before[name]} == {"1.weight", "1.bias"}


def test_frozen_parameters_and_those_of_the_loss_are_fine():
    frozen = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3))
    for p in frozen[0].parameters():
        p.requires_grad = False
    trainer(frozen).fit(DataLoader(separable(), 16), 1)
    Trainer(frozen, optim.SGD(frozen[1].parameters(), 0.5))
    scale = nn.Parameter(np.ones(1, np.float32))        # of the loss
    whole = nn.Linear(3, 3)
    Trainer(whole, optim.SGD([*whole.parameters(), scale], 0.1), lambda y, t: F.cross_entropy(y * scale, t))


def test_what_is_no_loss_is_an_error_at_once():
    model = nn.Linear(3, 3)
    optimizer = optim.SGD(model.parameters(), 0.1)
    for loss, message in (("mse", "a function of .outputs, targets. that returns a Tensor of one element.* got 'mse'"),
                          (0.5, r"got 0\.5"), (nn.MSELoss, r"class MSELoss; make one, MSELoss\(\)")):
        with pytest.raises(DtypeError, match=message):
            Trainer(model, optimizer, loss)
