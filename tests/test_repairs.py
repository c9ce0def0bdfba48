"""Repairs: those that must not change the float model do not, and each lowers the error that it is for."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinyml
from benchmarks import hard_nets
from tinyml import graph, models, nn, precision
from tinyml.errors import DtypeError, QuantizationError, ShapeError
from tinyml.graph.operands import weight_of
from tinyml.graph.passes import simplify
from tinyml.nn import functional as F
from tinyml.options import Options
from tinyml.plan.lowering import Lowering
from tinyml.precision.repairs import REPAIRS, bias, equalize, rounding
from tinyml.precision.repairs.equalize import columns, pairs

RNG = np.random.default_rng


class Grouped(nn.Sequential):
    """Every kind of neighbour that equalization knows, and some that it must leave alone."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, groups=4), nn.AvgPool2d(2),
            nn.Conv2d(12, 12, 1, groups=12), nn.GELU(), nn.Conv2d(12, 6, 1), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(6 * 3 * 3, 10), nn.ReLU(), nn.Linear(10, 5), nn.Tanh(), nn.Linear(5, 4))


MODELS = {
    "CifarCNN": (lambda: models.CifarCNN(width=4), (3, 12, 12)),
    "ResNet8": (lambda: models.ResNet8(width=4), (3, 12, 12)),
    "DepthwiseCNN": (lambda: models.DepthwiseCNN(width=4), (3, 12, 12)),
    "MLP": (lambda: models.MLP(48, 16, 8), (3, 4, 4)),
    "Grouped": (Grouped, (3, 16, 16)),
}


def made(name: str, seed: int = 0) -> tuple[nn.Module, np.ndarray]:
    """A model with channels scaled at random, batch norms that have seen data, and a batch."""
    build, shape = MODELS[name]
    rng, model = RNG(seed), build()
    x = rng.standard_normal((8, *shape), np.float32)
    with tinyml.no_grad():
        model(x)
    for p in model.parameters():
        if p.ndim > 1:
            p.array *= np.exp(rng.normal(0, 1, (len(p), *(1,) * (p.ndim - 1)))).astype(np.float32)
    return model.eval(), x


@pytest.mark.parametrize("name", MODELS)
def test_equalized_graphs_compute_the_same_and_their_ranges_agree(name):
    model, x = made(name)
    before = simplify(graph.trace(model, x))
    after = equalize(before)
    with tinyml.no_grad():
        y, z = before(x).numpy(), after(x).numpy()
    assert np.allclose(y, z, rtol=1e-4, atol=1e-4 * np.abs(y).max())
    found = list(pairs(after))
    assert len(found) == {"CifarCNN": 6, "ResNet8": 3, "DepthwiseCNN": 11, "MLP": 1, "Grouped": 4}[name]
    for p in found:
        first, second = weight_of(after, p.first), weight_of(after, p.second)
        made_by = np.abs(first).reshape(p.channels, -1).max(axis=1)
        read_by = columns(np.abs(second), p.second, p.channels, np.max)
        assert np.allclose(made_by, read_by, rtol=0.05)


@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 12), st.integers(0, 10**6))
def test_learned_rounding_never_loses_to_nearest_and_no_single_change_is_better(groups, rows, k, seed):
    rng = RNG(seed)
    w = rng.standard_normal((groups, rows, k))
    scale = np.abs(w).max(axis=-1, keepdims=True) / rng.integers(1, 20)
    x = rng.standard_normal((groups, 40, k)) @ rng.standard_normal((groups, k, k))
    q = x + 0.1 * rng.standard_normal(x.shape)
    h, t = q.swapaxes(1, 2) @ q, (w @ x.swapaxes(1, 2)) @ q

    def error(codes: np.ndarray) -> np.ndarray:
        return np.square((codes * scale) @ q.swapaxes(1, 2) - w @ x.swapaxes(1, 2)).sum(axis=-1)

    codes = rounding.learn_codes(w, scale, h, t)
    low = np.clip(np.floor(w / scale), -127, 126)
    assert ((codes == low) | (codes == low + 1)).all()
    best = error(codes)
    assert (best <= error(np.clip(np.rint(w / scale), low, low + 1)) * (1 + 1e-9)).all()
    if k <= 6:      # with so few weights the sweeps have settled
        for i in range(k):
            other = codes.copy()
            other[..., i] = 2 * low[..., i] + 1 - codes[..., i]
            assert (error(other) >= best * (1 - 1e-9)).all()


@settings(max_examples=40)
@given(st.integers(1, 2), st.integers(1, 3), st.sampled_from([(1, 1), (3, 3), (2, 3)]), st.integers(1, 2),
       st.integers(0, 2), st.integers(1, 2), st.integers(0, 10**6))
