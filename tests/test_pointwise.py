"""Functions of each element and of pairs: what NumPy gives, PyTorch's dtypes, in place, and the errors."""

from __future__ import annotations

import numpy as np
import pytest
from nets import Then
from values import leaf, normal

import tinyml
from tinyml import Tensor, nn
from tinyml.errors import DtypeError, GradError, ShapeError
from tinyml.tensors import apply

SMALL = np.linspace(-0.9, 0.9, 13).astype(np.float32)
LARGE = np.linspace(1.1, 30, 13).astype(np.float32)
UNARY = {
    "abs": (np.abs, SMALL), "acos": (np.arccos, SMALL), "acosh": (np.arccosh, LARGE), "asin": (np.arcsin, SMALL),
    "asinh": (np.arcsinh, LARGE), "atan": (np.arctan, LARGE), "atanh": (np.arctanh, SMALL), "ceil": (np.ceil, LARGE),
    "cos": (np.cos, LARGE), "cosh": (np.cosh, SMALL), "exp": (np.exp, SMALL), "exp2": (np.exp2, SMALL),
    "expm1": (np.expm1, SMALL), "floor": (np.floor, LARGE),
    "frac": (lambda x: x - np.trunc(x), LARGE),
    "isfinite": (np.isfinite, SMALL), "isinf": (np.isinf, SMALL), "isnan": (np.isnan, SMALL), "log": (np.log, LARGE),
    "log10": (np.log10, LARGE), "log1p": (np.log1p, SMALL), "log2": (np.log2, LARGE),
    "logical_not": (np.logical_not, SMALL),
    "neg": (np.negative, SMALL), "reciprocal": (np.reciprocal, LARGE), "relu": (lambda x: np.maximum(x, 0), SMALL),
    "round": (np.rint, LARGE), "rsqrt": (lambda x: 1 / np.sqrt(x), LARGE),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), SMALL),
    "sign": (np.sign, SMALL), "sin": (np.sin, LARGE), "sinh": (np.sinh, SMALL), "sqrt": (np.sqrt, LARGE),
    "square": (np.square, SMALL), "tan": (np.tan, SMALL), "tanh": (np.tanh, SMALL), "trunc": (np.trunc, LARGE),
    "logit": (lambda x: np.log(x / (1 - x)), np.abs(SMALL) + np.float32(0.01)),
}
BINARY = {
    "add": np.add, "atan2": np.arctan2, "div": np.divide, "eq": np.equal, "floor_divide": np.floor_divide, "fmod": np.fmod,
    "ge": np.greater_equal, "gt": np.greater, "hypot": np.hypot, "le": np.less_equal, "logaddexp": np.logaddexp,
    "logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor, "lt": np.less,
    "maximum": np.maximum, "minimum": np.minimum, "mul": np.multiply, "ne": np.not_equal, "remainder": np.remainder,
    "sub": np.subtract,
}


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_element_are_numpys(name):
    function, x = UNARY[name]
    expected = function(x.astype(np.float64))
    for got in (getattr(Tensor(x), name)(), getattr(tinyml, name)(x)):
        assert got.dtype == (np.bool_ if expected.dtype == np.bool_ else np.float32)
        assert np.allclose(got.numpy(), expected, 2e-6, 2e-6)
    if hasattr(Tensor, f"{name}_"):
        t = Tensor(x.copy())
        array = t.numpy()
        assert getattr(t, f"{name}_")() is t
        assert np.allclose(array, expected, 2e-6, 2e-6)         # the memory itself


def test_erf_is_exact_to_the_last_digits():
    from math import erf
    x = np.linspace(-5, 5, 2001)
    expected = np.array([erf(v) for v in x])
    assert np.abs(Tensor(x).erf().numpy() - expected).max() < 1e-15
    assert np.abs(Tensor(x.astype(np.float32)).erf().numpy() - expected).max() < 4e-7


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_pairs_are_numpys(name):
    a, b = normal(3, 1, 4), np.abs(normal(2, 4, seed=1)) + np.float32(0.3)
    expected = BINARY[name](a, b)
    for got in (getattr(tinyml, name)(Tensor(a), Tensor(b)), getattr(tinyml, name)(Tensor(a), b)):
        assert got.shape == (3, 2, 4) and np.allclose(got.numpy(), expected, 1e-6, 1e-6)
    with pytest.raises(ShapeError, match=rf"^{name}: shapes \(3,\) and \(2,\) do not broadcast"):
        getattr(tinyml, name)(Tensor(np.ones(3, np.float32)), Tensor(np.ones(2, np.float32)))


# What PyTorch's operands become: a dtype, or a Python number; "0-d" counts only where the others are of a lower category.
PROMOTED = [
    ("int64", 2, "int64"), ("int64", 2.5, "float32"), ("int64", True, "int64"), ("bool", 2, "int64"),
    ("bool", 2.5, "float32"),
    ("uint8", 2, "uint8"), ("float16", 2.5, "float16"), ("float16", 2, "float16"), ("float64", 2.5, "float64"),
    ("float32", "float64", "float64"), ("float32", "int64", "float32"), ("float16", "float32", "float32"),
    ("int32", "int64", "int64"), ("uint8", "int32", "int32"), ("bool", "uint8", "uint8"), ("float16", "int64", "float16"),
    ("float32", "0-d float64", "float32"), ("int64", "0-d float64", "float64"), ("uint8", "0-d int64", "uint8"),
    ("bool", "0-d int64", "int64"), ("int32", "0-d float16", "float16"),
]


