"""What Tensor has of NumPy, with gradients: arithmetic that broadcasts, indexing, reductions, shapes."""

from __future__ import annotations

import math
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from values import leaf

from tinyml.errors import DtypeError, ShapeError
from tinyml.nn import Parameter
from tinyml.tape import unbroadcast
from tinyml.tensors import Tensor
from tinyml.testing import gradcheck

# ---- arithmetic


def broadcastable(max_dims: int = 3):
    return hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=max_dims, max_side=3, min_side=0)


@given(broadcastable(), st.sampled_from(["add", "sub", "mul", "truediv"]))
def test_arithmetic_broadcasts_as_numpy_and_gradients_come_back(shapes, name):
    rng, operation = np.random.default_rng(0), getattr(operator, name)
    a, b = rng.standard_normal(shapes.input_shapes[0]), rng.uniform(0.5, 2, shapes.input_shapes[1])
    out = operation(Tensor(a), Tensor(b))
    assert out.shape == shapes.result_shape and (out.numpy() == operation(a, b)).all()
    gradcheck(operation, [a, b])


@given(st.data())
def test_unbroadcast_sums_what_was_stretched(data):
    shapes = data.draw(broadcastable(4))
    shape, wide = shapes.input_shapes[0], shapes.result_shape
    grad = np.random.default_rng(0).standard_normal(wide)
    # the transpose of broadcasting: <broadcast(v), grad> = <v, unbroadcast(grad)>
    v = np.random.default_rng(1).standard_normal(shape)
    got = unbroadcast(grad, shape)
    assert got.shape == shape
    assert np.isclose((np.broadcast_to(v, wide) * grad).sum(), (v * got).sum())


def test_operators_with_numbers_and_arrays_on_either_side():
    x = leaf(2, 2, dtype=np.float64)
    a, v = x.numpy(), np.array([[1.5, 2.5]])
    pairs = [(x + 2, a + 2), (2 + x, 2 + a), (x - 2, a - 2), (2 - x, 2 - a), (x * 3, a * 3), (3 * x, 3 * a),
             (x / 4, a / 4), (4 / x, 4 / a), (-x, -a), (x**3, a**3), (v + x, v + a),
             (v - x, v - a), (v * x, v * a), (v / x, v / a), (x @ a, a @ a), (a @ x, a @ a), (x.T @ v.T, a.T @ v.T),
             (2 * x.abs(), 2 * np.abs(a)), (x.exp().log(), a), (x.abs().sqrt(), np.sqrt(np.abs(a)))]
    for got, expected in pairs:
        assert isinstance(got, Tensor) and got.dtype == np.float64 and np.allclose(got.numpy(), expected, 1e-12)
    # a Python number takes the Tensor's dtype, whichever
    for dtype in ("float16", "float32", "float64"):
        t = Tensor([1.0], dtype=dtype)
        assert (t + 1).dtype == (2.5 * t).dtype == (1 / t).dtype == np.dtype(dtype)


# ---- indexing and shapes


@given(st.data())
def test_basic_indexing(data):
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=True))
    a = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    x = Tensor(a, requires_grad=True)
    y = x[index]
    assert y.shape == a[index].shape and (y.numpy() == a[index]).all()
    y.backward(np.full(y.shape, 2.0))
    expected = np.zeros(shape)
    expected[index] = 2
    assert (x.grad.numpy() == expected).all()


@given(st.data())
def test_integer_array_indexing_adds_up_repeats(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
    index = data.draw(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=5)))
    a = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    x = Tensor(a, requires_grad=True)
    y = x[tuple(Tensor(i) for i in index)] if data.draw(st.booleans()) else x[index]
    assert (y.numpy() == a[index]).all()
    g = np.arange(1.0, y.numel() + 1).reshape(y.shape)
    y.backward(g)
    expected = np.zeros(shape)
    np.add.at(expected, index, g)
    assert (x.grad.numpy() == expected).all()


def test_masks_and_lists_as_indices():
    x = leaf(4, 3, dtype=np.float64)
    a = x.numpy()
    for index in ([0, 2], a[:, 0] > 0, a > 0, (slice(None), [2, 0]), Tensor([3, 1]), x > 0, np.int64(1),
                  (..., None, -1)):
        plain = index.numpy() if isinstance(index, Tensor) else index
        assert (x[index].numpy() == a[plain]).all() and x[index].shape == a[plain].shape
    for index in (4, (0, 3), [7], 1.5):
        with pytest.raises(ShapeError, match="getitem: "):
            x[index]


