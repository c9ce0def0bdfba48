"""Attributes that were changed after a model was built, through a file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from values import normal

import tinyml
from tinyml import nn
from tinyml.errors import FileError
from tinyml.io.container import pack, unpack
from tinyml.tensors import Tensor

PLAIN = st.recursive(st.none() | st.booleans() | st.integers(-2**60, 2**60) | st.floats() | st.text(max_size=5),
                     lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple), max_leaves=5)


class Shifted(nn.Module):
    """Its constructor makes one value; forward depends on it."""

    def __init__(self, kept=1.0):
        self.mean, self.kept, self.inner = 0.0, kept, nn.Softmax(-1)
        self.function = lambda x: x * self.kept

    def forward(self, x):
        return self.inner(self.function(x) - self.mean)


def through_a_file(model, path):
    model.save(path)
    return tinyml.load(path)


@settings(max_examples=60, deadline=None)
@given(value=PLAIN)
def test_any_plain_value_comes_back(tmp_path_factory, value):
    model = Shifted()
    model.note = value
    assert repr(through_a_file(model, tmp_path_factory.mktemp("a") / "model").note) == repr(value)


def test_outputs_are_the_same(tmp_path):
    x, model = normal(2, 2), Shifted(2.0).eval()
    model.mean, model.inner.dim, model.table = np.float32(5.0), 0, normal(3)
    loaded = through_a_file(model, tmp_path / "model")
    assert np.array_equal(loaded(x).numpy(), model(x).numpy()) and np.array_equal(loaded.table, model.table)
    instance = Shifted(2.0)
    tinyml.load(tmp_path / "model", model=instance)
    assert np.array_equal(instance(x).numpy(), model(x).numpy())
    plain = Shifted(2.0)
    plain.save(tmp_path / "plain")
    assert "attributes" not in unpack(tmp_path / "plain")[0]


def test_layers_of_tinyml_too(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Linear(4, 2)).eval()
    model[0].stride, model[1].eps, model[1].momentum, model[2].p, model[3].bias = (2, 2), 0.5, 0.3, 0.25, None
    loaded, x = through_a_file(model, tmp_path / "model"), normal(2, 3, 9, 9)
    assert np.array_equal(loaded[1](loaded[0](x)).numpy(), model[1](model[0](x)).numpy())
    assert loaded[1].momentum == 0.3 and loaded[2].p == 0.25 and loaded[3].bias is None
    assert np.array_equal(loaded.to_int8()[3](normal(2, 4)).numpy(), model.to_int8()[3](normal(2, 4)).numpy())


def test_what_a_file_cannot_hold_is_named_when_saving(tmp_path):
    for change in (np.tanh, object(), {"a": 1}, {1, 2}, [nn.Linear(1, 1), lambda x: x]):
        model = Shifted()
        model.function = change
        with pytest.raises(FileError, match="save: Shifted has an attribute 'function' that its constructor did not make"):
            model.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()

    class Once(nn.Module):
        built = 0

        def __init__(self):
            Once.built += 1
            if Once.built > 1:
                raise OSError("the disk is gone")

    with pytest.raises(FileError, match="building Once again failed with OSError: the disk is gone; save its state_dict"):
        Once().save(tmp_path / "model")


@pytest.mark.parametrize(("layer", "name"), [
    ("", "forward"), ("", "_recipe"), ("", "_training"), ("", "__class__"), ("", "training"), ("", "a b"), ("none", "mean"),
    ("", "nbytes"), ("inner", "describe")])
def test_forged_attributes_are_refused(tmp_path, layer, name):
    model = Shifted()
    model.mean = 3.0
    model.save(tmp_path / "model")
    about, arrays = unpack(tmp_path / "model")
    about["attributes"] = {layer: {name: 1}}
    del about["digest"], about["version"]
    (tmp_path / "model").write_bytes(pack(about, arrays))
    with pytest.raises(FileError, match="expected attributes of the model's layers"):
        tinyml.load(tmp_path / "model")


def test_tensors_in_changed_attributes_are_tensors(tmp_path):
    model = Shifted()
    model.mean = Tensor(np.float32(5.0))        # a buffer now, which the constructor does not make
    model.save(tmp_path / "model")
    with pytest.raises(FileError, match="mean"):
        tinyml.load(tmp_path / "model")
    instance = Shifted()
    instance.mean = Tensor(np.float32(0.0))
    assert tinyml.load(tmp_path / "model", model=instance).mean.item() == 5
