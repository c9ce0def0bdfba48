"""Products of int8 Tensors, and of floats by int8 weights: the numbers they stand for, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from tinyml._kernels.products import integer_layer
from tinyml.errors import DtypeError, QuantizationError, ShapeError
from tinyml.tensors import OPS, Tensor, apply, call


def affine(*shape: int, seed: int = 0) -> Tensor:
    """int8 whose zero point is far from 0."""
    return Tensor(np.random.default_rng(seed).uniform(-1, 3, shape).astype(np.float32)).to_int8()


def symmetric(*shape: int, axis: int | None = 0, seed: int = 1) -> Tensor:
    w = Tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))
    if axis is None:
        return w.to_int8(scale=float(np.abs(w.numpy()).max() / 127), zero_point=0)
    return w.to_int8(axis=axis)


CONV = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}
BIAS = np.random.default_rng(2).standard_normal(6).astype(np.float32)


def product(name: str, x: Tensor, w: Tensor, bias: bool, **output) -> Tensor:
    if name == "matmul":
        return call("matmul", x, w, **output)
    b = Tensor(BIAS.astype(np.float64 if np.float64 in (x.dtype, w.dtype) else np.float32)) if bias else None
    return call(name, x, w, b, **(CONV if name == "conv2d" else {}), **output)


PRODUCTS = [("linear", (2, 5, 9), (6, 9), 0), ("linear", (9,), (6, 9), 0), ("linear", (4, 9), (6, 9), None),
            ("linear", (0, 9), (6, 9), 0), ("conv2d", (3, 4, 7, 8), (6, 2, 3, 3), 0),
            ("conv2d", (1, 4, 7, 8), (6, 2, 3, 3), None), ("matmul", (2, 5, 9), (9, 6), 1),
            ("matmul", (5, 9), (9, 6), None)]


@pytest.mark.parametrize("name, x_shape, w_shape, axis", PRODUCTS)
@pytest.mark.parametrize("bias", [True, False])
def test_int8_products_are_those_of_the_numbers_they_stand_for(name, x_shape, w_shape, axis, bias):
    x, w = affine(*x_shape), symmetric(*w_shape, axis=axis)
    exact = product(name, x.dequantize().to("float64"), w.dequantize().to("float64"), bias).numpy()
    got = product(name, x, w, bias)
    assert got.dtype == np.float32 and got.quantized is None and got.shape == exact.shape
    # integer sums are exact: all that is left are some float32 roundings of the result
    assert np.allclose(got.numpy(), exact, 1e-6, 1e-6 * np.abs(exact).max(initial=0))
    # int8 out: the code nearest to the exact result, or its neighbour where bias and multiplier round
    lo, hi = float(exact.min(initial=0)) * 0.8, float(exact.max(initial=0)) * 0.8     # some clip
    codec = Tensor(np.array([lo, hi], np.float32)).to_int8()
    out = product(name, x, w, bias, scale=codec.scale, zero_point=int(codec.zero_point))
    assert (out.dtype, out.scale, out.zero_point, out.shape) == (np.int8, codec.scale, codec.zero_point, exact.shape)
    wanted = np.clip(exact / codec.scale + codec.zero_point, -128, 127)
    assert (np.abs(out.numpy() - wanted) <= 0.502).all()


@pytest.mark.parametrize("name, x_shape, w_shape, axis", [p for p in PRODUCTS if p[0] != "matmul"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dynamic_products_quantize_their_rows(name, x_shape, w_shape, axis, dtype):
    """Float activations by int8 weights: equation (9), a conv's row being one sample."""
    x, w = Tensor(np.random.default_rng(5).standard_normal(x_shape).astype(dtype)), symmetric(*w_shape, axis=axis)
    got = product(name, x, w, True)
    assert got.dtype == np.float32
    a = x.numpy().astype(np.float32)
    rows = tuple(range(1, a.ndim)) if name == "conv2d" else -1
    s = np.abs(a).max(axis=rows, keepdims=True) / np.float32(127)
    rounded = Tensor(np.rint(a / s) * s.astype(np.float64))
    exact = product(name, rounded, w.dequantize().to("float64"), True).numpy()
    assert np.allclose(got.numpy(), exact, 1e-5, 1e-5)
    if x.numel():
        # a row that is not finite is NaN, and no other
        spoiled = a.copy().reshape(x_shape)
        spoiled[(0,) * (x.ndim if name == "conv2d" else x.ndim - 1)] = np.inf
        bad = product(name, Tensor(spoiled), w, True).numpy()
        first = bad[0] if name == "conv2d" else bad[(0,) * (x.ndim - 1)]
        assert np.isnan(first).all() and np.isnan(bad).sum() == first.size


