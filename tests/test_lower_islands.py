"""Float islands in plans: ops without an integer rule, masks, and layers that are skipped."""

from __future__ import annotations

import numpy as np
import pytest
from nets import Then, images, off_by, randomise

import tinyml
from tinyml import Tensor, nn
from tinyml.errors import DtypeError
from tinyml.nn import functional as F
from tinyml.tape import no_grad


def test_ops_without_a_rule_run_in_float_between_the_codes(tmp_path):
    def forward(m, x):
        y = m.a(x)
        y = F.softmax(m.c(y) * F.sigmoid(y), -1) @ m.d(y).transpose(-1, -2)
        return m.b(y.transpose(-1, -2))

    model = randomise(Then(forward, nn.Linear(5, 8), nn.Linear(4, 3), nn.LayerNorm(8), nn.Linear(8, 8)))
    x = images((4, 5), 6, 0)
    plan = model.to_int8(calibration=[x])
    assert plan.islands == ["layer_norm in c", "softmax", "matmul"]
    assert "island softmax" in repr(plan) and "product in a" in repr(plan) and "table sigmoid" in repr(plan)
    assert off_by(plan, model, x) < 0.05
    plan.save(tmp_path / "plan.safetensors")
    assert tinyml.load(tmp_path / "plan.safetensors")(x).numpy().tobytes() == plan(x).numpy().tobytes()


def test_a_result_in_float_has_no_codes():
    plan = nn.Sequential(nn.Linear(5, 4), nn.Softmax()).to_int8(calibration=[images((5,), 3, 0)])
    assert plan.islands == ["softmax in 1"] and np.allclose(plan(images((5,), 2, 1)).numpy().sum(axis=1), 1)
    with pytest.raises(DtypeError, match="a plan with one output in codes; this one ends in float32"):
        plan.codes(images((5,), 2, 1))


def test_attention_stays_float():
    model = randomise(nn.Sequential(nn.Linear(3, 8), nn.SelfAttention(8, 2), nn.Linear(8, 3)))
    x = images((5, 3), 6, 0)
    plan = model.to_int8(calibration=[x])
    assert plan.islands == ["attention in 1"]
    assert off_by(plan, model, x) < 0.05


def masked_attention(m, x, mask=None):
    scores = m.a(x) @ m.b(x).transpose(-1, -2)
    return m.c(F.softmax(scores + (m.mask if mask is None else mask), -1) @ x)


@pytest.mark.parametrize("least", [-np.inf, -1e9, np.finfo(np.float32).min])
def test_masks_may_be_added(least):
    """A mask of -inf has no codes, and -1e9 makes them too coarse for the scores: the sum is an island, like softmax."""
    model = randomise(Then(masked_attention, *[nn.Linear(3, 4) for _ in "ab"], nn.Linear(3, 2)))
    model.mask = Tensor(np.triu(np.full((5, 5), least, np.float32), 1))
    x = images((5, 3), 6, 0)
    plan = model.to_int8(calibration=[x])
    assert plan.islands == ["matmul", "add", "softmax", "matmul"]
    assert off_by(plan, model, x) < 0.05


def test_a_mask_may_be_an_input():
    model = randomise(Then(masked_attention, *[nn.Linear(3, 4) for _ in "ab"], nn.Linear(3, 2)))
    x, mask = images((5, 3), 6, 0), np.float32([0, 0, -1e9])[np.random.default_rng(0).integers(0, 3, (6, 5, 5))]
    plan = model.to_int8(calibration=[((x, mask), None)])
    assert plan.islands == ["matmul", "add", "softmax", "matmul"]
    assert off_by(plan, model, x, mask) < 0.05


def test_constants_made_for_the_batch_follow_it(tmp_path):
    def forward(m, x):
        ones = Tensor(np.ones((len(x), 1, 4), np.float32))
        y = F.cat([ones, x, F.sigmoid(ones) * 0.5], dim=1)
        y = m.a(y) + Tensor(np.ones((len(x), 1, 4), np.float32)).reshape(len(x), 4)[:, None]
        return m.b(y[:, 0])

    model = Then(forward, nn.Linear(4, 4), nn.Linear(4, 3))
    x = images((2, 4), 6, 0)
    plan = model.to_int8(calibration=[x])
    plan.save(tmp_path / "plan.safetensors")
    for batch in (1, 2, 5):
        assert off_by(plan, model, x[:batch]) < 0.05
        assert np.array_equal(tinyml.load(tmp_path / "plan.safetensors")(x[:batch]).numpy(), plan(x[:batch]).numpy())