@given(st.data())
def test_reductions_agree_with_numpy(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
    axes = st.none() | st.integers(-len(shape), len(shape) - 1) | hnp.valid_tuple_axes(len(shape), min_size=1)
    axis, keepdims = data.draw(axes), data.draw(st.booleans())
    a = np.random.default_rng(0).standard_normal(shape)
    for name in ("sum", "mean", "amax", "amin"):
        got = getattr(Tensor(a), name)(axis, keepdims)
        expected = getattr(a, name.removeprefix("a"))(axis=axis, keepdims=keepdims)
        assert got.shape == expected.shape and np.allclose(got.numpy(), expected, 1e-12, 1e-12)
        gradcheck(lambda t, name=name: getattr(t, name)(axis, keepdims), [a])
    if not isinstance(axis, tuple):
        assert (Tensor(a).argmax(axis).numpy() == a.argmax(axis)).all()
    n = a.size if axis is None else np.prod([shape[i] for i in np.atleast_1d(axis)])
    if n > 1:
        assert np.allclose(Tensor(a).var(axis, keepdim=keepdims).numpy(), a.var(axis, ddof=1, keepdims=keepdims), 1e-10)


def test_shape_methods():
    x = leaf(2, 3, 4)
    a = x.numpy()
    for got, expected in [
        (x.reshape(6, -1), a.reshape(6, 4)), (x.reshape((4, 6)), a.reshape(4, 6)), (x.view(24), a.ravel()),
        (x.flatten(), a.ravel()), (x.flatten(1), a.reshape(2, 12)), (x.flatten(0, 1), a.reshape(6, 4)),
        (x.mT, a.swapaxes(1, 2)), (x.transpose(0, -1), a.swapaxes(0, 2)), (x.permute(2, 0, 1), a.transpose(2, 0, 1)),
        (x.permute((1, 0, 2)), a.transpose(1, 0, 2)), (x.unsqueeze(0), a[None]), (x.unsqueeze(-1), a[..., None]),
        (x[:1].squeeze(0), a[0]), (x[:, :1].squeeze(-2), a[:, 0]), (Tensor(1.0).flatten(), np.ones(1)),
        (x.broadcast_to(5, 2, 3, 4), np.broadcast_to(a, (5, 2, 3, 4))),
        (x.squeeze(1), a), (x[:1].squeeze(), a[0]),
        (x.clip(0), a.clip(0)), (x.clip(hi=0.5), a.clip(None, 0.5)), (x.round(), a.round()),
    ]:
        assert got.shape == expected.shape and (got.numpy() == expected).all()
    for name, arguments in (("squeeze", (3,)), ("transpose", (0, 3)), ("reshape", (5, 5)),
                            ("unsqueeze", (4,)), ("flatten", (3,)), ("flatten", (0, -4)), ("argmax", (3,))):
        with pytest.raises(ShapeError, match=f"^{name}: "):
            getattr(x, name)(*arguments)
    with pytest.raises(ShapeError, match=r"argmax: no elements along axis 0 of a Tensor of shape \(0, 2\)"):
        Tensor(np.zeros((0, 2))).argmax(0)
    assert np.shares_memory(x.mT.numpy(), a) and np.shares_memory(x.reshape(24).numpy(), a)      # views, no copies


# ---- what NumPy and Python make of Tensors


def test_numpy_takes_tensors_as_arrays():
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    t = Tensor(a)
    assert np.asarray(t) is t.numpy() and np.array(t).dtype == np.float32 and not np.shares_memory(np.array(t), a)
    assert np.asarray(t, np.float64).dtype == np.float64
    assert np.mean(t) == a.mean() and np.array_equal(np.std(t, axis=0), a.std(axis=0))
    assert np.array_equal(np.concatenate([t, t]), np.concatenate([a, a])) and np.allclose(t, a)
    assert np.array_equal(np.array([Tensor(1.0), Tensor(2.0)]), [1, 2])
    assert (np.array([1.0, 2.0], np.float32) + Tensor([1.0, 2.0])).numpy().tolist() == [2, 4]


UNARY = ("abs", "absolute", "negative", "exp", "log", "sqrt", "tanh", "sin", "arccos", "floor", "rint", "sign", "square",
         "isnan", "isfinite", "logical_not", "reciprocal", "fabs")
BINARY = ("add", "subtract", "multiply", "divide", "true_divide", "power", "maximum", "minimum", "floor_divide",
          "remainder", "fmod", "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and",
          "arctan2", "matmul")
WHOLE = ("bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift")


def test_functions_of_elements_are_the_methods():
    a, b = (np.random.default_rng(seed).uniform(0.1, 0.9, 3) for seed in (0, 1))
    for name in UNARY:
        got = getattr(np, name)(Tensor(a))
        assert type(got) is Tensor and np.allclose(got, getattr(np, name)(a)), name
    for names, x, y in ((BINARY, a, b), (WHOLE, np.array([5, 6]), np.array([1, 2]))):
        for name in names:
            expected = getattr(np, name)(x, y)
            for left, right in ((Tensor(x), Tensor(y)), (x, Tensor(y)), (Tensor(x), y)):
                got = getattr(np, name)(left, right)
                assert type(got) is Tensor and got.dtype == expected.dtype and np.allclose(got, expected), name
    assert np.array_equal(np.invert(Tensor([5])), [-6]) and np.bool_(True) == Tensor([True])


def test_functions_of_elements_have_gradients():
    x = leaf(3, dtype=np.float64)
    a = np.arange(3.0)
    (np.exp(x) + np.multiply(a, x) + a * x + np.float64(2) * x).sum().backward()
    assert np.allclose(x.grad, np.exp(x.numpy()) + 2 * a + 2)


def test_methods_are_looked_up_when_called(monkeypatch):
    monkeypatch.setattr(Tensor, "cbrt", lambda t: "its cube root", raising=False)
    assert np.cbrt(Tensor([8.0])) == "its cube root"


def test_arrays_are_changed_in_place_by_what_needs_no_gradient():
    a = whole = np.ones(2)
    a += Tensor([1.0, 2.0])
    a *= Tensor(2.0)
    assert a is whole and a.tolist() == [4, 6]
    with pytest.raises(DtypeError, match=r"np.add with out is no function of Tensors; give it arrays, t.numpy\(\)"):
        a += leaf(2)
    with pytest.raises(DtypeError, match=r"np\.add with out is no function of Tensors"):
        a += Tensor([1.0, 2.0]).to_int8()       # not the codes, whose scale would be lost
    assert a.tolist() == [4, 6]


@pytest.mark.parametrize(("use", "name"), [
    (np.spacing, "spacing"), (np.add.reduce, "add.reduce"), (lambda t: np.add.outer(t, t), "add.outer"),
    (lambda t: np.add(t, t, where=[True]), "add with where"), (lambda t: np.exp(np.ones(1), out=t), "exp with out"),
    (lambda t: np.exp(t, dtype="float64"), "exp with dtype"), (lambda t: np.add.at(np.ones(1), [0], t), "add.at"),
])
def test_other_uses_are_refused_by_name(use, name):
    with pytest.raises(DtypeError, match=rf"^np.{name} is no function of Tensors; give it arrays, t.numpy\(\)"):
        use(Tensor([1.0]))


def test_comparisons_of_numpy_take_tensors():
    a = np.arange(3, dtype=np.float32)
    np.testing.assert_allclose(Tensor(a), a)
    np.testing.assert_array_equal(a, Tensor(a))
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(Tensor(a), a + 1)
    assert np.array_equal(Tensor(a), a) and not np.array_equal(a, Tensor(a + 1))


def test_formats_indices_and_truth():
    assert f"{Tensor([3.0]).sum():.2f} {Tensor([[2.5]]):5.1f} {Tensor(7):d}" == "3.00   2.5 7"
    assert f"{Tensor([1.0, 2.0])} {Tensor(0.5)} {Parameter(0.5)}" == (
        "tensor([1., 2.]) 0.5 Parameter containing:\ntensor(0.5000, requires_grad=True)")
    with pytest.raises(ShapeError, match="expected one element"):
        f"{Tensor([1.0, 2.0]):.2f}"
    assert [10, 20, 30][Tensor(2)] == 30 and list(range(Tensor([3]))) == [0, 1, 2]
    with pytest.raises(DtypeError, match="index: expected a Tensor of integers, got float32"):
        [1][Tensor(0.0)]
    with pytest.raises(ShapeError, match=r"the truth of a Tensor of shape \(2,\) is ambiguous"):
        assert Tensor([1.0, 0.0])


@given(broadcastable(), st.booleans())
def test_powers_by_tensors(shapes, reflected):
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.2, 2, shapes.input_shapes[0]), rng.standard_normal(shapes.input_shapes[1])
    assert np.array_equal((Tensor(a) ** Tensor(b)).numpy(), a ** b)
    assert np.array_equal((a ** Tensor(b)).numpy(), a ** b)
    gradcheck(operator.pow, [a, b])
    gradcheck((lambda t: 2.0 ** t) if reflected else (lambda t: t ** 3.0), [a])


def test_powers_of_zero_and_to_the_zeroth():
    """As PyTorch has them: no NaN from 0 * ln 0."""
    x, p = Tensor([0.0, 0.0, 2.0], requires_grad=True), Tensor([2.0, 0.0, 3.0], requires_grad=True)
    (x ** p).sum().backward()
    assert x.grad.numpy().tolist() == [0, 0, 12] and np.allclose(p.grad.numpy(), [0, 0, 8 * np.log(2)])