def test_the_vectors_of_a_convolution_are_what_it_multiplies(batch, per, size, stride, padding, dilation, seed):
    rng, groups = RNG(seed), 2
    x = rng.standard_normal((batch, per * groups, 7, 8)).astype(np.float32)
    layer = nn.Conv2d(per * groups, 6, size, stride, padding, dilation, groups, bias=False)
    node, = graph.trace(layer, x).nodes
    with tinyml.no_grad():
        y = layer(x).numpy()
    at = rng.integers(2**40, size=20)
    found = rounding.vectors(node, x, size, at)                             # (R, G, K)
    made = np.einsum("rgk,gmk->rgm", found, layer.weight.array.reshape(groups, 3, -1)).reshape(20, 6)
    b, i, j = np.unravel_index(at % (y.size // 6), (batch, *y.shape[2:]))
    assert np.allclose(made, y[b, :, i, j], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_corrected_biases_bring_the_mean_outputs_back(name):
    model, x = made(name)
    folded = simplify(graph.trace(model, x))
    lowering = Lowering(folded, precision.calibrate(folded, [x]).ranges, Options(per_channel=False))

    def shift(made: Lowering) -> float:
        """Mean error of the last layer's result, of the mean size of that result."""
        with tinyml.no_grad():
            y = model(x).numpy()
        return float(np.abs((made.plan(x).numpy() - y).mean(axis=0)).mean() / np.abs(y).mean())

    corrected = bias.correct_bias(lowering, [(x,)])
    assert shift(corrected) < max(0.6 * shift(lowering), 0.01)
    with tinyml.no_grad():      # the lowering that was given is as it was
        assert np.array_equal(lowering.graph(x).numpy(), folded(x).numpy())


@pytest.mark.parametrize("repairs", [[name] for name in REPAIRS] + [list(REPAIRS)], ids=lambda r: "+".join(r))
@pytest.mark.parametrize("name", MODELS)
def test_repaired_models_are_plans_like_any_other(name, repairs, tmp_path):
    model, x = made(name)
    before = model.state_dict()
    idle = "migrate_scales" in repairs
    with pytest.warns(UserWarning, match="migrate_scales had nothing to do: no layer norm") if idle else nullcontext():
        int8 = model.to_int8(calibration=x, repairs=repairs)
    assert int8.info["repairs"] == [r for r in repairs if r != "migrate_scales"]
    assert not int8.islands[1:]     # Grouped's GELU has a table
    int8.save(tmp_path / "m.safetensors")
    assert np.array_equal(tinyml.load(tmp_path / "m.safetensors")(x).numpy(), int8(x).numpy())
    assert all(np.array_equal(a, b) for a, b in zip(before.values(), model.state_dict().values()))


def test_migrated_scales_take_planted_outliers_out_of_a_gpt():
    tinyml.manual_seed(0)
    model = hard_nets.train_gpt()
    planted = hard_nets.plant_outliers(model)
    calibration, tests = hard_nets.windows()
    traced = graph.trace(planted, calibration[0])
    moved = precision.migrate_scales(traced, [(x,) for x in calibration])
    with tinyml.no_grad():
        logits = planted(tests[0][0]).numpy()
        assert np.allclose(moved(tests[0][0]).numpy(), logits, atol=1e-4)
        assert np.allclose(model(tests[0][0]).numpy(), logits, atol=1e-4)

    def rise(**options) -> float:
        int8 = planted.to_int8(calibration=calibration, **options)
        result = precision.compare(planted, int8, tests, show=False, seconds=0)
        return result.b.loss - result.a.loss

    plain, migrated = rise(), rise(repairs=["migrate_scales"])
    print(f"loss increase of static int8 with planted outliers: {plain:.4f}; scales migrated: {migrated:.4f}")
    assert plain > 0.02 and migrated < plain / 2
    found = precision.diagnose(planted, tests[:1], calibration)
    assert found.metric == "loss" and {r.cause for r in found.layers if "qkv" in r.layer or "up" in r.layer} == {
        "outlier channel"}


def test_wrong_options_are_refused():
    model, x = made("MLP")
    for options, says in [
        ({"repairs": ["equalise"]}, "expected repairs among equalize, .*, got 'equalise'"),
        ({"max_drop": -1}, "expected max_drop to be a finite number of at least 0, got -1"),
        ({"validation": [x]}, "validation data are for max_drop"),
    ]:
        with pytest.raises((DtypeError, ShapeError), match=says):
            model.to_int8(calibration=x, **options)
    with pytest.raises(DtypeError, match="options of static int8"):
        model.to_int8(repairs=["equalize"])
    with pytest.raises(ShapeError, match="expected an iterable of batches"):
        model.to_int8(calibration=5, max_drop=1)
    with pytest.raises(QuantizationError, match="at least one batch"):
        model.to_int8(calibration=[], repairs=["equalize"])


def test_a_search_without_targets_goes_by_agreement_and_one_shot_data_will_do():
    model, x = made("CifarCNN")
    int8 = model.to_int8(calibration=iter([x]), max_drop=100)
    assert int8.info["frontier"][0]["float_layers"] == [] and not int8.islands
    tight = model.to_int8(calibration=iter([x]), max_drop=0, per_channel=False)
    last = tight.info["frontier"][-1]
    assert last["metric"] == 1 and last["drop"] == 0
    targets = RNG(0).standard_normal((8, 10)).astype(np.float32)
    by_loss = model.to_int8(calibration=[(x, targets)], max_drop=1e-3)
    assert by_loss.info["frontier"][-1]["drop"] <= 1e-3


class PostNorm(nn.Module):
    """An encoder block of 2017, where not only the linear layer reads the result of the norm."""

    def __init__(self):
        self.norm, self.up, self.down = nn.LayerNorm(4), nn.Linear(4, 6), nn.Linear(6, 4)

    def forward(self, x):
        x = self.norm(x)
        return x + self.down(F.gelu(self.up(x)))


def test_a_repair_with_nothing_to_do_says_so():
    model, x = PostNorm().eval(), np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    for name, why in (("migrate_scales", "no layer norm or RMS norm is read by linear layers alone"),
                      ("equalize", "no two layers have only ReLU, pooling or flattening between them")):
        with pytest.warns(UserWarning, match=f"the repair {name} had nothing to do: {why}"):
            int8 = model.to_int8(calibration=x, repairs=[name])
        assert int8.info["repairs"] == [] and np.array_equal(int8(x).numpy(), model.to_int8(calibration=x)(x).numpy())
    with pytest.warns(UserWarning, match="correct_bias had nothing to do: no layer computes in integers"):
        model.to_int8(calibration=x, repairs=["correct_bias"], skip=["up", "down"])
