"""Dicts, lists and tuples in files: they come back exactly, and damaged files are errors."""

from __future__ import annotations

import collections
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from saved import opened, refused, rewrite
from values import normal

import tinyml
from tinyml import Tensor, nn, optim
from tinyml.errors import DtypeError, FileError
from tinyml.io import container
from tinyml.io.container import DTYPES


def same(a, b) -> bool:
    """Whether two nests are equal in every bit, type and form."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):       # no codes, which have a test of their own
        return same(a.numpy(), b.numpy()) and all(getattr(a, name, None) == getattr(b, name, None)
                                                  for name in ("requires_grad", "decay"))
    if isinstance(a, (np.ndarray, np.generic)):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
arrays = hnp.arrays(st.sampled_from(sorted(DTYPES.values(), key=str)), hnp.array_shapes(min_dims=0, max_dims=3, max_side=3))
floats = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
tensors = st.builds(Tensor, floats, requires_grad=st.booleans()) | st.builds(nn.Parameter, floats, decay=st.booleans())
nests = st.recursive(plain | arrays | tensors | arrays.map(lambda a: a.reshape(-1)[0]),
                     lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple)
                     | st.dictionaries(st.text(max_size=3) | st.integers() | st.none(), inner, max_size=3), max_leaves=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(nests)
def test_nests_come_back_exactly(tmp_path, nest):
    tinyml.save(nest, tmp_path / "x")
    assert same(tinyml.load(tmp_path / "x"), nest)


def test_odd_places_and_values_come_back(tmp_path):
    a = np.arange(3)
    for nest in ({"a.b": a, "a": {"b": a + 1}, "a.b'": a + 2}, {"__metadata__": a}, {"": [a], "\ud800": a},
                 {1: a, "1": a}, {True: a, None: 0.0, 2.5: -0.0}, [np.float16(2), np.bool_(True), np.int8(-1)],
                 [math.inf, -math.inf, math.nan],
                 np.zeros((0, 3)), np.asfortranarray(normal(2, 3)), normal(4, 6)[::2, ::3], 2**400, Tensor(7), [], ()):
        tinyml.save(nest, tmp_path / "x")
        assert same(tinyml.load(tmp_path / "x"), nest)
    tinyml.save(collections.OrderedDict(x=1), tmp_path / "x")
    assert tinyml.load(tmp_path / "x") == {"x": 1}
    tinyml.save(np.memmap(tmp_path / "map", np.uint8, "w+", shape=(2,)), tmp_path / "x")
    assert same(tinyml.load(tmp_path / "x"), np.zeros(2, np.uint8))


@pytest.mark.parametrize("options", [{}, {"axis": 1}, {"group": 32}])
def test_codes_keep_what_they_stand_for(tmp_path, options):
    t = Tensor(normal(3, 40)).to_int8(**options)
    tinyml.save([t], tmp_path / "x")
    got, = tinyml.load(tmp_path / "x")
    assert (got.axis, got.group) == (t.axis, t.group) and not got.numpy().flags.writeable
    for name in ("scale", "zero_point"):
        assert same(getattr(got, name), getattr(t, name))
    assert same(got.numpy(), t.numpy()) and same(got.dequantize().numpy(), t.dequantize().numpy())


def test_training_goes_on_from_a_file(tmp_path):
    def start() -> tuple[nn.Module, optim.Optimizer]:
        model = nn.Linear(2, 3)
        return model, optim.AdamW(model.parameters())

    def step(model: nn.Module, optimizer: optim.Optimizer) -> None:
        optimizer.zero_grad()
        (model(normal(4, 2)) ** 2).sum().backward()
        optimizer.step()

    model, optimizer = start()
    step(model, optimizer)
    tinyml.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, tmp_path / "x")
    again, its_optimizer = start()
    state = tinyml.load(tmp_path / "x", map_location="cpu", weights_only=True)
    again.load_state_dict(state["model"])
    its_optimizer.load_state_dict(state["optimizer"])
    step(model, optimizer)
    step(again, its_optimizer)
    assert state["epoch"] == 3 and same(again.weight.numpy(), model.weight.numpy())


def test_a_state_dict_loads_into_a_model(tmp_path):
    model = nn.Linear(2, 3)
    tinyml.save(model.state_dict(), tmp_path / "x")
    assert sorted(opened(tmp_path / "x")[1]) == ["bias", "weight"]      # as any reader of safetensors sees them
    assert same(tinyml.load(tmp_path / "x", nn.Linear(2, 3)).weight.numpy(), model.weight.numpy())
    tinyml.save([1], tmp_path / "x")
    refused(tmp_path / "x", r"load: expected the content to be a dict", model=model)


itself: list = []
itself.append(itself)


@pytest.mark.parametrize(("nest", "message"), [
    ({"model": {"x": {1}}}, r'\["model"\]\["x"\] \{1\}$'), ([0, (1, b"x")], r"\[1\]\[1\] b'x'$"),
    (print, "at the top builtin"),
    ({"net": nn.Linear(1, 1)}, r'\["net"\] Linear; save its state_dict\(\)'),
    ([optim.SGD([nn.Parameter([1.0])], lr=1.0)], r"\[0\] SGD; save its state_dict\(\)"),
    ({"a": [np.zeros(2, complex)]}, r'\["a"\]\[0\] an array of complex128'),
    ([np.array(["a"])], r"\[0\] an array of <U1"), ([np.zeros(1, ">f4")], r"an array of >f4"),
    ([np.ma.masked_array([1.0])], r"\[0\] float64 of shape"),
    ({(1, 2): 3}, r"at the top a dict with a key of type tuple"), (itself, "or in themselves"),
    ([1 << 10000], "10001 bits"),
])
def test_what_a_file_cannot_hold_is_refused_by_place(tmp_path, nest, message):
    with pytest.raises(FileError, match=f"^save: expected dicts, lists .* got .*{message}"):
        tinyml.save(nest, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_other_devices_are_refused(tmp_path):
    tinyml.save([1], tmp_path / "x")
    with pytest.raises(DtypeError, match="load: tinyml computes on one device, 'cpu', got 'cuda'"):
        tinyml.load(tmp_path / "x", map_location="cuda")
    with pytest.raises(DtypeError, match="load: expected weights_only to be True or False"):
        tinyml.load(tmp_path / "x", weights_only="no")


def test_every_damaged_byte_is_found(tmp_path):
    path = tmp_path / "x"
    tinyml.save({"x": Tensor([1.0, 2.0], requires_grad=True), "y": (1, [np.int64(3)])}, path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])
        refused(path, "")
    path.write_bytes(whole[:-1])
    refused(path, "")


@pytest.mark.parametrize("content", [
    {}, {"float": "1.0"}, {"tuple": 3}, {"dict": [[1, 2], [1, 3]]}, {"dict": [[{"tuple": []}, 1]]}, {"dict": [[1]]},
    {"array": "z"}, {"number": "x"}, {"tensor": "short"}, {"tensor": "x", "requires_grad": "yes"}, {"tensor": "codes"},
    {"tensor": "codes", "scale": "x", "zero_point": "short", "axis": None, "group": None}, [{"array": "x"}, {"array": "x"}],
    {"tensor": "ids", "requires_grad": True}, {"tensor": "x", "decay": 7}, {"array": "x", "more": 1}, {"module": "os"}, 1,
    {"array": ["x"]}, {"array": "x"},
], ids=repr)
def test_descriptions_that_save_does_not_write_are_refused(tmp_path, content):
    """With a right digest, as who wants to harm would give them."""
    path = tmp_path / "x"
    tinyml.save(1, path)
    arrays = {"x": np.ones(2, np.float32), "short": np.ones(2, np.int16), "codes": np.ones(2, np.int8), "ids": np.arange(2)}
    rewrite(path, {"kind": "nested", "content": content}, arrays)
    refused(path, "")


def test_descriptions_longer_than_load_reads_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(container, "HEADER_LIMIT", 1000)
    with pytest.raises(FileError, match=r"save: numbers, strings and names take \d+ bytes, the limit is 1000"):
        tinyml.save(list(range(1000)), tmp_path / "x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("nest", [[1], {1: np.ones(2)}, {"convs.0.0.weight": 3}, None])
def test_what_is_no_state_dict_of_a_trained_model_is_refused_as_one(tmp_path, nest):
    tinyml.save(nest, tmp_path / "x")
    with pytest.raises(FileError, match="expected the state dict of a CifarCNN"):
        tinyml.load_trained_model(tmp_path / "x")
