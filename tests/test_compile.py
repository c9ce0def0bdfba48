"""model.compile(): a float plan computes what the model does but for rounding, and is a plan like any other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import NETS, Then, images, inputs_of, nets, randomise
from saved import IDS, IMAGES, Everything
from test_program import branches, check

import tinyml
from tinyml import Tensor, models, nn
from tinyml.errors import DtypeError, ShapeError, TraceError
from tinyml.nn import functional as F
from tinyml.precision import prepare_qat
from tinyml.tape import no_grad

UNIT = 2.0**-24         # half a unit in the last place of float32, relative
SLOPES = {nn.ReLU: 1, nn.ReLU6: 1, nn.Tanh: 1, nn.Sigmoid: 0.25, nn.GELU: 1.13}


def eager(model: nn.Module, *xs: np.ndarray) -> np.ndarray:
    """The model's own result."""
    with no_grad():
        return model.eval()(*xs).numpy()


def double(t: Tensor) -> np.ndarray:
    return t.numpy().astype(np.float64)


def furthest(model: nn.Sequential, x: np.ndarray) -> np.ndarray:
    """What the result of layers computed in float32, in any order and with batch norm folded or not, may be off by.

    Layer by layer, with u the unit roundoff: a sum of K products is off by (K + 4) u times that of their sizes, besides
    what its operands are off by; batch norm y = x a + (b - m a) by 8 u times |x a| + |m a| + |b|; other functions by their
    slope times what x is off by, and 16 u of |y| + 1.
    """
    exact, off = x.astype(np.float64), np.zeros(x.shape)
    with no_grad():
        for layer in model:
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                def product(v, w, layer=layer):
                    if isinstance(layer, nn.Linear):
                        return F.linear(v, w).numpy()
                    return F.conv2d(v, w, None, layer.stride, layer.padding, layer.dilation, layer.groups).numpy()

                w, column = double(layer.weight), (-1, 1, 1)[: 1 if isinstance(layer, nn.Linear) else 3]
                b = 0 if layer.bias is None else double(layer.bias).reshape(column)
                sizes = product(np.abs(exact) + off, np.abs(w)) + np.abs(b)
                off = product(off, np.abs(w)) + (w[0].size + 4) * UNIT * sizes
                exact = product(exact, w) + b
            elif isinstance(layer, nn.BatchNorm2d):
                gamma, beta, mean, variance = (double(t).reshape(-1, 1, 1) for t in (
                    layer.weight, layer.bias, layer.running_mean, layer.running_var))
                a = gamma / np.sqrt(variance + layer.eps)
                sizes = (np.abs(exact) + off) * np.abs(a) + np.abs(mean * a) + np.abs(beta)
                off, exact = off * np.abs(a) + 8 * UNIT * sizes, (exact - mean) * a + beta
            else:
                exact = layer(exact).numpy()
                off = off.reshape(exact.shape) if isinstance(layer, nn.Flatten) else (
                    SLOPES[type(layer)] * off + 16 * UNIT * (np.abs(exact) + 1))
    return off


@settings(max_examples=100)
@given(nets(), st.integers(0, 2**31), st.integers(-6, 6))
def test_generated_nets_are_off_by_rounding(net, seed, magnitude):
    model, shape = net
    randomise(model, seed)
    x = images(shape, 5, seed) * np.float32(2.0**magnitude)
    plan = model.compile(x[:1])
    assert plan.islands == [line for line in plan.islands if not line.startswith(("batch_norm", "relu"))]
    for _ in range(2):
        assert (np.abs(plan(x).numpy().astype(np.float64) - eager(model, x)) <= 2 * furthest(model, x)).all()


@pytest.mark.parametrize("name", NETS)
def test_all_nets_are_off_by_rounding_and_give_the_same_bytes_however_called(name, monkeypatch, tmp_path):
    model = randomise(NETS[name][0]())
    plan = model.compile(inputs_of(name, 2, 0))
    x = inputs_of(name, 6, 1)
    expected = eager(model, x)
    assert np.abs(plan(x).numpy() - expected).max() <= 64 * UNIT * np.abs(expected).max()
    plan.save(tmp_path / "plan.safetensors")
    loaded = tinyml.load(tmp_path / "plan.safetensors")
    assert repr(loaded) == repr(plan) and loaded(x).numpy().tobytes() == plan(x).numpy().tobytes()
    check(loaded, lambda n, seed: (inputs_of(name, n, seed),), monkeypatch)


def test_batch_norm_and_activations_are_part_of_the_layers():
    plan = randomise(models.CifarCNN(width=4)).compile(images((3, 8, 8), 2, 0))
    assert plan.islands == [f"conv2d in {i}" for i in (0, 3)] + ["max_pool2d in 6"] + [
        f"conv2d in {i}" for i in (7, 10)] + ["max_pool2d in 13"] + [f"conv2d in {i}" for i in (14, 17)] + [
        "adaptive_avg_pool2d in 20", "reshape in 21", "linear in 22"]
    model = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU6(), nn.Conv2d(3, 2, 1))
    plan = randomise(model).compile(images((3, 4, 4), 2, 0))
    assert plan.islands == ["batch_norm_eval in 0", "conv2d in 2"]
    x = images((3, 4, 4), 5, 1) * 20
    assert np.allclose(plan(x).numpy(), eager(model, x), rtol=1e-5, atol=1e-5)
    with pytest.raises(DtypeError, match="this one ends in float32"):
        plan.codes(x)


