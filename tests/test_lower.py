"""Static int8: every plan, saved, gives the bytes that an independent interpreter of its file computes."""

from __future__ import annotations

import interpreter
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import NETS, Then, assert_interpreted, images, inputs_of, nets, off_by, randomise

from tinyml import models, nn
from tinyml.errors import DtypeError, QuantizationError
from tinyml.graph import trace
from tinyml.nn import functional as F
from tinyml.precision import calibrate, lower
from tinyml.tape import no_grad


@pytest.mark.parametrize("rounding", ["single", "double"])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("name", NETS)
def test_plans_equal_the_interpreter_of_their_file(name, per_channel, rounding, tmp_path):
    model = randomise(NETS[name][0]())
    x = inputs_of(name, 16, 0)
    plan = model.to_int8(calibration=[x[:9], x[9:]], per_channel=per_channel, rounding=rounding)
    assert plan.islands == []
    for batch in (1, 5):
        x_test = inputs_of(name, batch, batch)
        assert_interpreted(plan, tmp_path / "plan.safetensors", x_test if name == "embeddings" else 2 * x_test)
    assert off_by(plan, model, x) < 0.05


@settings(max_examples=100)
@given(nets(), st.integers(0, 2**31), st.sampled_from(["single", "double"]), st.booleans(), st.integers(-12, 12))
def test_generated_nets_equal_the_interpreter(tmp_path_factory, net, seed, rounding, per_channel, magnitude):
    model, shape = net
    randomise(model, seed)
    x = images(shape, 7, seed) * np.float32(2.0**magnitude)
    plan = model.to_int8(calibration=[x[:4]], per_channel=per_channel, rounding=rounding)
    assert_interpreted(plan, tmp_path_factory.getbasetemp() / "generated.safetensors", x)


@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_scales_and_biases_are_those_of_the_equations(per_channel, tmp_path):
    """Equations (2), (3) and (6), the batch norm folded in float64, computed here from the float model."""
    model = randomise(nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU()))
    x = images((3, 6, 6), 8, 0)
    model.to_int8(calibration=[x[:5], x[5:]], per_channel=per_channel).save(tmp_path / "plan.safetensors")
    plan = interpreter.Plan(tmp_path / "plan.safetensors")
    with no_grad():
        y = model.eval()(x).numpy()
    assert [s["kind"] for s in plan.steps] == ["quantize", "product", "dequantize"]
    first, product = plan.steps[0]["attrs"], plan.steps[1]["attrs"]
    for attrs, name, data in ((first, "scale", x), (product, "scale_out", y)):
        lo, hi = min(float(data.min()), 0), max(float(data.max()), 0)
        assert attrs[name] == np.float32((hi - lo) / 255)
        assert attrs["zero_point"] == np.rint(-128 - lo / attrs[name])
    assert product["lo"] == product["zero_point"] == -128 and product["hi"] == 127      # ReLU

    own, (layer, norm) = plan.own(1), (dict(m.named_tensors()) for m in list(model)[:2])
    layer, norm = ({k: t.numpy().astype(np.float64) for k, t in named.items()} for named in (layer, norm))
    g = norm["weight"] / np.sqrt(norm["running_var"] + 1e-5)
    weight = (layer["weight"] * g[:, None, None, None]).astype(np.float32)
    bias = ((layer["bias"] - norm["running_mean"]) * g + norm["bias"]).astype(np.float32)
    largest = np.abs(weight).max(axis=(1, 2, 3)) if per_channel else np.full(5, np.abs(weight).max())
    scale = (largest.astype(np.float64) / 127).astype(np.float32)
    assert np.array_equal(own["scale"], scale)
    assert np.array_equal(own["weight"], np.rint(weight / scale[:, None, None, None]))
    assert np.array_equal(own["bias"], np.rint(bias / (first["scale"] * scale.astype(np.float64))))


# ---- what is folded and fused, and what is not


