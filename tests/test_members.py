"""Layers and Parameters in lists, tuples and dicts; what may not be put where; constructors that take no arguments."""

from __future__ import annotations

from collections import OrderedDict, deque, namedtuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from values import normal

import tinyml
from tinyml import nn, optim
from tinyml.errors import DtypeError, ShapeError
from tinyml.nn import functional as F
from tinyml.nn.module import run
from tinyml.tensors import Tensor

Parts = namedtuple("Parts", "scale layer")


class Holder(nn.Module):
    """Parameters, buffers and layers in containers that `shape` describes; forward uses them all, in order."""

    def __init__(self, shape):
        self.parts = self.build(shape)
        self.head = nn.Linear(3, 2)

    def build(self, shape):
        kind, content = shape
        if kind == "list":
            return [self.build(s) for s in content]
        if kind == "tuple":
            return tuple(self.build(s) for s in content)
        if kind == "dict":
            return OrderedDict((f"k{i}", self.build(s)) for i, s in enumerate(content))
        if kind == "named":
            return Parts(nn.Parameter(normal(3)), nn.Linear(3, 3))
        return {"layer": lambda: nn.Linear(3, 3), "norm": lambda: nn.BatchNorm1d(3), "number": lambda: 2.0,
                "parameter": lambda: nn.Parameter(normal(3)), "buffer": lambda: Tensor(normal(3))}[kind]()

    def forward(self, x):
        for part in self.leaves(self.parts):
            x = part(x) if isinstance(part, nn.Module) else x * part
        return self.head(x)

    def leaves(self, part):
        if isinstance(part, dict):
            part = list(part.values())
        if isinstance(part, (list, tuple)):
            for p in part:
                yield from self.leaves(p)
        else:
            yield part


LEAVES = st.sampled_from([(kind, None) for kind in ("layer", "norm", "parameter", "buffer", "number", "named")])
KINDS = st.sampled_from(["list", "tuple", "dict"])
SHAPES = st.recursive(LEAVES, lambda inner: st.tuples(KINDS, st.lists(inner, max_size=3)), max_leaves=6)


@settings(max_examples=40, deadline=None)
@given(SHAPES)
def test_what_containers_hold_trains_saves_and_converts(tmp_path_factory, shape):
    tinyml.manual_seed(0)
    model, x = Holder(shape), normal(4, 3)
    leaves = [p for p in model.leaves(model.parts) if isinstance(p, (nn.Module, Tensor))]
    assert all(any(p is m for m in model.modules()) or any(p is t for _, t in model.named_tensors()) for p in leaves)
    optimizer = optim.SGD(model.parameters(), 0.01)
    before = model.state_dict()
    F.mse_loss(model(x), np.zeros((4, 2), np.float32)).backward()
    optimizer.step()
    moved = {name for name, a in model.state_dict().items() if not np.array_equal(a, before[name])}
    assert {name for name, p in model.named_parameters() if np.abs(p.grad.numpy()).max() > 1e-3} <= moved
    assert not any(m.training for m in model.eval().modules())
    y, path = model(x).numpy(), tmp_path_factory.mktemp("members") / "model"
    model.save(path)
    assert np.array_equal(tinyml.load(path)(x).numpy(), y)
    copy = model.copy()
    assert not {id(t) for _, t in copy.named_tensors()} & {id(t) for _, t in model.named_tensors()}
    assert np.array_equal(copy(x).numpy(), y)
    half = model.to_fp16()
    assert all(t.dtype == np.float16 for name, t in half.named_tensors() if name.endswith("weight") and t.ndim == 2)
    assert np.abs(half(x).numpy() - y).max() <= 0.01 * max(1, np.abs(y).max())


def test_names_are_those_of_a_module_list():
    class Listed(nn.Module):
        def __init__(self):
            self.layers = [nn.Linear(2, 2) for _ in range(2)]

    class Registered(nn.Module):
        def __init__(self):
            self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))

    assert Listed().state_dict().keys() == Registered().state_dict().keys()
    model = Listed()
    model.layers.append(nn.Linear(2, 2))        # noticed too
    assert len(model.parameters()) == 6
    with pytest.raises(ShapeError, match=r"in layer Listed\.layers\.1: Linear"):
        run(model, lambda: model.layers[1](normal(3, 3)))


def test_what_has_no_name_or_no_end_is_refused():
    model = nn.Sequential(nn.Linear(2, 2))
    for container in (set, frozenset, deque):
        with pytest.raises(DtypeError, match=f"Sequential.extra: expected .* in a list, .* got a {container.__name__}"):
            model.extra = container([nn.ReLU()])
    model.names = {"a", "b"}
    with pytest.raises(DtypeError, match=r"Linear.weight: expected a Parameter or None, got Tensor; change its elements"):
        model[0].weight = model[0].weight * 2.0
    with pytest.raises(DtypeError, match=r"Sequential\.0: expected a Module or None, got function"):
        setattr(model, "0", F.relu)
    model[0].bias = None
    assert model.state_dict().keys() == {"0.weight"}
    model[0].parent = [model]
    with pytest.raises(ShapeError, match=r"'0.parent.0' is a Sequential inside itself"):
        model.parameters()


@pytest.mark.parametrize(("build", "said"), [
    (lambda: nn.Tanh(inplace=True), r"Tanh\(\) takes no arguments, got inplace=True"),
    (lambda: nn.ReLU(6), r"ReLU\(\) takes no arguments, got 6"),
    (lambda: nn.Sigmoid("x", foo=3), r"Sigmoid\(\) takes no arguments, got 'x', foo=3")])
def test_arguments_that_nobody_reads_are_refused(build, said):
    with pytest.raises(TypeError, match=said):
        build()


@pytest.mark.parametrize("name", sorted(n for n in nn.__all__ if isinstance(getattr(nn, n), type)
                                        and issubclass(getattr(nn, n), nn.Module)))
def test_no_layer_swallows_a_keyword(name):
    with pytest.raises(TypeError, match="no_such_argument"):
        getattr(nn, name)(no_such_argument=1)


def test_keywords_reach_forward():
    class Scaled(nn.Module):
        def forward(self, x, scale=1.0):
            return x * scale

    assert Scaled()(Tensor([2.0]), scale=3.0).item() == 6


def test_names_of_a_subclass_are_its_own():
    """No attribute that a user may want is taken by a helper of Sequential."""
    class Net(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(2, 2), nn.ReLU())
            self.layers = ["a", "b"]

    net = Net()
    assert len(net) == 2 and net[-1] is list(net)[1] and net(normal(3, 2)).shape == (3, 2)
