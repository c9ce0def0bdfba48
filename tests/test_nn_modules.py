"""Module and Sequential: names, states, modes, errors, and two layers that run as one op."""

from __future__ import annotations

import numpy as np
import pytest
from values import close, normal

from tinyml import nn, optim
from tinyml.errors import DtypeError, ShapeError
from tinyml.models import CifarCNN, ResNet8, TinyGPT
from tinyml.nn import functional as F
from tinyml.tape import no_grad, record
from tinyml.tensors import Tensor


class Twice(nn.Module):
    """One layer under two names, and a parameter tied to another layer's."""

    def __init__(self):
        self.first = nn.Linear(3, 3)
        self.again = self.first
        self.other = nn.Linear(3, 3, bias=False)
        self.other.weight = self.first.weight
        self.steps = Tensor(np.array(0, np.int64))


def test_tied_parameters_come_once_and_stay_tied():
    model = Twice()
    assert [name for name, _ in model.named_parameters()] == ["first.weight", "first.bias"]
    assert [p.shape for p in model.parameters()] == [(3, 3), (3,)]
    assert set(model.state_dict()) == {"first.weight", "first.bias", "again.weight", "again.bias", "other.weight",
                                       "steps"}
    assert len(list(model.modules())) == 3 and model.nbytes == 4 * 9 + 4 * 3 + 8
    copy = model.copy()
    assert copy.other.weight is copy.first.weight is copy.again.weight is not model.first.weight
    optim.SGD(model.parameters(), lr=0.1)       # would refuse repeated ones


def test_state_dict_is_a_copy():
    layer = nn.Linear(2, 2)
    state = layer.state_dict()
    state["weight"][:] = 7
    assert not (layer.weight.numpy() == 7).any()
    layer.load_state_dict(state)
    state["weight"][:] = 8
    assert (layer.weight.numpy() == 7).all()


def test_load_state_dict_names_all_problems_and_loads_nothing():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm2d(3))
    before, state = model.state_dict(), {k: a + 1 for k, a in model.state_dict().items()}
    state["0.weight"] = state["0.weight"].T
    del state["1.running_var"], state["0.bias"]
    state["2.weight"] = np.zeros(4)
    with pytest.raises(ShapeError, match="load_state_dict of Sequential: 4 problems") as caught:
        model.load_state_dict(state)
    for problem in ("missing 0.bias (3,)", "missing 1.running_var (3,)", "unexpected 2.weight (4,)",
                    "0.weight has shape (2, 3), expected (3, 2)"):
        assert problem in str(caught.value)
    with pytest.raises(ShapeError, match="1 problems"):     # shapes are never optional
        model.load_state_dict(state, strict=False)
    for wrong in (before["0.weight"].astype(np.int64), before["0.weight"].astype(str)):
        with pytest.raises(DtypeError, match=r"0\.weight (is .*, expected float32|to be an array of numbers)"):
            model.load_state_dict(before | {"0.bias": before["0.bias"] + 1, "0.weight": wrong})
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())


def test_load_state_dict_that_is_not_strict_takes_what_fits():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    kept, weight = model[1].weight, model[0].weight
    before = kept.numpy().copy()
    model.load_state_dict({"0.weight": Tensor(np.full((3, 2), 5.0)), "9.weight": np.zeros(1)}, strict=False)
    assert (weight.numpy() == 5).all() and weight is model[0].weight and weight.dtype == np.float32
    np.testing.assert_array_equal(kept.numpy(), before)


def test_train_and_eval_reach_every_layer():
    model = TinyGPT(5, 4, 2, 1, 4)
    assert all(m.training for m in model.modules())
    assert model.eval() is model and not any(m.training for m in model.modules())
    model.blocks[1].train()
    assert [m.training for m in model.blocks] == [False, True] and not model.training
    assert model.train() is model and all(m.training for m in model.modules())


def test_zero_grad():
    layer = nn.Linear(2, 2)
    layer(normal(1, 2)).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    layer.zero_grad()
    assert all(p.grad is None for p in layer.parameters())