def test_values_that_are_read_twice(monkeypatch):
    model = randomise(Then(branches, nn.Conv2d(3, 4, 3, padding=1), nn.Linear(128, 5), nn.Linear(64, 5)))
    plan = model.compile(images((3, 4, 4), 2, 0))
    check(plan, lambda n, seed: (images((3, 4, 4), n, seed),), monkeypatch)


def test_everything(monkeypatch):
    """Ids beside floats, constants that follow the batch, every op of the model that files are tested with."""
    model = Everything()
    plan = model.compile(IMAGES, IDS)
    assert np.allclose(plan(IMAGES, IDS).numpy(), eager(model, IMAGES, IDS), rtol=1e-5, atol=1e-6)
    rng = np.random.default_rng(0)
    check(plan, lambda n, seed: (images((3, 8, 8), n, seed), rng.integers(0, 11, (n, 6))), monkeypatch)


def test_a_plan_keeps_the_parameters_it_was_made_with():
    model = randomise(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.LayerNorm(16),
                                    nn.Linear(16, 3)))
    x = images((3, 4, 4), 5, 0)
    model.train()
    plan = model.compile(x)
    assert model.training and all(m.training for m in model.modules())
    before = plan(x).numpy()
    assert np.allclose(before, eager(model, x), rtol=1e-5, atol=1e-5)
    randomise(model, 9)
    assert np.array_equal(plan(x).numpy(), before)
    assert not np.allclose(before, eager(model, x), rtol=0.1, atol=0.1)


def test_nan_and_infinity_come_through():
    model = randomise(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3),
                                    nn.ReLU6()))
    x = images((3, 4, 4), 5, 0)
    x[1, 0, 2, 1], x[3, 1, 1, 1] = np.nan, np.inf
    plan = model.compile(x[:1])
    with np.errstate(invalid="ignore"):
        for _ in range(2):
            assert np.allclose(plan(x).numpy(), eager(model, x), rtol=1e-5, atol=1e-5, equal_nan=True)
    assert np.isnan(plan(x).numpy()[1]).all()


def test_half_precision_weights_are_read_as_they_are():
    model = randomise(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))).to_fp16(skip=["2"])
    x = images((6,), 30, 0)
    plan = model.compile(x)
    assert "island linear in 0: float32/float16" in repr(plan) and "float_product linear in 2: float32" in repr(plan)
    assert np.allclose(plan(x).numpy(), eager(model, x), rtol=1e-5, atol=1e-5)


WRONG_STEP = r"float_product in 0: (.* out of range|expected (stride|padding|groups) to be)"


def test_what_is_refused():
    model, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)), images((3, 4, 4), 5, 0)
    plan = model.compile(x)
    for made in (plan, model.to_int8(calibration=[x]), prepare_qat(model, x)):
        with pytest.raises(TraceError, match="a Plan is already lowered; trace the float model"):
            made.compile(x)
    with pytest.raises(TraceError, match="already reads int8"):
        model.to_int8().compile(x)
    with pytest.raises(DtypeError, match="Plan is already int8, or a plan: convert the float model"):
        plan.to_int8(calibration=[x])
    with pytest.raises(TraceError, match="expected non-empty examples"):
        model.compile()
    with pytest.raises(ShapeError, match=r"expected input \(B, 3, 4, 4\), got \(5, 3, 5, 4\)"):
        plan(images((3, 5, 4), 5, 0))
    with pytest.raises(DtypeError, match=r"expected float32 .* got int64"):
        plan(np.zeros((5, 3, 4, 4), np.int64))
    attrs, arrays = plan.steps[0].attrs, plan.steps[0].arrays
    for wrong in ({"stride": [0, 1]}, {"padding": [-1, 0]}, {"groups": 3}, {"groups": 0}, {"lo": 1.0, "hi": 0.0},
                  {"lo": float("nan")}, {"spatial": False}):
        with pytest.raises(ShapeError, match=WRONG_STEP):
            type(plan.steps[0])([0], 1, "0", {**attrs, **wrong}, dict(arrays))
    for wrong in ({"weight": arrays["weight"].astype(np.float64)}, {"weight": arrays["weight"][:0]},
                  {"bias": arrays["bias"][:2]}, {"bias": arrays["bias"].astype(np.float16)}):
        with pytest.raises(ShapeError, match=WRONG_STEP):
            type(plan.steps[0])([0], 1, "0", attrs, {**arrays, **wrong})


def test_a_linear_layer_of_a_file_has_no_window():
    """Otherwise kernels would write beyond the result."""
    model, x = nn.Sequential(nn.Linear(6, 4)), images((6,), 5, 0)
    for plan in (model.compile(x), model.to_int8(calibration=[x])):
        step = next(s for s in plan.steps if "product" in s.kind)
        for wrong in ({"stride": [2, 1]}, {"padding": [0, 200]}, {"dilation": [1, 2]}, {"groups": 2}):
            with pytest.raises(ShapeError, match=f"{step.kind} in 0: linear out of range"):
                type(step)([0], 1, "0", {**step.attrs, **wrong}, dict(step.arrays))
