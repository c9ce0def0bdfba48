"""Sums of plans stay in int32 and multipliers in their range, whatever the weights and ranges; equations (4) and (5)."""

from __future__ import annotations

import interpreter
import numpy as np
import pytest
from nets import assert_interpreted, images, off_by, randomise

from tinyml import nn
from tinyml.graph import trace
from tinyml.precision import calibrate, lower


def wide_layer(k: int, bias: float) -> tuple[nn.Module, np.ndarray]:
    """A linear layer of k weights of +-1, and inputs in [0, 1] that drive its sums to both ends and between."""
    model = nn.Linear(k, 2)
    signs = np.where(np.random.default_rng(0).random(k) < 0.9, 1, -1)
    model.weight.array[...] = np.stack([signs, np.ones(k)])
    model.bias.array[...] = bias, -bias
    x = np.stack([signs > 0, signs < 0, np.ones(k), np.arange(k) % 2, np.arange(k) % 3 == 0]).astype(np.float32)
    return model, x


@pytest.mark.parametrize("rounding", ["single", "double"])
@pytest.mark.parametrize(("k", "bias", "doubled"), [(60_000, 0, 0), (70_000, 0, 1), (35_000, 33_156, 1), (100, 1e9, 0)])
def test_sums_never_leave_int32(tmp_path, k, bias, doubled, rounding):
    """Equation (4): the weight scale is doubled where sums of 8-bit weights could overflow."""
    model, x = wide_layer(k, bias)
    plan = model.to_int8(calibration=[x], rounding=rounding)
    path = tmp_path / "plan.safetensors"
    assert_interpreted(plan, path, x)       # which checks every accumulator
    own = interpreter.Plan(path).own(1)
    least = max(1 / 127, bias / (2**30 / 255))
    assert np.allclose(own["scale"], least * 2**doubled, rtol=1e-6)
    reach = np.abs(own["weight"].astype(np.int64)).sum(axis=1) * 255 + np.abs(own["bias"].astype(np.int64))
    assert (reach <= 2**31 - 1).all() and (reach > 2**29).all()
    assert off_by(plan, model, x) < 0.02


def test_dead_and_huge_channels(tmp_path):
    """A channel of zeros, one of 1e-30 and one of 1e6 beside normal ones, and a dead layer."""
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1))
    first = model[0]
    first.weight.array[...] *= np.float32([0, 1e-30, 1e6, 1, 1])[:, None, None, None]
    first.bias.array[0] = 0
    model[2].bias.array[...] = -1e9      # its ReLU never fires: a range of nothing
    x = images((3, 6, 6), 4, 0)
    plan = model.to_int8(calibration=[x])
    assert_interpreted(plan, tmp_path / "plan.safetensors", x)
    assert np.array_equal(plan(x).numpy()[0, :, 0, 0], plan(x).numpy()[3, :, 2, 2])


@pytest.mark.parametrize("rounding", ["single", "double"])
def test_multipliers_from_tiny_to_huge(tmp_path, rounding):
    """Output ranges far wider and far narrower than the results: equation (5) with s from 3 to 55, left shifts too."""
    model = randomise(nn.Sequential(nn.Linear(6, 5), nn.ReLU6(), nn.Linear(5, 4)))
    x = images((6,), 9, 0)
    graph = trace(model, x)
    ranges, last = calibrate(graph, [x]).ranges, graph.nodes[-1].output
    shifts = set()
    for exponent in range(-34, 60, 3):
        lo, hi = (v * 2.0**exponent for v in ranges[last])
        plan = lower(graph, {**ranges, last: (lo, hi)}, rounding=rounding)
        assert_interpreted(plan, tmp_path / "plan.safetensors", x)
        shifts.update(plan.steps[-2].layer.s)
    assert min(shifts) < 8 and max(shifts) == 55