def test_multipliers_of_codes_to_codes_are_float64(monkeypatch):
    """The product of the scales is not rounded to float32, whatever NumPy makes of an array without dimensions."""
    seen, make = [], integer_layer.Requant
    monkeypatch.setattr(integer_layer, "Requant", lambda real, *rest: seen.append(real) or make(real, *rest))
    x, w = affine(2, 5), symmetric(3, 5, axis=0)
    call("linear", x, w, None, scale=0.3, zero_point=5)
    exact = np.float64(x.scale) * np.asarray(w.scale, np.float64) / np.float64(np.float32(0.3))
    assert seen[0].dtype == np.float64 and seen[0].tolist() == exact.tolist()
    assert (seen[0] != seen[0].astype(np.float32)).any()


def test_matmul_of_two_affine_operands():
    a, b = affine(2, 5, 9), affine(9, 6, seed=3)
    assert a.zero_point != 0 and b.zero_point != 0
    exact = a.dequantize().numpy().astype(np.float64) @ b.dequantize().numpy().astype(np.float64)
    assert np.allclose((a @ b).numpy(), exact, 1e-6, 1e-6)
    out = call("matmul", a, b, scale=0.2, zero_point=-100)
    assert out.dtype == np.int8 and (np.abs(out.numpy() - np.clip(exact / 0.2 - 100, -128, 127)) <= 0.502).all()
    per_column = Tensor(b.dequantize()).to_int8(scale=np.full(6, 0.03), zero_point=np.arange(6), axis=1)
    exact = a.dequantize().numpy().astype(np.float64) @ per_column.dequantize().numpy().astype(np.float64)
    assert np.allclose((a @ per_column).numpy(), exact, 1e-6, 1e-6)


def test_int8_embedding():
    table, ids = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32), np.array([[4, 0], [4, 2]])
    codes = np.array([[-128, 127, 0], [1, -1, 5], [100, -100, 3], [127, 127, 127], [-128, -128, 127]], np.int8)
    ends = [Tensor(codes, scale=0.5, zero_point=z) for z in (-128, -1, 0, 127)]        # code - zero_point is not in int8
    rows = Tensor(codes, scale=np.full(5, 0.5), zero_point=np.array([127, 0, -128, -128, 127]), axis=0)
    for w in (Tensor(table).to_int8(), Tensor(table).to_int8(axis=0), *ends, rows):
        got = call("embedding", ids, w)
        assert got.dtype == np.float32 and (got.numpy() == w.dequantize().numpy()[ids]).all()
    for w in (*ends, rows):
        meant = 0.5 * (codes.astype(float) - w.zero_point.reshape(-1, 1).astype(float))
        assert (w.dequantize().numpy() == meant).all()
    with pytest.raises(DtypeError, match=r"per tensor or per row \(axis 0\), got axis 1"):
        call("embedding", ids, Tensor(table).to_int8(axis=1))
    with pytest.raises(DtypeError, match="embedding: expected integer ids"):
        call("embedding", ids.astype(np.float32), Tensor(table).to_int8())
    with pytest.raises(DtypeError, match="embedding: expected integer ids"):
        call("embedding", affine(2), Tensor(table))


X, W = affine(2, 4), symmetric(6, 4)
X, W = affine(2, 4), symmetric(6, 4)


@pytest.mark.parametrize("name, operands, output, message", [
    ("linear", (X, W.dequantize(), None), {}, r"need int8 weights, got weights of float32; .*dequantize\(\)"),
    ("linear", (Tensor([[1, 2, 3, 4]]), W, None), {}, "expected float or int8 activations, got int64"),
    ("linear", (X.dequantize(), W, None), {"scale": 0.1}, "an output scale goes with int8 activations, got float32"),
    ("linear", (X.dequantize().to_int8(axis=0), W, None), {}, "one scale per tensor, got one per index of axis 0"),
    ("linear", (X, symmetric(6, 4, axis=1), None), {}, "per tensor or along axis 0 .*got axis 1"),
    ("linear", (X, affine(6, 4), None), {}, "expected weights with zero point 0"),
    ("linear", (X, W, affine(6)), {}, "expected a float bias, got int8"),
    ("matmul", (X, Tensor(np.ones((4, 2)))), {}, "expected both operands int8, got float64 on the right"),
    ("matmul", (Tensor(np.ones((2, 4))), affine(4, 2)), {}, "expected both operands int8, got float64 on the left"),
    ("matmul", (X, symmetric(4, 6, axis=0)), {}, "one a column, on the right; got axis None and 0"),
    ("matmul", (symmetric(2, 4, axis=0), symmetric(4, 6, axis=1)), {}, "one scale on the left"),
])
def test_int8_products_refuse(name, operands, output, message):
    with pytest.raises(DtypeError, match=f"^{name}: .*{message}"):
        apply(OPS[name], *operands, **output)


