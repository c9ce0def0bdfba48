"""Schedules: their learning rates are PyTorch's, saved, loaded, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from make_optim_parity import ONE_CYCLES
from optimizers import EXPECTED, parameters

from tinyml import optim
from tinyml.errors import DtypeError, ShapeError


def optimizer(lr=0.25):
    return optim.SGD(parameters([1.0]), lr)


def rates(make_schedule, steps):
    opt = optimizer()
    schedule = make_schedule(opt)
    found = [opt.lr]
    for _ in range(steps):
        schedule.step()
        found.append(opt.lr)
    return found


@pytest.mark.parametrize("name", ONE_CYCLES)
def test_one_cycle_is_pytorchs(name):
    options = ONE_CYCLES[name]
    found = rates(lambda o: optim.OneCycleLR(o, **options), options["total_steps"])
    np.testing.assert_allclose(found, EXPECTED[f"one_cycle/{name}"], rtol=1e-12, atol=1e-15)


def test_cosine_and_warmup_are_pytorchs():
    cosine = rates(lambda o: optim.CosineAnnealingLR(o, 20, 0.01), 20)
    warmup = rates(lambda o: optim.LinearWarmup(o, 5), 8)
    np.testing.assert_allclose(cosine, EXPECTED["cosine"], rtol=1e-12)
    np.testing.assert_allclose(warmup, EXPECTED["warmup"], rtol=1e-12)


def test_cosine_after_warmup():
    found = rates(lambda o: optim.CosineAnnealingLR(o, 14, min_lr=0.05, warmup_steps=4), 20)
    np.testing.assert_allclose(found[:5], [0.0625, 0.125, 0.1875, 0.25, 0.25])
    assert found[9] == pytest.approx(0.15) and found[14:] == [0.05] * 7
    assert found[4:] == sorted(found[4:], reverse=True)


def test_one_cycle_of_a_one_step_rise_starts_at_the_peak():
    found = rates(lambda o: optim.OneCycleLR(o, 1.0, 10, pct_start=0.1), 10)     # PyTorch divides by zero here
    assert found[0] == 1.0 and found[9] == pytest.approx(1 / 25 / 1e4)


def test_one_cycle_ends_with_an_error_and_changes_nothing():
    opt = optimizer()
    schedule = optim.OneCycleLR(opt, 1.0, 3)
    for _ in range(3):
        schedule.step()
    last = opt.lr
    with pytest.raises(ShapeError, match="at most total_steps = 3 steps, got step 4"):
        schedule.step()
    assert opt.lr == last and schedule.state_dict() == {"steps": 3, "base_lr": 1.0}


@pytest.mark.parametrize("make_schedule", [
    lambda o: optim.CosineAnnealingLR(o, 9, 0.01, warmup_steps=3), lambda o: optim.OneCycleLR(o, 0.5, 9),
    lambda o: optim.LinearWarmup(o, 6)])
def test_a_loaded_schedule_continues(make_schedule):
    opt, other = optimizer(), optimizer()
    whole = make_schedule(opt)
    for _ in range(4):
        whole.step()
    other.lr = 0.17     # as a resumed run has it: the optimizer's lr is not where the schedule began
    continued = make_schedule(other)
    continued.load_state_dict(whole.state_dict())
    assert other.lr == opt.lr
    for _ in range(4):
        whole.step()
        continued.step()
        assert other.lr == opt.lr


def test_wrong_schedules_are_errors():
    opt = optimizer()
    for make_one, error, message in [
        (lambda: optim.LinearWarmup(opt, 0), ShapeError, "LinearWarmup: expected steps to be .* at least 1, got 0"),
        (lambda: optim.LinearWarmup(opt, 2.5), DtypeError, "steps to be a whole number of at least 1, got 2.5"),
        (lambda: optim.LinearWarmup([], 2), DtypeError, r"LinearWarmup: expected optimizer to be an Optimizer, got \[\]"),
        (lambda: optim.CosineAnnealingLR(None, 2), DtypeError, "to be an Optimizer, got None"),
        (lambda: optim.CosineAnnealingLR(opt, 5, warmup_steps=5), ShapeError, "below total_steps, got 5 and 5"),
        (lambda: optim.CosineAnnealingLR(opt, 5, min_lr=0.3), ShapeError, "at most the optimizer's lr 0.25, got 0.3"),
        (lambda: optim.CosineAnnealingLR(opt, 5, warmup_steps=-1), ShapeError, "at least 0, got -1"),
        (lambda: optim.OneCycleLR(opt, -1, 5), ShapeError, "OneCycleLR: expected max_lr"),
        (lambda: optim.OneCycleLR(opt, 1, 0), ShapeError, "OneCycleLR: expected total_steps"),
        (lambda: optim.OneCycleLR(opt, 1, 5, pct_start=1.0), ShapeError, "OneCycleLR: expected pct_start"),
        (lambda: optim.OneCycleLR(opt, 1, 5, div_factor=0), ShapeError, "div_factor to be a finite number above 0"),
        (lambda: optim.OneCycleLR(opt, 1, 5).load_state_dict({"steps": 6, "base_lr": 1.0}), ShapeError, "got step 6"),
        (lambda: optim.LinearWarmup(opt, 5).load_state_dict({"steps": 1}), ShapeError, "steps and base_lr, got steps"),
    ]:
        with pytest.raises(error, match=message):
            make_one()
