"""int8 Tensors: codes, scales and zero points, what they stand for, and the ops that only move them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from values import leaf

from tinyml.errors import DtypeError, GradError, QuantizationError, ShapeError
from tinyml.tape import no_grad
from tinyml.tensors import Tensor, call


@pytest.mark.parametrize("error, message, arguments", [
    (QuantizationError, "finite, positive, normal float32 scale, got 0.0", {"scale": 0.0}),
    (QuantizationError, "finite, positive, normal float32 scale, got nan", {"scale": np.nan}),
    (QuantizationError, "finite, positive, normal float32 scale, got -1.0", {"scale": [1.0, -1.0], "axis": 0}),
    (QuantizationError, r"zero_point: expected values in \[-128, 127\], got 128", {"scale": 1.0, "zero_point": 128}),
    (DtypeError, "expected zero_point to be an array of integers, got 0.5", {"scale": 1.0, "zero_point": 0.5}),
    (ShapeError, r"axis: expected a dimension of shape \(2, 3\), got 2", {"scale": [1.0, 2.0], "axis": 2}),
    (ShapeError, r"scale: expected shape \(3,\) .* axis 1, got \(2,\)", {"scale": [1.0, 2.0], "axis": 1}),
    (ShapeError, r"scale: expected shape \(\)", {"scale": [1.0, 2.0]}),
    (ShapeError, r"zero_point: expected shape \(2,\), got \(3,\)", {"scale": 1.0, "zero_point": [1, 2, 3], "axis": 0}),
])
def test_constructor_refuses_bad_codecs(error, message, arguments):
    with pytest.raises(error, match=message):
        Tensor(np.zeros((2, 3), np.int8), **arguments)


finite = st.floats(-1000, 1000, width=32)


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5), elements=finite))
def test_to_int8_is_within_half_a_scale(a):
    q = Tensor(a).to_int8()
    assert q.dtype == np.int8 and q.shape == a.shape and q.axis is None
    assert q.scale.dtype == np.float32 and q.zero_point.dtype == np.int8 and q.scale.shape == q.zero_point.shape == ()
    assert q.nbytes == a.size + 5
    back = q.dequantize()
    assert back.dtype == np.float32 and back.shape == a.shape
    assert (np.abs(back.numpy() - a) <= 0.5001 * q.scale).all()
    assert (back.numpy()[a == 0] == 0).all()
    assert (back.to_int8(q.scale, int(q.zero_point)).numpy() == q.numpy()).all()      # codes survive the round trip
    # the formula, equation (7)
    with np.errstate(over="ignore"):
        expected = np.clip(np.rint(a / q.scale) + q.zero_point, -128, 127)
    assert (q.numpy() == expected).all()


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=3, max_side=5), elements=finite), st.data())
def test_to_int8_per_axis(a, data):
    axis = data.draw(st.integers(-a.ndim, a.ndim - 1))
    q = Tensor(a).to_int8(axis=axis)
    n = a.shape[axis]
    assert q.axis == axis % a.ndim and q.scale.shape == q.zero_point.shape == (n,) and not q.zero_point.any()
    assert q.nbytes == a.size + 5 * n
    spread = q.scale.reshape([-1 if i == q.axis else 1 for i in range(a.ndim)])
    assert (np.abs(q.dequantize().numpy() - a) <= 0.5001 * spread).all() and q.numpy().min() >= -127
    given_scale = Tensor(a).to_int8(scale=np.full(n, 0.5), zero_point=np.full(n, 3), axis=axis)
    assert (given_scale.numpy() == np.clip(np.rint(a / np.float32(0.5)) + 3, -128, 127)).all()


def test_to_int8_refuses():
    x = Tensor([1.0, np.nan, np.inf])
    with pytest.raises(QuantizationError, match=r"expected finite values .* got 2 NaN or infinite of 3"):
        x.to_int8()
    for arguments in ({"scale": 0.1}, {"scale": [0.1, 0.1, 0.1], "axis": 0}):
        with pytest.raises(QuantizationError, match="expected no NaN, got 1 of 3"):
            x.to_int8(**arguments)
        # with a scale given, infinity and what overflows float32 are clamped
        assert Tensor([np.inf, -np.inf, 3e38]).to_int8(**arguments).numpy().tolist() == [127, -128, 127]
    with pytest.raises(QuantizationError, match="a zero_point needs a scale"):
        Tensor([1.0]).to_int8(zero_point=3)
    with pytest.raises(ShapeError, match="axis 1"):
        Tensor([1.0]).to_int8(axis=1)
    with pytest.raises(DtypeError, match="to_int8: expected a float dtype, got int64"):
        Tensor([1]).to_int8()
    with pytest.raises(GradError, match=r"to_int8: gradients do not flow through int8.*detach"):
        leaf(2).to_int8()
    with no_grad():
        assert leaf(2).to_int8().dtype == np.int8
    with pytest.raises(ValueError, match="read-only"):
        Tensor([1.0]).to_int8().numpy()[0] = 1      # packed weights are made from codes once


def test_codes_pass_through_what_moves_them():
    a = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
    q = Tensor(a).to_int8()
    real = q.dequantize()
    for step in (lambda t: t.reshape(6, 16), lambda t: t[1, ..., ::-2], lambda t: t[[1, 0, 1]], lambda t: t.mT,
                 lambda t: t.permute(0, 2, 3, 1), lambda t: t.unsqueeze(0), lambda t: t[:1].broadcast_to(3, 3, 4, 4),
                 lambda t: call("max_pool2d", t, size=(3, 3), stride=(2, 2), padding=(1, 1)),
                 lambda t: call("concat", t, t, axis=0)):
        out = step(q)
        assert (out.dtype, out.scale, out.zero_point) == (np.int8, q.scale, q.zero_point)
        assert (out.dequantize().numpy() == step(real).numpy()).all()
    for name, refused in {"add": lambda: q + 1, "mul": lambda: 2 * q, "sum": lambda: q.sum(), "relu": lambda: q.relu(),
                          "concat": lambda: call("concat", q, q.dequantize(), axis=0),
                          "softmax": lambda: q.softmax()}.items():
        with pytest.raises(DtypeError, match=rf"^{name}: not defined on int8; call dequantize\(\) first"):
            refused()
    with pytest.raises(DtypeError, match=r"^reshape: int8 with a scale per index of axis 0 .*dequantize\(\)"):
        Tensor(a).to_int8(axis=0).reshape(-1)