def test_no_batch_norm_or_activation_is_left_as_a_step():
    plan = randomise(models.CifarCNN(width=4)).to_int8(calibration=[images((3, 8, 8), 4, 0)])
    kinds = [s.attrs["op"] if s.kind == "codes" else s.kind for s in plan.steps]
    assert kinds == ["quantize", "product", "product", "max_pool2d", "product", "product", "max_pool2d", "product",
                     "product", "avg_pool", "reshape", "product", "dequantize"]


def test_depthwise_cnn_is_products_only():
    """As many multiplications as its docstring says, for both sizes of image, and none of them in float."""
    flops = {}
    for shape in ((3, 32, 32), (1, 28, 28)):
        model, x = models.DepthwiseCNN(shape[0]), images(shape, 2, 0)
        graph = trace(model, x)
        weights = {n.output: graph.shapes[n.inputs[1]] for n in graph.nodes if n.op.name in ("conv2d", "linear")}
        flops[shape] = sum(2 * np.prod(w) * np.prod(graph.shapes[y][2:]) for y, w in weights.items())
        plan = model.to_int8(calibration=[x])
        assert plan(x).shape == (2, 10)
        assert [s.kind for s in plan.steps] == ["quantize", *["product"] * 11, "avg_pool", "codes", "product", "dequantize"]
    assert round(flops[3, 32, 32] / 1e6) == 33 and "33 MFLOP" in models.DepthwiseCNN.__doc__


def test_fused_activations_clamp_where_the_range_does_not(tmp_path):
    """Ranges from calibration end where the activation ends; a wider one must not undo it."""
    def forward(m, x):
        y = F.relu6(m.a(x))
        return F.relu(m.b(y).clip(-1.0, 2.5)), F.relu6(F.relu(y + y)), (m.b(x).clip(-9.0, 2.0)).clip(-1.5, 7.0)

    model = randomise(Then(forward, nn.Linear(6, 6), nn.Linear(6, 6)))
    x = images((6,), 40, 0) * 3
    graph = trace(model, x)
    plan = lower(graph, dict.fromkeys(graph.shapes, (-12.0, 16.0)))
    kinds = [s.kind for s in plan.steps if "quantize" not in s.kind]
    assert kinds == ["product", "product", "add", "product"]
    for got, (lo, hi) in zip(plan(x), ((0, 2.5), (0, 6), (-1.5, 2)), strict=True):
        assert np.abs([got.numpy().min() - lo, got.numpy().max() - hi]).max() < 28 / 255     # a code
    for got, expected in zip(plan(x), model(x), strict=True):
        assert np.abs(got.numpy() - expected.numpy()).mean() < 0.15
    assert_interpreted(plan, tmp_path / "plan.safetensors", x)


def test_values_read_twice_keep_their_batch_norm_and_activation():
    """Nothing is folded or fused into a layer whose own result is read elsewhere."""
    def forward(m, x):
        y = m.a(x)
        return m.b(y) + F.relu(y) + y

    model = randomise(Then(forward, nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    x = images((3, 6, 6), 8, 0)
    plan = model.to_int8(calibration=[x])
    assert [s.kind for s in plan.steps] == ["quantize", "product", "product", "table", "add", "add", "dequantize"]
    assert off_by(plan, model, x) < 0.05


# ---- what lower refuses


def test_ranges_that_int8_cannot_represent_are_named():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    x = images((4,), 5, 0)
    graph = trace(model, x)
    ranges = calibrate(graph, [x]).ranges
    first, last = graph.nodes[1].output, graph.nodes[2].output
    for bad in ((0.0, np.nan), (-np.inf, 1.0)):
        with pytest.raises(QuantizationError, match=r"expected finite bounds.*\(in layer linear in 2\)"):
            lower(graph, {**ranges, last: bad})
    with pytest.raises(QuantizationError, match=r"the output scale is far too small for its input.*linear in 2"):
        lower(graph, {**ranges, last: (0.0, 1e-20)})
    missing = {k: v for k, v in ranges.items() if k != first}
    with pytest.raises(QuantizationError, match="expected a range for the result of linear in 0, got none"):
        lower(graph, missing)
    with pytest.raises(DtypeError, match="expected rounding single or double, got 'up'"):
        lower(graph, ranges, rounding="up")