@pytest.mark.parametrize(("left", "right", "result"), PROMOTED)
def test_dtypes_of_two_operands_become_one(left, right, result):
    a = Tensor(np.ones(2, left))
    b = right if not isinstance(right, str) else Tensor(np.ones(
        () if right.startswith("0-d") else 2, right.removeprefix("0-d ")))
    for got in (a + b, b + a, a * b, tinyml.maximum(a, tinyml.as_tensor(b)) if isinstance(b, Tensor) else a + b):
        assert got.dtype == result, (left, right, got.dtype)
    assert (a / b).dtype == (result if np.dtype(result).kind == "f" else "float32")
    assert (a == b).dtype == np.bool_


def test_functions_of_floats_take_integers():
    assert Tensor([1, 2]).exp().dtype == Tensor([True]).sin().dtype == np.float32
    assert Tensor([1, -2]).abs().tolist() == [1, 2] and Tensor([3]).round().dtype == np.int64
    assert (Tensor([7, -7]) // 2).tolist() == [3, -4] and (Tensor([7, -7]) % 4).tolist() == [3, 1]
    assert tinyml.div(Tensor([7, -7]), 2, rounding_mode="trunc").tolist() == [3, -3]
    assert Tensor([1, 5, 9]).clamp(2, 6).tolist() == [2, 5, 6] and Tensor([1, 5]).clamp(1.5).tolist() == [1.5, 5]
    assert (Tensor([2, 3]) ** 2).tolist() == [4, 9] and tinyml.pow(2, Tensor([3])).tolist() == [8]
    assert (Tensor([6]) & 3 | 8).tolist() == [10] and (~Tensor([True, False])).tolist() == [False, True]
    assert (Tensor([1]) << 3).item() == 8 and (Tensor([5]) ^ 1).item() == 4


@pytest.mark.parametrize(("call", "kind", "message"), [
    (lambda: Tensor([True]) - Tensor([False]), DtypeError, "sub: .*bool"),
    (lambda: -Tensor([True]), DtypeError, "neg: .*bool"),
    (lambda: Tensor([1.0]) & Tensor([2.0]), DtypeError, "bitwise_and: expected integers or bools, got float32"),
    (lambda: ~Tensor([1.0]), DtypeError, "bitwise_not: expected integers or bools, got float32"),
    (lambda: Tensor([1]) // 0, ShapeError, "floor_divide: whole numbers cannot be divided by 0"),
    (lambda: Tensor([1]) % Tensor([0]), ShapeError, "remainder: whole numbers cannot be divided by 0"),
    (lambda: Tensor([2]) ** -1, ShapeError, "pow: whole numbers to the power -1 are no whole numbers"),
    (lambda: tinyml.pow(Tensor([True]), Tensor([True])), DtypeError, "power: expected numbers, got bool"),
    (lambda: Tensor([1]).add(1, alpha=0.5), DtypeError, "add: expected alpha to be a whole number"),
    (lambda: Tensor([1.0]).clamp(), ShapeError, "clamp: expected min, max or both"),
    (lambda: Tensor([1.0]).div(2, rounding_mode="up"), ShapeError, "div: expected rounding_mode to be None or one of"),
    (lambda: Tensor([1]).round(decimals=1), DtypeError, "round: decimals of a Tensor of int64"),
    (lambda: tinyml.isclose(Tensor([1.0]), Tensor([1]), rtol=-1), ShapeError, "isclose: expected rtol to be"),
    (lambda: Tensor([1, 2]).add_(0.5), DtypeError, "add_: a result of float32 does not fit in a Tensor of int64"),
    (lambda: leaf(2).exp_(), GradError, "exp_: a leaf that requires a gradient"),
    (lambda: Tensor([1.0]).add_(np.ones(3, np.float32)), ShapeError,
     r"add_: expected a result of shape \(1,\), got \(3,\)"),
])
def test_what_cannot_be_computed_says_so(call, kind, message):
    with pytest.raises(kind, match=f"^{message}"):
        call()


@pytest.mark.parametrize("build", [
    lambda x: x * (x > 0), lambda x: tinyml.where(x > 0, x, 0.1 * x), lambda x: x.sin() + x.sigmoid(),
    lambda x: x.clamp(-0.5, 0.5).square(), lambda x: tinyml.where((x > 0) & (x < 1), x, x.floor())])
def test_what_is_composed_runs_in_plans(build):
    class Model(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return build(self.layer(x))

    tinyml.manual_seed(0)
    model, x = Model().eval(), normal(16, 4)
    expected = model(x).numpy()
    assert np.allclose(model.compile(x)(x).numpy(), expected, 1e-5, 1e-5)
    int8 = model.to_int8(calibration=[x])(x).numpy()
    assert np.mean(np.abs(int8 - expected)) < 0.03


def test_int8_is_compared_by_what_it_stands_for():
    codes = Tensor([-1.0, 0.0, 2.0]).to_int8()
    assert (codes > 0.5).tolist() == [False, False, True] and codes.isnan().tolist() == [False] * 3
    with pytest.raises(DtypeError, match=r"sin: not defined on int8; call dequantize\(\)"):
        apply(tinyml.tensors.OPS["sin"], codes)


# ---- large Tensors, whose results may be in the pool of memory, and odd values


@pytest.mark.parametrize("shapes", [((90, 100), (100,)), ((100, 100), (100, 100))], ids=str)
@pytest.mark.parametrize("name", BINARY)
def test_large_results_have_the_dtype_of_small_ones(name, shapes):
    a, b = (np.abs(normal(*shape, seed=i)) + np.float32(0.05) for i, shape in enumerate(shapes))
    expected, found = BINARY[name](a, b), getattr(tinyml, name)(Tensor(a), Tensor(b))
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.bool_])
def test_where_of_large_tensors_is_that_of_numpy(dtype):
    a, b = (normal(90, 100, seed=i) * 9 for i in range(2))
    a[0, :3] = np.nan, np.inf, -0.0
    a, b = (x.astype(dtype) if np.dtype(dtype).kind == "f" else np.nan_to_num(x, posinf=1).astype(dtype) for x in (a, b))
    for mask in (b > a, b[:1] > a[:1], b[:, :1] > a[:, :1]):
        for x, y in ((a, b), (a, b[:1]), (a[:, :1], b), (a[:1], b[:, :1]), (a, b[0, 0])):
            found = tinyml.where(Tensor(mask), Tensor(x), Tensor(np.asarray(y))).numpy()
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, np.where(mask, x, y))


