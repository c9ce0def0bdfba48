"""Optimizers' states, saved and loaded, and what optimizers refuse: states, parameters, gradients, hyperparameters."""

from __future__ import annotations

import math

import numpy as np
import pytest
from make_optim_parity import OPTIMIZERS, initial
from optimizers import make, parameters, run, values, with_gradients

from tinyml import nn, optim
from tinyml.errors import DtypeError, ShapeError
from tinyml.tensors import Tensor


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_loaded_state_continues_to_the_bit(name):
    whole = make(name, parameters(*initial()))
    run(whole, range(4))
    whole.lr = 0.007
    state, middle = whole.state_dict(), values(whole)
    run(whole, range(4, 9))
    continued = make(name, parameters(*middle))
    continued.load_state_dict(state)
    run(continued, range(4, 9))
    assert continued.lr == 0.007
    for a, b in zip(values(whole), values(continued), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_state_is_a_copy_in_both_directions():
    a, b = (make("adam", parameters(*initial())) for _ in range(2))
    run(a, range(2))
    state = a.state_dict()
    kept = {key: np.array(value) for key, value in state.items()}
    b.load_state_dict(state)
    run(a, [2])
    run(b, [2])
    for key, value in state.items():
        np.testing.assert_array_equal(value, kept[key])


def test_a_wrong_state_is_named_entry_by_entry_and_not_loaded():
    source = make("adam", parameters(*initial()))
    run(source, range(3))
    target = make("adam", parameters(*initial()))
    run(target, range(1))
    before = target.state_dict()
    wrong = source.state_dict()
    wrong["exp_avg.0"] = np.zeros((4, 3), np.float32)
    del wrong["exp_avg_sq.1"]
    wrong["momentum_buffer.2"] = np.zeros(1)
    with pytest.raises(ShapeError, match=r"load_state_dict of Adam: 3 problems") as caught:
        target.load_state_dict(wrong)
    for part in ("missing exp_avg_sq.1", "unexpected momentum_buffer.2", "exp_avg.0 has shape (4, 3), expected (3, 4)"):
        assert part in str(caught.value)
    after = target.state_dict()
    assert all(np.array_equal(after[key], before[key]) for key in before) and after.keys() == before.keys()
    with pytest.raises(ShapeError, match="expected the state of 3 parameters, got 1"):
        target.load_state_dict(optim.Adam(parameters([1.0])).state_dict())
    with pytest.raises(ShapeError, match=r"unexpected exp_avg\.0"):
        make("sgd_momentum", parameters(*initial())).load_state_dict(source.state_dict())


# ---- what is refused


def test_wrong_parameters_are_errors():
    p = nn.Parameter(np.ones(2, np.float32))
    int8 = Tensor(np.ones(2, np.float32)).to_int8()
    for wrong, error, message in [
        ([], ShapeError, "at least one Parameter, got an empty list"),
        ([np.ones(2)], DtypeError, "got ndarray at position 0"),
        ([p, nn.ReLU()], DtypeError, r"got ReLU at position 1; pass model\.parameters\(\)"),
        (nn.Linear(2, 2), DtypeError, r"got Linear; pass model\.parameters\(\)"),
        (p, DtypeError, "expected parameters to be a list of Parameters, got float32"),
        ([int8], DtypeError, r"expected float32 Parameters, got int8 at position 0 \(shape \(2,\)\)"),
        ([nn.Parameter(np.ones(2, np.float16))], DtypeError, "got float16 at position 0"),
        ([p, nn.Parameter(np.ones(3, np.float32)), p], ShapeError, "the same one at positions 0 and 2"),
        ([p * 2], ShapeError, "got the result of mul at position 0"),
    ]:
        for make_one in (lambda ps: optim.SGD(ps, lr=0.1), optim.Adam, optim.AdamW):
            with pytest.raises(error, match=message):
                make_one(wrong)


def test_a_parameter_of_another_size_is_an_error():
    (p,) = parameters([1.0, 2.0])
    optimizer = optim.SGD([p], lr=0.1)
    p.array = np.ones(3, np.float32)
    with_gradients([p], [np.ones(3, np.float32)])
    with pytest.raises(ShapeError, match=r"expected parameter 0 to keep its 2 elements, got shape \(3,\)"):
        optimizer.step()


def test_a_gradient_of_another_shape_is_an_error():
    p = nn.Parameter(np.ones(2, np.float32))
    with pytest.raises(ShapeError, match=r"grad: expected float32 of shape \(2,\), .* got float32 of shape \(3,\)"):
        p.grad = Tensor(np.ones(3, np.float32))
    p.grad = Tensor(np.ones(2, np.float32))
    p.array = np.ones((2, 1), np.float32)       # the parameter changes afterwards
    with pytest.raises(ShapeError, match=r"SGD: expected a gradient of shape \(2, 1\) for parameter 0, got \(2,\)"):
        optim.SGD([p], lr=0.1).step()


@pytest.mark.parametrize(("kind", "options"), [
    ("SGD", {"lr": -0.1}), ("SGD", {"lr": math.nan}), ("SGD", {"lr": math.inf}), ("SGD", {"lr": 0.1, "momentum": -1}),
    ("SGD", {"lr": 0.1, "weight_decay": -1}), ("SGD", {"lr": 0.1, "nesterov": True}),
    *[(kind, options) for kind in ("Adam", "AdamW") for options in (
        {"lr": -1}, {"betas": (0.9, 1.0)}, {"betas": (-0.1, 0.9)}, {"eps": -1e-8}, {"weight_decay": -0.1})]])
def test_hyperparameters_out_of_range_are_errors(kind, options):
    with pytest.raises(ShapeError, match=kind):
        getattr(optim, kind)(parameters([1.0]), **options)


@pytest.mark.parametrize(("kind", "options"), [
    ("SGD", {"lr": "0.1"}), ("Adam", {"betas": 0.9}), ("AdamW", {"eps": None})])
def test_hyperparameters_that_are_no_numbers_are_errors(kind, options):
    with pytest.raises(DtypeError, match=kind):
        getattr(optim, kind)(parameters([1.0]), **options)