@pytest.mark.parametrize("name, w, operands", [("linear", W, (None,)), ("matmul", symmetric(4, 6, axis=1), ()),
                                               ("matmul", affine(4, 6), ())])
@pytest.mark.parametrize("scale, zero_point, error, message", [
    (0.1, 2.7, DtypeError, "zero_point to be an array of integers, got 2.7"),
    (0.1, "a", DtypeError, "zero_point to be an array of integers, got 'a'"),
    (0.1, [1, 2], ShapeError, r"zero_point: expected shape \(\), got \(2,\)"),
    (0.1, 128, QuantizationError, r"zero_point: expected values in \[-128, 127\]"),
    ("a", 0, DtypeError, "scale to be an array of numbers, got 'a'"),
    ([0.1, 0.2], 0, ShapeError, r"scale: expected shape \(\) .*got \(2,\)"),
])
def test_an_output_has_one_scale_and_one_integer_for_zero(name, w, operands, scale, zero_point, error, message):
    with pytest.raises(error, match=message):
        call(name, X, w, *operands, scale=scale, zero_point=zero_point)


@pytest.mark.parametrize("zero", [0, 3])
def test_matmul_of_nothing_along_the_shared_dimension_is_zero(zero):
    a, b = Tensor(np.zeros((2, 0), np.int8), scale=1.0), Tensor(np.zeros((0, 3), np.int8), scale=1.0, zero_point=zero)
    np.testing.assert_array_equal((a @ b).numpy(), np.zeros((2, 3), np.float32))


def test_sums_past_int32_are_refused_not_wrapped():
    k = 70_000      # 70,000 * 127 * 255 > 2^31
    w = Tensor(np.full((1, k), 127, np.int8), scale=1.0)
    x = Tensor(np.full((1, k), 127, np.int8), scale=1.0, zero_point=-128)
    for arguments in ({}, {"scale": 1e6, "zero_point": 0}):
        with pytest.raises(QuantizationError, match=r"^linear: .*can reach 2266950000, past int32"):
            call("linear", x, w, None, **arguments)
    for zero in (0, 1):     # the affine right operand takes a path of its own
        right = Tensor(np.full((k, 1), 127, np.int8), scale=1.0, zero_point=zero)
        with pytest.raises(QuantizationError, match=r"^matmul: .*past int32"):
            x @ right
    for huge in (1e30, -1e15):
        with pytest.raises(QuantizationError, match=r"^linear: .*past int32"):
            call("linear", X, W, Tensor(np.full(6, huge)), scale=0.1)
    with pytest.raises(QuantizationError, match=r"^linear: bias"):
        call("linear", X, W, Tensor(np.array([0, 0, np.nan, 0, 0, 0])), scale=0.1)
    for scale in (0.0, np.nan, -1.0):
        with pytest.raises(QuantizationError, match="linear: output scale"):
            call("linear", X, W, None, scale=scale)
    with pytest.raises(QuantizationError, match=r"multiplier: .*output scale is far too small"):
        call("linear", X, W, None, scale=1e-37)


def test_weights_are_packed_once_and_again_for_another_zero_point():
    w = symmetric(6, 4)
    call("linear", X, w, None)
    packed = w.quantized.packed
    call("linear", X[:1], w, None)
    assert w.quantized.packed is packed
    other = Tensor(np.array([[1, -128, 127, 1], [0, 5, -6, 0]], np.int8), scale=0.1, zero_point=77)
    exact = other.dequantize().numpy().astype(np.float64) @ w.dequantize().numpy().astype(np.float64).T
    assert np.allclose(call("linear", other, w, None).numpy(), exact, 1e-6, 1e-6)
    assert w.detach().quantized is w.quantized      # shared with detached views