def test_where_keeps_infinite_gradients_apart():
    x, y = leaf(90, 100), leaf(90, 100, seed=1)
    chosen = tinyml.where(x > 0, x, y)
    chosen.backward(np.full((90, 100), np.inf, np.float32))
    assert np.array_equal(x.grad.numpy() == np.inf, x.numpy() > 0) and not np.isnan(y.grad.numpy()).any()


def test_gradients_at_odd_values_are_those_of_pytorch():
    def gradient(function, *values):
        operands = [Tensor([v], requires_grad=True) for v in values]
        function(*operands).sum().backward()
        return [t.grad.item() for t in operands]

    assert Tensor([np.nan, -2.0]).sign().tolist() == [0, -1] and gradient(tinyml.abs, np.nan) == [0]
    assert gradient(tinyml.atan2, 0.0, 0.0) == [0, 0] and gradient(tinyml.logaddexp, np.inf, 1.0) == [1, 0]
    assert gradient(tinyml.maximum, np.nan, 1.0) == [1, 1] and gradient(tinyml.minimum, 2.0, 2.0) == [0.5, 0.5]
    assert gradient(tinyml.nan_to_num, np.inf) == [0]


def test_powers_of_whole_numbers_by_tensors():
    x = Tensor([-2, -1, 1, 2])
    assert (x ** Tensor([-1, -3, -2, -1])).tolist() == [0, -1, 1, 0] and (x**3).tolist() == [-8, -1, 1, 8]
    assert (1 << Tensor([1, 3])).tolist() == [2, 8] and (9 >> Tensor([1, 3])).tolist() == [4, 1]


def test_isclose_takes_infinities_numbers_and_codes():
    x = Tensor([1.0, np.nan, np.inf])
    assert x.isclose(Tensor([1.0 + 1e-7, np.nan, np.inf])).tolist() == [True, False, True]
    assert x.isclose(x, equal_nan=True).numpy().all() and x.isclose(1.0).tolist() == [True, False, False]
    codes = Tensor([-1.0, 0.25]).to_int8(scale=0.25, zero_point=3)
    assert codes.allclose(Tensor([-1.0, 0.25])) and (codes > 0).tolist() == [False, True]


def test_nan_to_num_of_float16():
    x = Tensor(np.float16([np.nan, np.inf, -np.inf, 1]))
    assert x.nan_to_num().tolist() == [0, 65504, -65504, 1] and x.nan_to_num(1, 2, 3).tolist() == [1, 2, 3, 1]


@pytest.mark.parametrize("name", ["sin", "erf", "floor", "reciprocal", "logit", "nan_to_num", "square"])
def test_functions_of_one_number_are_tables_in_plans(name):
    def forward(m, x):
        return m.b(getattr(tinyml, name)(m.a(x).sigmoid() * 0.8 + 0.1))

    x = normal(64, 4)
    model = Then(forward, nn.Linear(4, 5), nn.Linear(5, 3))
    plan = model.to_int8(calibration=[x])
    assert not plan.islands
    assert name == "floor" or np.abs(plan(x).numpy() - model(Tensor(x)).numpy()).max() < 0.1
