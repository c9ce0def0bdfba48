"""Tensor: what it is made of, its dtypes, and Python's protocols."""

from __future__ import annotations

import math
import operator

import numpy as np
import pytest
from values import leaf

from tinyml.errors import DtypeError, GradError, ShapeError
from tinyml.tensors import Tensor


def test_constructor_dtypes():
    assert Tensor([1.0, 2.0]).dtype == Tensor(3.0).dtype == Tensor([]).dtype == np.float32
    assert Tensor(np.zeros(2)).dtype == np.float64 and Tensor([1, 2]).dtype == np.int64
    assert Tensor([1, 2], dtype="float16").dtype == np.float16 and Tensor([True]).dtype == np.bool_
    array = np.zeros(3, np.float32)
    assert Tensor(array).numpy() is array and Tensor(Tensor(array)).numpy() is array      # no copy
    for bad in (np.zeros(2, complex), np.array([object()]), "text", [[1.0], ["a"]]):
        with pytest.raises(DtypeError, match="Tensor: expected one of float16, float32"):
            Tensor(bad)
    for bad in ("float8", "complex64", object, 7):
        with pytest.raises(DtypeError, match="dtype: expected one of"):
            Tensor([1.0], dtype=bad)
    with pytest.raises(DtypeError, match=r"Tensor: int8 codes need a scale .* use Tensor\(x\).to_int8\(\)"):
        Tensor(np.zeros(2, np.int8))
    with pytest.raises(DtypeError, match="a scale goes with int8 codes, got dtype float32"):
        Tensor([1.0], scale=0.5)
    with pytest.raises(GradError, match="requires_grad: expected a float dtype, got int64"):
        Tensor([1, 2], requires_grad=True)


def test_results_are_arrays_even_without_dimensions():
    x = Tensor(3.0, requires_grad=True)
    pair, codes = Tensor([1.0, 2.0]), x.detach().to_int8()
    for t in (x * 2, x.exp(), x.sum(), pair[0], pair.max(), pair @ pair, pair.argmax(), x == 3.0, x.to("float64"),
              codes, codes.dequantize()):
        assert type(t.numpy()) is np.ndarray and t.shape == ()
    (x * x).backward()
    assert x.grad.shape == () and x.grad.item() == 6


def test_to_changes_dtype_and_keeps_gradients():
    for start in ("float16", "float32", "float64"):
        for end in ("float16", "float32", "float64"):
            x = Tensor([1.5, -2.0], dtype=start, requires_grad=True)
            y = x.to(end)
            assert y.dtype == np.dtype(end) and y.numpy().tolist() == [1.5, -2.0]
            (y * 2).sum().backward()
            assert x.grad.dtype == np.dtype(start) and x.grad.numpy().tolist() == [2, 2]
    assert Tensor([1.9, -1.9]).to("int64").numpy().tolist() == [1, -1]
    x = Tensor([1.0])
    assert x.to("float32") is x
    assert x.to_fp16().dtype == np.float16 and x.to("int8").dtype == np.int8
    assert x.to("int8").to("float16").dtype == np.float16


# ---- Python's protocols


def test_len_iteration_item_bool():
    x = leaf(3, 2)
    assert len(x) == 3 and [r.shape for r in x] == [(2,)] * 3
    assert all((r.numpy() == x.numpy()[i]).all() for i, r in enumerate(x))
    sum(r.sum() for r in x).backward()
    assert (x.grad.numpy() == 1).all()
    for ask in (len, iter):
        with pytest.raises(ShapeError, match="0-dimensional Tensor has no length"):
            ask(Tensor(1.0))
    assert Tensor([[2.5]]).item() == 2.5 == float(Tensor(2.5)) and int(Tensor(2.5)) == 2 and math.sqrt(Tensor(4.0)) == 2
    assert isinstance(Tensor(1.0).item(), float) and isinstance(Tensor(1).item(), int) and Tensor(True).item() is True
    assert bool(Tensor([1.0])) and not bool(Tensor([0.0])) and (Tensor(1.0) < 2)
    for ask in (Tensor.item, bool, float, int):
        for many in (Tensor([1.0, 2.0]), Tensor([])):
            with pytest.raises(ShapeError, match=r"item\(\): expected one element, got shape|truth .* is ambiguous"):
                ask(many)
    assert Tensor([3.0]).to_int8().item() == pytest.approx(3.0, abs=0.01)


def test_comparisons():
    a, b = np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        compare = getattr(operator, name)
        for left, right in ((Tensor(a), Tensor(b)), (Tensor(a), b), (a, Tensor(b)), (Tensor(a), 2.0), (2.0, Tensor(a))):
            got = compare(left, right)
            plain = [v.numpy() if isinstance(v, Tensor) else v for v in (left, right)]
            assert got.dtype == np.bool_ and not got.requires_grad and (got.numpy() == compare(*plain)).all()
    codes = Tensor([1.0, 2.0]).to_int8()
    assert (codes > 1.5).numpy().tolist() == [False, True]      # values are compared, not codes
    with pytest.raises(ShapeError, match=r"lt: shapes \(3,\) and \(2,\) do not broadcast"):
        _ = Tensor(a) < [1, 2]
    x, y = Tensor(a), Tensor(a)
    assert x in {x: 1} and y not in {x: 1}     # hashed by identity
