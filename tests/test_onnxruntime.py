"""Single int8 layers against ONNX Runtime: conv2d as QLinearConv, linear as QLinearMatMul.

Let v = acc s_x s_w / s_y exactly, in output codes before the zero point and the clamp. tinyml rounds halves up in fixed
point, equation (5); ONNX Runtime scales in float32, four roundings of 2^-24 |v| at most, and ties to even. So they may
differ by one code, and only where v lies within 2^-21 |v| + 2^-20 of a tie, k + 1/2.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyml import Tensor
from tinyml._kernels.products.windows import Window
from tinyml.nn import functional as F

REASON = "compares live with ONNX Runtime: pip install '.[parity]' (Python 3.11 or newer)"
onnx = pytest.importorskip("onnx", reason=REASON)
onnxruntime = pytest.importorskip("onnxruntime", reason=REASON)
pytestmark = pytest.mark.parity


@dataclass
class Layer:
    """Codes x (B, C, H, W) and w (N, C/groups, kh, kw), or x (B, K) and w (N, K) without bias; weight scales (N)."""

    x: np.ndarray
    x_scale: np.float32
    x_zero: int
    w: np.ndarray
    w_scale: np.ndarray
    bias: np.ndarray | None
    y_scale: np.float32
    y_zero: int
    window: Window

    def accumulators(self) -> np.ndarray:
        """bias + sum (x - z) w, shaped as the output, in int64; equation (4)."""
        if self.w.ndim == 2:
            return (self.x.astype(np.int64) - self.x_zero) @ self.w.T.astype(np.int64)
        (ph, pw), (sh, sw), (dh, dw), g = self.window.padding, self.window.stride, self.window.dilation, self.window.groups
        x = np.pad(self.x.astype(np.int64) - self.x_zero, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
        extent = [d * (k - 1) + 1 for d, k in zip((dh, dw), self.window.size, strict=True)]
        x = np.lib.stride_tricks.sliding_window_view(x, extent, (2, 3))[:, :, ::sh, ::sw, ::dh, ::dw]
        x = x.reshape(x.shape[0], g, -1, *x.shape[2:])              # (B, groups, C/groups, OH, OW, kh, kw)
        w = self.w.reshape(g, -1, *self.w.shape[1:]).astype(np.int64)
        y = np.einsum("bgcyxij,gncij->bgnyx", x, w)
        return y.reshape(len(x), -1, *y.shape[3:]) + self.bias[:, None, None]

    def multipliers(self) -> list[Fraction]:
        """s_x s_w / s_y of each output channel, exactly."""
        return [Fraction(float(self.x_scale)) * Fraction(float(s)) / Fraction(float(self.y_scale)) for s in self.w_scale]

    def by_tinyml(self) -> np.ndarray:
        x = Tensor(self.x, scale=self.x_scale, zero_point=self.x_zero)
        w = Tensor(self.w, scale=self.w_scale, axis=0)
        out = {"scale": self.y_scale, "zero_point": self.y_zero}
        if self.w.ndim == 2:
            return F.linear(x, w, None, **out).numpy()
        assert np.abs(self.bias).max() < 2**22      # so that a float32 bias, 24 bits, is found again to the unit
        bias = (self.bias * (np.float64(self.x_scale) * self.w_scale)).astype(np.float32)
        window = self.window
        return F.conv2d(x, w, bias, window.stride, window.padding, window.dilation, window.groups, **out).numpy()

    def by_onnxruntime(self) -> np.ndarray:
        inputs = {"x_scale": self.x_scale, "x_zero": np.int8(self.x_zero), "w": self.w, "w_scale": self.w_scale,
                  "w_zero": np.zeros(len(self.w), np.int8), "y_scale": self.y_scale, "y_zero": np.int8(self.y_zero)}
        if self.w.ndim == 2:
            return run("QLinearMatMul", self.x, inputs | {"w": self.w.T})
        window = self.window
        return run("QLinearConv", self.x, inputs | {"bias": self.bias}, kernel_shape=window.size, strides=window.stride,
                   pads=window.padding * 2, dilations=window.dilation, group=window.groups)


def run(operator: str, x: np.ndarray, constants: dict[str, np.ndarray], **attributes) -> np.ndarray:
    """One node of ONNX Runtime on x, its other operands constants in the order given."""
    helper, int8 = onnx.helper, onnx.TensorProto.INT8
    node = helper.make_node(operator, ["x", *constants], ["y"], **attributes)
    graph = helper.make_graph([node], operator, [helper.make_tensor_value_info("x", int8, x.shape)],
                              [helper.make_tensor_value_info("y", int8, None)],
                              [onnx.numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Some optimizations turn signed codes into unsigned ones. Signed by signed, it sums in 32 bits on every x86; unsigned
    # by signed, in 16 bits that saturate where there is no VNNI (mlas/lib/platform.cpp).
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def compare(layer: Layer) -> tuple[np.ndarray, list[Fraction]]:
    """Checks the statement above; ONNX Runtime's codes, and v where tinyml's are others."""
    ours, theirs = layer.by_tinyml(), layer.by_onnxruntime()
    acc, multipliers, values = layer.accumulators(), layer.multipliers(), []
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape) == (np.int8, acc.shape)
    for at in map(tuple, np.argwhere(ours != theirs).tolist()):
        v = int(acc[at]) * multipliers[at[1]]
        distance = abs(v - floor(v) - Fraction(1, 2))
        what = f"output {at}: {ours[at]}, ONNX Runtime's {theirs[at]}; v = {float(v)}, {float(distance)} from a tie"
        assert abs(int(ours[at]) - int(theirs[at])) == 1, what
        assert distance <= abs(v) / 2**21 + Fraction(1, 2**20), what
        values.append(v)
    return theirs, values


# ---- random layers


def random_layer(rng: np.random.Generator, x_shape: tuple, w_shape: tuple, window: Window, x_zero: int, y_zero: int,
                 largest: int) -> Layer:
    """Weights up to `largest`, scales over many magnitudes, an output scale that spreads the results over the codes."""
    n, terms = w_shape[0], int(np.prod(w_shape[1:]))
    spread = int(60 * largest * terms**0.5)     # about the size of the sum of products
    bias = rng.integers(-spread, spread, n, np.int32, endpoint=True) if len(w_shape) == 4 else None
    x_scale, w_scale = np.exp2(rng.uniform(-20, 6)), np.exp2(rng.uniform(-20, 6) + rng.uniform(-2, 2, n))
    y_scale = x_scale * np.median(w_scale) * spread / 40 * np.exp2(rng.uniform(-2, 4))
    return Layer(rng.integers(-128, 128, x_shape, np.int8), np.float32(x_scale), x_zero,
                 rng.integers(-largest, largest, w_shape, np.int8, endpoint=True), w_scale.astype(np.float32), bias,
                 np.float32(y_scale), y_zero, window)


def pairs(least: int, most: int) -> st.SearchStrategy:
    return st.tuples(st.integers(least, most), st.integers(least, most))


GROUPS = st.one_of(st.tuples(st.just(1), st.integers(1, 40), st.integers(1, 40)),       # groups, inputs and outputs of each
                   st.tuples(st.integers(2, 4), st.integers(1, 10), st.integers(1, 10)),
                   st.tuples(st.integers(1, 40), st.just(1), st.integers(1, 2)))        # depthwise
DRAWN = {"seed": st.integers(0, 2**32 - 1), "largest": st.sampled_from([1, 12, 127]),
         "zeros": st.tuples(*[st.sampled_from([-128, 127]) | st.integers(-128, 127)] * 2)}


def unclamped(codes: np.ndarray) -> float:
    return float(((codes > -128) & (codes < 127)).mean())


def test_convolutions():
    shares = []

    @settings(max_examples=400)
    @given(groups=GROUPS, images=st.integers(1, 2), size=pairs(1, 3), stride=pairs(1, 3), padding=pairs(0, 2),
           dilation=pairs(1, 2), room=pairs(0, 7), **DRAWN)
    def check(groups, images, size, stride, padding, dilation, room, seed, largest, zeros):
        g, k, n = groups
        window = Window(size, stride, padding, dilation, g)
        # at least one output
        image = [max(1, d * (t - 1) + 1 - 2 * p) + r
                 for t, p, d, r in zip(size, padding, dilation, room, strict=True)]
        rng = np.random.default_rng(seed)
        theirs, _ = compare(random_layer(rng, (images, g * k, *image), (g * n, k, *size), window, *zeros, largest))
        shares.append(unclamped(theirs))

    check()
    assert np.mean(shares) > 0.4        # zero points at the rails clamp about half


def test_linear():
    shares = []

    @settings(max_examples=400)
    @given(rows=st.integers(1, 70), k=st.integers(1, 300), n=st.integers(1, 70), **DRAWN)
    def check(rows, k, n, seed, largest, zeros):
        theirs, _ = compare(random_layer(np.random.default_rng(seed), (rows, k), (n, k), Window(), *zeros, largest))
        shares.append(unclamped(theirs))

    check()
    assert np.mean(shares) > 0.4


# ---- ties


@pytest.mark.parametrize("x_shape, w_shape", [((400, 3), (24, 3)), ((20, 3, 5, 4), (24, 3, 1, 1))],
                         ids=["linear", "conv2d"])
@pytest.mark.parametrize("y_zero", [-128, 3, 127])
def test_exact_ties_go_up_here_and_to_even_there(x_shape, w_shape, y_zero):
    """Multipliers 2^-1 to 2^-6 make ties common, and float32 exact: both results are known to the code."""
    rng = np.random.default_rng(7)
    w_scale = np.exp2(rng.permutation(24) % 6 - 9).astype(np.float32)
    bias = rng.integers(-500, 500, 24, np.int32) if len(w_shape) == 4 else None
    layer = Layer(rng.integers(-128, 128, x_shape, np.int8), np.float32(2.0), 11, rng.integers(-3, 4, w_shape, np.int8),
                  w_scale, bias, np.float32(2.0**-2), y_zero, Window())
    theirs, values = compare(layer)
    multipliers = np.array(layer.multipliers(), np.float64)
    assert set(multipliers) == {2.0**-i for i in range(1, 7)}
    v = layer.accumulators() * multipliers.reshape(-1, *w_shape[2:])
    assert (theirs == np.clip(np.rint(v) + y_zero, -128, 127)).all()
    assert (layer.by_tinyml() == np.clip(np.floor(v + 0.5) + y_zero, -128, 127)).all()
    assert len(values) > 100 and all(value.denominator == 2 for value in values)


def test_values_beside_a_tie():
    """Accumulators next to (k + 1/2) / M: float32 may fall on the other side of the tie, by no more than allowed."""
    rng, n = np.random.default_rng(8), 4000
    layer = Layer(rng.integers(-128, 128, (1, 8, 1, 1), np.int8), np.float32(1.0), -5,
                  rng.integers(-127, 128, (n, 8, 1, 1), np.int8), np.exp2(rng.uniform(-15, -14, n)).astype(np.float32),
                  np.zeros(n, np.int32), np.float32(1.0), 0, Window())
    wanted = [round((int(k) + Fraction(1, 2)) / m)
              for k, m in zip(rng.integers(-100, 100, n), layer.multipliers(), strict=True)]
    layer.bias = (np.array(wanted) - layer.accumulators().ravel()).astype(np.int32)
    _, values = compare(layer)
    assert len(values) > 100 and all(value.denominator > 2 for value in values)