def test_integers_inside_a_plan():
    """An index computed from the input is an island of its own."""
    def forward(m, x):
        ids = m.a(x).clip(0.0, 3.0).to("int64").reshape(len(x), 2, 2)
        return m.b(F.embedding(ids, m.c.weight))

    model = Then(forward, nn.Linear(3, 4), nn.Linear(5, 2), nn.Embedding(4, 5))
    x = images((3,), 6, 0)
    plan = model.to_int8(calibration=[x])
    assert plan.islands == ["cast", "reshape"] and "embedding" in [s.kind for s in plan.steps]
    assert off_by(plan, model, x) < 0.1


# ---- layers that are skipped


@pytest.mark.parametrize("skip", [["0"], "1", ["1.1"], ["0", "1.1"], ["2"], ["0", "1", "2", "3"]])
def test_skipped_layers_are_islands_between_layers_that_are_not(skip):
    """The same bytes as the layers one by one, each a plan of its own or, where it is skipped, the float layer."""
    layers = {"0": nn.Linear(6, 8), "1.0": nn.Linear(8, 8), "1.1": nn.GELU(),
              "2": nn.Sequential(nn.Linear(8, 7), nn.ReLU()), "3": nn.Linear(7, 4)}
    ops = {"0": ["linear in 0"], "1.0": ["linear in 1.0"], "1.1": ["gelu in 1.1"], "2": ["linear in 2.0"],
           "3": ["linear in 3"]}
    model = randomise(nn.Sequential(layers["0"], nn.Sequential(layers["1.0"], layers["1.1"]), layers["2"], layers["3"]))
    x = images((6,), 20, 0)
    plan = model.to_int8(calibration=[x[:9], x[9:]], skip=skip)
    y, batches, islands = x, [x[:9], x[9:]], []
    for name, layer in layers.items():
        if any(name == s or name.startswith(f"{s}.") for s in skip):
            with no_grad():
                y = layer(y).numpy()
            islands += ops[name]
        else:
            y = layer.to_int8(calibration=batches)(y).numpy()
        with no_grad():
            batches = [layer(b).numpy() for b in batches]
    assert plan.islands == islands
    assert np.array_equal(plan(x).numpy(), y)


def test_skipping_what_is_not_there():
    model = nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.Linear(3, 2)))
    for skip in (["head"], ["0", "1.1"], "10", [""]):
        for calibration in (None, images((4,), 3, 0)):
            with pytest.raises(DtypeError, match=r"to_int8: skip: Sequential has no layer '.*'; its layers are 0, 1, 1\.0"):
                model.to_int8(calibration=calibration, skip=skip)


CHOICES = {
    "gate": (lambda y: y * (y > 0), ["gt", "mul"]),
    "leaky": (lambda y: tinyml.where(y > 0, y, 0.1 * y), ["gt", "where"]),
    "logic": (lambda y: tinyml.where((y > 0) & (y < 1) | ~(y.abs() > 0.5), y, 0.0),
              ["gt", "lt", "bitwise_and", "gt", "bitwise_xor", "bitwise_or", "where"]),
    "bounds": (lambda y: y.clamp(Tensor([-0.5, 0.0, 0.1, 0.2]), y.abs()), ["lt", "where", "gt", "where"]),
    "integers": (lambda y: y * ((y * 3).long() // 2 + 1), ["cast", "floor_divide", "add", "mul"]),
}


@pytest.mark.parametrize("name", CHOICES)
def test_bools_and_integers_run_in_plans(name, tmp_path):
    function, islands = CHOICES[name]
    model = randomise(Then(lambda m, x: m.b(function(m.a(x))), nn.Linear(5, 4), nn.Linear(4, 3)))
    x = images((5,), 16, 0)
    expected = model(Tensor(x)).numpy()
    compiled, plan = model.compile(x), model.to_int8(calibration=[x])
    assert np.allclose(compiled(x).numpy(), expected, atol=1e-5)
    assert plan.islands == islands and (name == "integers" or off_by(plan, model, x) < 0.05)
    plan.save(tmp_path / "plan.safetensors")
    assert np.array_equal(tinyml.load(tmp_path / "plan.safetensors")(x[:3]).numpy(), plan(x[:3]).numpy())


def test_plans_return_bools():
    model = randomise(Then(lambda m, x: m.a(x) > 0, nn.Linear(5, 4)))
    x = images((5,), 16, 0)
    for plan in (model.compile(x), model.to_int8(calibration=[x])):
        assert plan(x).dtype == bool and (plan(x).numpy() == model(Tensor(x)).numpy()).mean() > 0.9