def test_sequential_and_module_list():
    relu, linear = nn.ReLU(), nn.Linear(3, 2)
    model = nn.Sequential(relu, linear)
    assert len(model) == 2 and list(model) == [relu, linear] and model[-1] is linear
    x = normal(4, 3)
    np.testing.assert_array_equal(model(x).numpy(), linear(relu(x)).numpy())
    layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(2)).append(relu)
    assert len(layers) == 3 and layers[2] is relu and [name for name, _ in layers.children()] == ["0", "1", "2"]
    assert list(layers.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    for kind, wrong in ((nn.Sequential, (relu, np.tanh)), (nn.ModuleList, ([relu, np.tanh],))):
        with pytest.raises(DtypeError, match=f"{kind.__name__}: expected Modules, got ufunc"):
            kind(*wrong)


def test_repr_shows_the_tree():
    text = repr(nn.Sequential(nn.Conv2d(3, 4, 3, groups=1), nn.Sequential(nn.Dropout(0.25))))
    assert text == ("Sequential(\n"
                    "  (0): Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1), padding=(0, 0), bias=True, float32)\n"
                    "  (1): Sequential(\n    (0): Dropout(p=0.25)\n  )\n)")


def test_errors_name_the_layer():
    with pytest.raises(ShapeError, match=r"\(in layer CifarCNN\.0: Conv2d\)"):
        CifarCNN(width=2)(normal(1, 4, 8, 8))
    with pytest.raises(ShapeError, match=r"\(in layer ResNet8\.block2: Residual\.conv1: Conv2d\)"):
        model = ResNet8(width=2)
        model.block2.conv1 = nn.Conv2d(3, 4, 3)
        model(normal(1, 3, 8, 8))
    with pytest.raises(TypeError, match="Module defines no forward"):
        nn.Module()(1)


# ---- two layers as one op


class Halve(nn.Module):
    """A layer with a fused op for itself and a ReLU after it, whose result shows that the op ran."""

    def forward(self, x):
        return x * 0.5

    def fused_with(self, following):
        return (lambda x: F.relu(x * 0.5) + 1) if type(following) is nn.ReLU else None


def test_sequential_runs_two_layers_as_one_unless_ops_are_recorded():
    x = Tensor(normal(4, 3))
    apart = np.maximum(x.numpy() * 0.5, 0)
    model = nn.Sequential(Halve(), nn.ReLU(), nn.ReLU(), Halve())
    close(model(x), (apart + 1) * 0.5)
    with no_grad():
        close(model.eval()(x), (apart + 1) * 0.5)
    with record() as ops:
        close(model(x), apart * 0.5)
    assert [r.op.name for r in ops] == ["mul", "relu", "relu", "mul"]
    with pytest.raises(DtypeError, match=r"\(in layer Sequential\.0: Halve\)"):
        nn.Sequential(Halve(), nn.ReLU())(Tensor(np.ones(2, np.int8), scale=1.0))


@pytest.mark.parametrize("make", [lambda: (nn.BatchNorm2d(5), normal(4, 5, 9, 7)),
                                  lambda: (nn.BatchNorm1d(5), normal(300, 5)),
                                  lambda: (nn.BatchNorm1d(3), normal(6, 3, 40))])
def test_batch_norm_and_relu_as_one_op_are_the_two_bit_by_bit(make):
    norm, x = make()
    norm.weight.array[...], norm.bias.array[...] = normal(2, len(norm.weight), seed=1)
    apart, cotangent, results = norm.copy(), normal(*x.shape, seed=2), []
    for model in (nn.Sequential(norm, nn.ReLU()), lambda x: F.relu(apart(x))):
        given = Tensor(x, requires_grad=True)
        y = model(given)
        y.backward(cotangent)
        results.append([y, given.grad])
    one, two = results
    assert one[0].numpy().any() and not one[0].numpy().all()
    for a, b in zip([*one, norm.weight.grad, norm.bias.grad], [*two, apart.weight.grad, apart.bias.grad], strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    for name, array in norm.state_dict().items():
        np.testing.assert_array_equal(array, apart.state_dict()[name])


def test_what_runs_batch_norm_and_relu_as_one_op():
    def op(*layers):
        y = nn.Sequential(*layers)(normal(4, 3, 5, 5))
        return y.node.op.name

    class OwnNorm(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x) * 2

    class OwnReLU(nn.ReLU):
        def forward(self, x):
            return super().forward(x) * 2

    assert op(nn.BatchNorm2d(3), nn.ReLU()) == "batch_norm_relu"
    assert op(nn.BatchNorm2d(3).eval(), nn.ReLU()) == "relu"
    assert op(OwnNorm(3), nn.ReLU()) == "relu"
    assert op(nn.BatchNorm2d(3), OwnReLU()) == "mul"


def test_what_is_tied_here_must_be_equal_there():
    tied, free = TinyGPT(6, 4, 1, 1, 4), TinyGPT(6, 4, 1, 1, 4, tied=False)
    before = tied.state_dict()
    with pytest.raises(ShapeError, match=r"tokens\.weight and head\.weight are one Parameter here, but differ"):
        tied.load_state_dict(free.state_dict())
    assert all(np.array_equal(a, before[name]) for name, a in tied.state_dict().items())
    free.load_state_dict(tied.state_dict())
    assert tied.load_state_dict(free.state_dict()) == ([], [])


def test_without_strict_it_says_what_was_missing_and_unexpected():
    found = nn.Linear(2, 2).load_state_dict({"weight": np.zeros((2, 2)), "other": np.zeros(1)}, strict=False)
    assert found.missing_keys == ["bias"] and found.unexpected_keys == ["other"]
    with pytest.raises(DtypeError, match="expected values to be a Mapping, got"):
        nn.Linear(2, 2).load_state_dict([1])
    layer = nn.Linear(2, 2)
    layer.weight.array.flags.writeable = False
    with pytest.raises(ShapeError, match="weight is in read-only memory"):
        layer.load_state_dict({"weight": np.zeros((2, 2)), "bias": np.zeros(2)})
