"""Tensors in other dtypes, off the tape, copied, and what is asked of them; int8 codes too."""

from __future__ import annotations

import numpy as np
import pytest

import tinyml
from tinyml import Tensor
from tinyml.dtypes import NAMES
from tinyml.errors import DtypeError, GradError, ShapeError

DTYPES = [d for d in NAMES.values() if d != np.int8]
METHODS = {"float": "float32", "half": "float16", "double": "float64", "int": "int32", "long": "int64", "bool": "bool"}
TYPES = {"float16": "Half", "float32": "Float", "float64": "Double", "int32": "Int", "int64": "Long", "uint8": "Byte",
         "bool": "Bool", "int8": "Char"}
# The same codes per tensor, per index of an axis, and per group.
CODES = {"tensor": {}, "axis": {"axis": 0}, "group": {"group": 32}}


@pytest.mark.parametrize("start", DTYPES, ids=str)
@pytest.mark.parametrize("end", DTYPES, ids=str)
def test_every_way_to_another_dtype(start, end):
    x = Tensor(np.array([[0, 1.75, 3]]).astype(start))
    expected = x.numpy().astype(end)
    kind = tinyml.zeros(1, dtype=end)
    ways = [x.to(end), x.to(str(end)), x.to(end.type), x.to(kind), x.to(dtype=end), x.to("cpu", end),
            x.to(kind.device, dtype=end), x.to("cpu", end, False, False), x.type(end), x.type(kind.type()), x.type_as(kind),
            *(getattr(x, name)() for name, dtype in METHODS.items() if dtype == end)]
    for y in ways:
        assert y.dtype == end and np.array_equal(y.numpy(), expected)
        assert (y is x) == (start == end)
    for copy in (x.to(end, copy=True), x.to(end, False, True), x.to(kind, copy=True), x.to("cpu", end, copy=True)):
        assert copy is not x and not np.shares_memory(copy.numpy(), x.numpy()) and np.array_equal(copy.numpy(), expected)
    assert kind.type() == f"tinyml.{TYPES[str(end)]}Tensor" and kind.element_size() == end.itemsize
    assert tinyml.is_floating_point(kind) == kind.is_floating_point() == (end.kind == "f")


def test_dtypes_have_pytorchs_names():
    for name, dtype in {**METHODS, **dict.fromkeys(NAMES)}.items():
        assert getattr(tinyml, name) == np.dtype(dtype or name)
    assert tinyml.zeros(2).dtype == tinyml.float32 == tinyml.get_default_dtype()
    assert tinyml.finfo(tinyml.float32).eps == 2**-23 and tinyml.iinfo(tinyml.uint8).max == 255
    tinyml.set_default_dtype(tinyml.float)
    with pytest.raises(DtypeError, match="Python's floats become float32 in tinyml, got"):
        tinyml.set_default_dtype(tinyml.double)
    for bad in ("torch.float32", "tinyml.FloatTensor", None, complex):
        with pytest.raises(DtypeError, match="dtype: expected one of float16, float32"):
            tinyml.dtypes.as_dtype(bad)


def test_there_is_one_device():
    x = tinyml.ones(2)
    assert x.to("cpu") is x.to("cpu:0") is x.to(x.device) is x.to(device="cpu") is x.cpu() is x.to() is x
    assert x.device == "cpu" == str(x.device) and x.device == tinyml.device("cpu") and x.device.type == "cpu"
    assert x.device.index is None
    for call in (lambda: x.to("cuda"), lambda: x.to("cuda:1", tinyml.half), lambda: x.to(device="mps"),
                 lambda: tinyml.device("cuda"), lambda: tinyml.as_tensor(x, device="xpu")):
        with pytest.raises(DtypeError, match=r"tinyml computes on one device, 'cpu', got '(cuda|mps|xpu)"):
            call()


def test_what_floats_become_as_integers_and_bools():
    x = Tensor([-1.75, 0.0, 2.5, np.nan, np.inf])
    assert x.bool().tolist() == [True, False, True, True, True] and x[:3].long().tolist() == [-1, 0, 2]
    with pytest.raises(DtypeError, match="cast: NaN or infinity cannot become int32"):
        x.int()


def test_gradients_flow_through_conversions():
    x = Tensor([1.5, -2.0], requires_grad=True)
    rows = x.reshape(2, 1).broadcast_to(2, 3)
    (x.double().float() * x.clone()).sum().backward()
    rows.contiguous().sum().backward()
    assert not rows.is_contiguous() and x.grad.tolist() == [6, -1]
    y = x * 2
    assert y.detach_() is y and y.is_leaf and not y.requires_grad and not (y * 1).requires_grad
    z = (x * 2).reshape(1, 2)
    with pytest.raises(GradError, match=r"detach_: .* shape \(1, 2\) is a view of another"):
        z.detach_()


def test_layouts():
    x = tinyml.zeros(2, 3, 4)
    y = x.permute(2, 0, 1)
    assert x.stride() == (12, 4, 1) and y.stride() == (1, 12, 4) and y.stride(-1) == 4
    assert x.is_contiguous() and not y.is_contiguous() and y.contiguous().stride() == (6, 3, 1)
    assert x.contiguous() is x and y.clone().stride() == (1, 12, 4)
    assert x.dim() == x.ndimension() == 3 and x.numel() == x.nelement() == tinyml.numel(x) == 24
    with pytest.raises(ShapeError, match="stride: dimension 3 of 3"):
        x.stride(3)
    assert tinyml.is_tensor(x) and not tinyml.is_tensor(x.numpy())


@pytest.mark.parametrize("name", CODES)
def test_int8_gives_the_numbers_that_it_stands_for(name):
    q = Tensor(np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 64)).to_int8(**CODES[name])
    numbers = q.dequantize()
    assert q.tolist() == numbers.tolist() and q.type() == "tinyml.CharTensor"
    for convert in METHODS:
        assert getattr(q, convert)().tolist() == getattr(numbers, convert)().tolist()
    assert q.to("int8") is q and q.contiguous() is q and not q.is_floating_point()
    if name == "tensor":
        for copy in (q.clone(), q.to(tinyml.int8, copy=True), q.T.contiguous().T):
            assert copy.tolist() == q.tolist() and not np.shares_memory(copy.numpy(), q.numpy())
    else:
        with pytest.raises(DtypeError, match=r"clone: int8 with a scale per index of axis 0 .* dequantize\(\)"):
            q.clone()
