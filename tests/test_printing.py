"""How Tensors print: fixed strings, and PyTorch's own where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

import tinyml
from tinyml import Tensor, nn
from tinyml.errors import DtypeError, ShapeError

INF, NAN = float("inf"), float("nan")
SAID = {    # what it is of: what prints
    "floats": (Tensor([[1.0, 2.5], [3.0, -4.0]]), "tensor([[ 1.0000,  2.5000],\n        [ 3.0000, -4.0000]])"),
    "whole floats": (Tensor([1.0, 20.0]), "tensor([ 1., 20.])"),
    "wide range": (Tensor([1.0, 1001.0, 0.0]), "tensor([1.0000e+00, 1.0010e+03, 0.0000e+00])"),
    "small": (Tensor([0.00009]), "tensor([9.0000e-05])"),
    "large": (Tensor([2e8]), "tensor([2.0000e+08])"),
    "not finite": (Tensor([NAN, INF, 1.0]), "tensor([nan, inf, 1.])"),
    "only zeros": (Tensor([0.0, -0.0]), "tensor([0., -0.])"),
    "integers": (Tensor([1, -20]), "tensor([  1, -20])"),
    "bools": (Tensor([True, False]), "tensor([ True, False])"),
    "other dtypes": (Tensor(np.arange(2, dtype=np.uint8)), "tensor([0, 1], dtype=uint8)"),
    "no dimensions": (Tensor(2.5), "tensor(2.5000)"),
    "nothing": (Tensor([]), "tensor([])"),
    "no integers": (Tensor(np.zeros(0, np.int64)), "tensor([], dtype=int64)"),
    "no rows": (Tensor(np.zeros((0, 3), np.float64)), "tensor([], size=(0, 3), dtype=float64)"),
    "three dimensions": (Tensor(np.arange(4).reshape(2, 1, 2)), "tensor([[[0, 1]],\n\n        [[2, 3]]])"),
    "many": (Tensor(np.arange(1001)), "tensor([   0,    1,    2,  ...,  998,  999, 1000])"),
    "wider than a line": (Tensor(np.full(16, 100)), f"tensor([{', '.join(['100'] * 14)},\n        100, 100])"),
    "leaf": (Tensor([1.0], requires_grad=True), "tensor([1.], requires_grad=True)"),
    "result": (Tensor([1.0], requires_grad=True) + 1, "tensor([2.], grad_fn=<AddBackward>)"),
    "result of two words": (nn.functional.log_softmax(Tensor([1.0], requires_grad=True)),
                            "tensor([0.], grad_fn=<LogSoftmaxBackward>)"),
    "Parameter": (nn.Parameter([1.0]), "Parameter containing:\ntensor([1.], requires_grad=True)"),
    "codes": (Tensor(np.array([1, -128], np.int8), scale=0.5, zero_point=3),
              "tensor([   1, -128], dtype=int8, scale=0.5, zero_point=3)"),
    "codes along an axis": (Tensor(np.array([[1], [2]], np.int8), scale=[0.5, 0.25], axis=0),
                            "tensor([[1],\n        [2]], dtype=int8, scale=0.25..0.5 along axis 0)"),
}


@pytest.fixture(autouse=True)
def default_options():
    yield
    tinyml.set_printoptions(profile="default")


@pytest.mark.parametrize("what", SAID)
def test_what_prints(what):
    t, expected = SAID[what]
    assert repr(t) == str(t) == expected


def test_large_matrices_show_their_edges():
    lines = repr(Tensor(np.zeros((1000, 1000)))).split("\n")
    assert len(lines) == 7 and lines[3] == "        ...," and lines[0] == "tensor([[0., 0., 0.,  ..., 0., 0., 0.],"


def test_what_else_is_said_begins_a_line_where_none_is_left():
    t = Tensor(np.arange(18.0) - 9, requires_grad=True)
    assert repr(t).endswith(" 4.,\n         5.,  6.,  7.,  8.], dtype=float64, requires_grad=True)")
    t = Tensor(np.full(9, 0.123456), requires_grad=True)
    assert repr(t) == f"tensor([{', '.join(['0.1235'] * 9)}],\n       dtype=float64, requires_grad=True)"


def test_options():
    x = Tensor([1.23456, 100.0])
    for options, expected in (({"precision": 2}, "[  1.23, 100.00]"), ({"sci_mode": True}, "[1.23e+00, 1.00e+02]"),
                              ({"threshold": 1, "edgeitems": 0}, "[...], size=(2,)"),
                              ({"profile": "short"}, "[  1.23, 100.00]"), ({"profile": "default"}, "[  1.2346, 100.0000]"),
                              ({"linewidth": 20}, "[  1.2346,\n        100.0000]"),
                              ({"profile": "full", "precision": 1}, "[  1.2, 100.0]")):
        tinyml.set_printoptions(**options)
        assert repr(x) == f"tensor({expected})"
    assert repr(Tensor(np.zeros(1001))).count("0.") == 1001        # the profile is still "full"


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"precision": 1.5}, DtypeError, "expected precision to be a whole number"),
    ({"edgeitems": -1}, ShapeError, "expected edgeitems to be a whole number of at least 0, got -1"),
    ({"threshold": NAN}, ShapeError, "expected threshold to be a number"),
    ({"precision": 2, "profile": "long"}, ShapeError, "expected profile to be one of default, short, full, got 'long'"),
    ({"precision": 2, "sci_mode": "yes"}, DtypeError, "expected sci_mode to be True or False"),
])
def test_refused_options_change_nothing(options, error, message):
    with pytest.raises(error, match=f"^set_printoptions: {message}"):
        tinyml.set_printoptions(**options)
    assert repr(Tensor([1.23456])) == "tensor([1.2346])"


def generated(rng: np.random.Generator) -> np.ndarray:
    """An array of any dtype and small shape, of numbers of one size or many, some of them not finite."""
    shape = tuple(rng.choice([0, 1, 2, 3, 7, 9, 30], rng.integers(0, 5)))
    a = rng.standard_normal(shape) * 10.0 ** rng.choice([0, 1, 9])
    odd = rng.choice([NAN, INF, -INF, 0.0, -0.0], shape)
    a = [a, np.round(a), a * 10.0 ** rng.integers(-9, 9, shape), np.where(rng.random(shape) < 0.3, odd, a),
         np.where(rng.random(shape) < 0.8, odd, 3.0)][rng.integers(5)]
    with np.errstate(all="ignore"):
        return np.asarray(a).astype(rng.choice(["float16", "float32", "float64", "int32", "int64", "uint8", "bool"]))


@pytest.mark.parity
@pytest.mark.parametrize("options", [{}, {"precision": 2}, {"sci_mode": True}, {"sci_mode": False}, {"profile": "short"},
                                     {"linewidth": 40, "threshold": 10}, {"edgeitems": 0, "threshold": 5}], ids=str)
def test_as_pytorch_prints(options):
    torch = pytest.importorskip("torch", reason="compares live with PyTorch: pip install '.[parity]'")

    def plain(text: str) -> str:        # without the longer names of dtypes, which begin a new line earlier
        return text.replace("torch.", "").replace(",\n       dtype", ", dtype")

    rng = np.random.default_rng(0)
    torch.set_printoptions(**options)
    tinyml.set_printoptions(**options)
    try:
        for _ in range(200):
            a = generated(rng)
            assert plain(repr(Tensor(a))) == plain(repr(torch.tensor(a)))
    finally:
        torch.set_printoptions(profile="default")


def test_a_class_of_ones_own_prints_its_name():
    class Kind(Tensor):
        pass

    assert repr(Kind([[1.0], [2.0]])) == "Kind([[1.],\n      [2.]])"
