"""A linear layer and its activation as one op: what the two give, and two ops wherever ops are recorded."""

from __future__ import annotations

import numpy as np
import pytest

from tinyml import nn
from tinyml.errors import DtypeError, ShapeError
from tinyml.models import TinyGPT
from tinyml.nn import functional as F
from tinyml.ops.linear import LinearActivation
from tinyml.tape import no_grad, record
from tinyml.tensors import Tensor, apply

FUNCTIONS = {"relu": F.relu, "gelu": F.gelu, "gelu_tanh": lambda y: F.gelu(y, "tanh"), "silu": F.silu}


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(("shape", "bias"), [((300, 40), True), ((2, 7, 40), False), ((1, 40), True)])
def test_equals_the_two(name, shape, bias):
    layer, grad = nn.Linear(40, 30, bias), normal(*shape[:-1], 30)
    results = []
    for run in (lambda x: F.linear(x, layer.weight, layer.bias, activation=name), lambda x: FUNCTIONS[name](layer(x))):
        x = Tensor(normal(*shape), requires_grad=True)
        layer.zero_grad()
        y = run(x)
        y.backward(grad)
        results.append([y, x.grad, *(p.grad for p in layer.parameters())])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), 1e-5, 1e-5)
    with no_grad():
        np.testing.assert_array_equal(F.linear(x, layer.weight, layer.bias, activation=name).numpy(), y.numpy())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_is_two_ops_where_they_are_recorded(name):
    layer, x = nn.Linear(8, 5), normal(3, 8)
    with record() as ops:
        F.linear(x, layer.weight, layer.bias, activation=name)
    assert [r.op.name for r in ops] == ["linear", name.removesuffix("_tanh")]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("rows", [3, 40])
def test_int8_weights_give_what_the_two_give(name, rows):
    layer, x = nn.Linear(8, 5), normal(rows, 8)
    codes = layer.to_int8()
    np.testing.assert_array_equal(F.linear(x, codes.weight, codes.bias, activation=name).numpy(),
                                  FUNCTIONS[name](codes(x)).numpy())
    q = Tensor(x).to_int8()
    np.testing.assert_array_equal(F.linear(q, codes.weight, codes.bias, activation=name).numpy(),
                                  FUNCTIONS[name](codes(q)).numpy())
    with pytest.raises(DtypeError, match="linear_activation: not defined on int8"):
        apply(LinearActivation, q, codes.weight, codes.bias, activation=name)


def test_an_unknown_activation_is_refused():
    with pytest.raises(ShapeError, match=r"linear: expected activation to be None or one of 'relu', 'gelu', .* got 'tan'"):
        F.linear(normal(1, 2), normal(3, 2), activation="tan")


LAYERS = {"relu": nn.ReLU(), "gelu": nn.GELU(), "gelu_tanh": nn.GELU("tanh"), "silu": nn.SiLU()}


@pytest.mark.parametrize("name", LAYERS)
def test_sequential_runs_the_two_as_one(name):
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    model, x = nn.Sequential(nn.Linear(6, 5), LAYERS[name]), normal(3, 6)
    y = model(x)
    assert y.node.op is LinearActivation
    np.testing.assert_array_equal(y.numpy(), LAYERS[name](model[0](x)).numpy())
    apart = nn.Sequential(Doubled(6, 5), LAYERS[name])
    np.testing.assert_array_equal(apart(x).numpy(), LAYERS[name](apart[0](x)).numpy())


@pytest.mark.parametrize("parts", [{}, {"activation": "gelu_tanh"}, {"activation": "swiglu", "bias": False}])
def test_tiny_gpt_runs_it(parts, monkeypatch):
    ids, seen, forward = np.arange(12).reshape(2, 6) % 11, [], LinearActivation.forward
    model, activation = TinyGPT(11, 6, 2, 2, 8, **parts), parts.get("activation", "gelu").replace("swiglu", "silu")

    def counted(*args, **attrs):
        seen.append(attrs)
        return forward(*args, **attrs)

    monkeypatch.setattr(LinearActivation, "forward", staticmethod(counted))
    logits = model(ids).numpy()
    assert seen == [{"activation": activation}] * 2
    with record():
        np.testing.assert_allclose(logits, model(ids).numpy(), 1e-5, 1e-5)
    assert len(seen) == 2
