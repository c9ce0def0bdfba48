"""Reductions, statistics and cumulative functions against NumPy, at the edges, and their errors."""

import math

import numpy as np
import pytest

import tinyml
from tinyml import Tensor, errors
from tinyml.testing import gradcheck

X = np.random.default_rng(0).normal(size=(3, 4, 5))
X[0, 0, 0] = X[1, 2, 3] = 0.0
REDUCTIONS = {
    "sum": np.sum, "mean": np.mean, "prod": np.prod, "amax": np.max, "amin": np.min, "any": np.any, "all": np.all,
    "var": lambda x, **k: np.var(x, ddof=1, **k), "std": lambda x, **k: np.std(x, ddof=1, **k),
    "logsumexp": lambda x, **k: np.log(np.sum(np.exp(x), **k)), "norm": lambda x, **k: np.sqrt(np.sum(x * x, **k)),
}


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("dim", [None, 1, -1, (0, 2)])
@pytest.mark.parametrize("keepdim", [False, True])
def test_reductions_are_numpys(name, dim, keepdim):
    if name == "prod" and isinstance(dim, tuple):
        dim = 0
    expected = REDUCTIONS[name](X, axis=dim, keepdims=keepdim)
    given = {"dim": () if name == "logsumexp" and dim is None else dim, "keepdim": keepdim}
    for found in (getattr(Tensor(X), name)(**given), getattr(tinyml, name)(Tensor(X), **given),
                  getattr(Tensor(X), name)(axis=given["dim"], keepdims=keepdim)):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
def test_whole_numbers_are_added_in_int64(dtype):
    x = Tensor(np.array([[1, 0], [1, 1]], dtype))
    assert [str(f.dtype) for f in (x.sum(), x.prod(0), x.cumsum(0), x.cumprod(1), x.count_nonzero())] == ["int64"] * 5
    assert x.sum(dtype="float32").dtype == np.float32
    assert x.any().dtype == (np.uint8 if dtype == "uint8" else bool)


@pytest.mark.parametrize("function", [
    lambda x: x.prod(1), lambda x: x.logsumexp((0, 2)), lambda x: x.std(0), lambda x: x.var((0, 1)), lambda x: x.norm(3, 1),
    lambda x: x.cumprod(1), lambda x: x.cumsum(-1), lambda x: x.median(1).values, lambda x: x.quantile(0.3, 2),
    lambda x: tinyml.linalg.matrix_norm(x, "nuc"), lambda x: tinyml.linalg.matrix_norm(x, 2),
    lambda x: tinyml.linalg.matrix_norm(x, -1), lambda x: x.diff(2, 1), lambda x: x.log_softmax(1)])
def test_gradients(function):
    gradcheck(function, [X])


@pytest.mark.parametrize("function", [lambda x: x.norm(), lambda x: x.std(), lambda x: x.norm(3), lambda x: x.norm(0.5)])
def test_the_gradient_of_a_norm_that_is_0_is_0(function):
    x = Tensor(np.zeros(4, np.float32), requires_grad=True)
    function(x).backward()
    assert x.grad.numpy().tolist() == [0, 0, 0, 0]


def test_the_gradient_of_a_product_with_zeros_is_the_product_of_the_others():
    for row, expected in (([2.0, 0.0, 3.0], [0, 6, 0]), ([0.0, 0.0, 3.0], [0, 0, 0])):
        x = Tensor(row, requires_grad=True)
        x.prod().backward()
        assert x.grad.numpy().tolist() == expected


def test_the_correction_of_variances():
    x = Tensor(X)
    for found, ddof in ((x.var(False), 0), (x.var(correction=2), 2), (x.var(None, True), 1), (x.var(unbiased=False), 0)):
        np.testing.assert_allclose(found.item(), np.var(X, ddof=ddof), rtol=1e-6)
    assert math.isnan(Tensor([1.0]).var().item())
    deviation, mean = tinyml.std_mean(x, 1, keepdim=True)
    assert deviation.shape == mean.shape == (3, 1, 5)


@pytest.mark.parametrize("how", ["linear", "lower", "higher", "midpoint", "nearest"])
@pytest.mark.parametrize("dim", [None, 0, 1, -1])
def test_quantiles_are_numpys(how, dim):
    for q in (0.25, np.array([0.0, 0.4, 1.0])):
        for keepdim in (False, True):
            expected = np.quantile(X, q, axis=dim, method=how, keepdims=keepdim)
            found = Tensor(X).quantile(q, dim, keepdim, interpolation=how)
            assert found.shape == expected.shape
            np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_nan_shows():
    x = Tensor([[1.0, np.nan, 3.0], [3.0, 1.0, 2.0]])
    found = x.median(1)
    assert np.isnan(found.values.numpy()).tolist() == [True, False] and found.indices.numpy().tolist() == [1, 2]
    assert np.isnan(x.quantile(0.5, 1).numpy()).tolist() == [True, False]
    assert x.cummax(1).indices.numpy().tolist() == [[0, 1, 1], [0, 0, 0]]


def test_the_largest_so_far_is_the_last_of_equal_ones():
    found = Tensor([1, 3, 3, 2]).cummax(0)
    assert found.values.numpy().tolist() == [1, 3, 3, 3] and found.indices.numpy().tolist() == [0, 1, 2, 2]
    assert Tensor([3, 1, 1, 2]).cummin(0).indices.numpy().tolist() == [0, 1, 2, 2]


def test_logsumexp_neither_overflows_nor_loses_infinities():
    x = Tensor([[1e4, 1e4], [-np.inf, -np.inf], [np.inf, 0.0]], requires_grad=True)
    found = x.logsumexp(1)
    np.testing.assert_allclose(found.numpy(), [1e4 + math.log(2), -np.inf, np.inf])


def test_one_number_has_a_dimension_0():
    x = Tensor(2.0)
    for found in (x.sum(0), x.prod(0), x.cumsum(0), x.cumprod(-1), x.cummax(0).values, x.max(0).values, x.median(0).values,
                  x.mode(0).values, x.quantile(0.5, 0), x.sort(0).values, x.topk(1).values):
        assert found.shape == () and found.item() == 2
    assert x.softmax(0).item() == 1 and x.log_softmax(-1).item() == 0


def test_counts():
    x = np.random.default_rng(1).normal(size=200).astype(np.float32)
    assert Tensor(x).histc(7, -1, 1).numpy().tolist() == np.histogram(x, 7, (-1, 1))[0].tolist()
    ids, weights = np.array([0, 3, 3]), np.array([0.5, 1, 2], np.float32)
    assert Tensor(ids).bincount(weights, 6).numpy().tolist() == [0.5, 0, 0, 3, 0, 0]


@pytest.mark.parametrize("call, error, text", [
    (lambda x: x.sum(3), errors.ShapeError, "axis 3"), (lambda x: x.cumsum(3), errors.ShapeError, "dimension 3 of 3"),
    (lambda x: x.quantile(1.5), errors.ShapeError, "from 0 to 1"), (lambda x: x.bincount(), errors.TinymlError, "bincount"),
    (lambda x: x.norm("max"), errors.TinymlError, "fro"), (lambda x: x[:0].median(0), errors.ShapeError, "at least 1"),
    (lambda x: tinyml.linalg.matrix_norm(x, 5), errors.ShapeError, "nuc"),
    (lambda x: x.histc(3, 2, 1), errors.ShapeError, "min"),
    (lambda x: tinyml.linalg.norm(x, 3), errors.ShapeError, "matrix"),
    (lambda x: Tensor(1.0).diff(), errors.ShapeError, "diff")])
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call(Tensor(X))
