"""Elements in order against NumPy, ties, NaN, and errors."""

import numpy as np
import pytest

import tinyml
from tinyml import Tensor, errors
from tinyml.testing import gradcheck

RNG = np.random.default_rng(0)
ARRAYS = {
    "float32": RNG.normal(size=(4, 30, 3)).astype(np.float32), "float64": RNG.normal(size=(4, 30, 3)),
    "float16": RNG.normal(size=(4, 30, 3)).astype(np.float16), "ties": RNG.integers(-2, 3, (4, 30, 3)).astype(np.float32),
    "int64": RNG.integers(-2**60, 2**60, (4, 30, 3)), "int32": RNG.integers(-2**31, 2**31, (4, 30, 3)).astype(np.int32),
    "uint8": RNG.integers(0, 256, (4, 30, 3)).astype(np.uint8), "bool": RNG.integers(0, 2, (4, 30, 3)).astype(bool),
    "special": RNG.choice(np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0], np.float32), (4, 30, 3)),
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_sort_is_numpys_stable_sort(kind, dim):
    x = ARRAYS[kind]
    found, places = Tensor(x).sort(dim), np.argsort(x, dim, kind="stable")
    np.testing.assert_array_equal(found.indices.numpy(), places)
    np.testing.assert_array_equal(found.values.numpy(), np.take_along_axis(x, places, dim))
    np.testing.assert_array_equal(Tensor(x).argsort(dim).numpy(), places)
    down = x.shape[dim] - 1 - np.flip(np.argsort(np.flip(x, dim), dim, kind="stable"), dim)
    np.testing.assert_array_equal(Tensor(x).argsort(dim, descending=True).numpy(), down)


@pytest.mark.parametrize("kind", ARRAYS)
def test_topk_and_kthvalue_are_parts_of_sort(kind):
    x = Tensor(ARRAYS[kind])
    for k in (1, 7, 30):
        for largest in (True, False):
            found, whole = x.topk(k, 1, largest), x.sort(1, largest)
            np.testing.assert_array_equal(found.indices.numpy(), whole.indices.numpy()[:, :k])
            np.testing.assert_array_equal(found.values.numpy(), whole.values.numpy()[:, :k])
        np.testing.assert_array_equal(x.kthvalue(k, 1).values.numpy(), x.sort(1).values.numpy()[:, k - 1])


def test_mode_is_the_smallest_of_the_most_frequent():
    x = Tensor([[3, 1, 3, 1, 2], [5, 5, 0, 7, 8]])
    assert x.mode().values.numpy().tolist() == [1, 5] and x.mode().indices.numpy().tolist() == [3, 1]
    assert x.mode(1, keepdim=True).values.shape == (2, 1)


@pytest.mark.parametrize("function", [lambda x: x.sort(0, True).values, lambda x: x.topk(2, 1).values,
                                      lambda x: x.kthvalue(2, 0).values, lambda x: x.mode(1).values])
def test_gradients_go_to_the_elements(function):
    gradcheck(function, [RNG.normal(size=(4, 5))])


@pytest.mark.parametrize("right", [False, True])
def test_searchsorted_is_numpys(right):
    row, values = np.array([1.0, 2.0, 2.0, 5.0]), np.array([[0.0, 2.0], [5.0, 9.0]])
    expected = np.searchsorted(row, values, "right" if right else "left")
    for found in (tinyml.searchsorted(Tensor(row), Tensor(values), right=right),
                  tinyml.bucketize(Tensor(values), Tensor(row), right=right),
                  tinyml.searchsorted(Tensor(row[::-1].copy()), Tensor(values), sorter=Tensor([3, 2, 1, 0]), right=right)):
        np.testing.assert_array_equal(found.numpy(), expected)
    assert tinyml.searchsorted(Tensor(row), Tensor(values), out_int32=True).dtype == np.int32


def test_unique_gives_places_and_counts():
    x = np.array([[3, 1], [3, 1], [2, 2]])
    values, inverse, counts = Tensor(x).unique(return_inverse=True, return_counts=True)
    assert values.numpy().tolist() == [1, 2, 3] and counts.numpy().tolist() == [2, 2, 2]
    np.testing.assert_array_equal(values.numpy()[inverse.numpy()], x)
    assert Tensor(x).unique(dim=0).numpy().tolist() == [[2, 2], [3, 1]]


def test_no_elements():
    assert Tensor(np.zeros((0, 3))).sort(0).values.shape == (0, 3)
    assert Tensor(np.zeros((2, 0))).topk(0).indices.shape == (2, 0)


@pytest.mark.parametrize("call, text", [
    (lambda x: x.sort(2), "dimension 2 of 2"), (lambda x: x.topk(6), "at least 6"), (lambda x: x.kthvalue(0), "k"),
    (lambda x: x[:, :0].mode(), "at least 1"), (lambda x: tinyml.searchsorted(x, x[:1]), "rows"),
    (lambda x: tinyml.searchsorted(x[0], x, right=True, side="left"), "contradicts")])
def test_errors(call, text):
    with pytest.raises(errors.ShapeError, match=text):
        call(Tensor(np.ones((2, 5))))
