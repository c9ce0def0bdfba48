"""diagnose: planted faults are named, sound networks have none, figures are those that conversion gives."""

from __future__ import annotations

import numpy as np
import pytest

import tinyml
from benchmarks import hard_nets
from tinyml import data, models, nn, precision
from tinyml.errors import DtypeError, QuantizationError, ShapeError

# of CifarCNN: a convolution, its norm and ReLU, and the convolution behind the pool
CONV, NORM, RELU, NEXT = "3", 4, "5", 7


@pytest.fixture(scope="module")
def tests() -> data.DataLoader:
    return data.DataLoader(hard_nets.images("test", 1000), 250)


@pytest.fixture(scope="module")
def sound() -> nn.Module:
    tinyml.manual_seed(0)
    return hard_nets.train(models.CifarCNN(1, 10, 8), epochs=1)


class Wide(precision.MinMax):
    """A range a thousand times that of the data, as one absurd value in calibration leaves it."""

    def range(self):
        return 1000 * self.lo, 1000 * self.hi


def narrow() -> precision.Observer:
    return precision.Percentile(60)


def outlier_channel(model: nn.Module) -> dict:
    """A channel's weights 100 times, given back by the weights that read it."""
    model[int(CONV)].weight.array[2] *= 100
    model[NORM].running_mean.array[2] *= 100
    model[NORM].bias.array[2] *= 100
    model[NEXT].weight.array[:, 2] /= 100
    return {"per_channel": False}


def small_input_channel(model: nn.Module) -> dict:
    """A channel a hundredth of its size, read by weights 100 times as large."""
    model[NORM].weight.array[2] /= 100
    model[NORM].bias.array[2] /= 100
    model[NEXT].weight.array[:, 2] *= 100
    return {}


def clipped_range(model: nn.Module) -> dict:
    return {"observer": {RELU: narrow}}


def few_levels(model: nn.Module) -> dict:
    return {"observer": {RELU: Wide}}


def dead_channel(model: nn.Module) -> dict:
    """A channel that is never above 0."""
    model[NORM].weight.array[2], model[NORM].bias.array[2] = 1e-3, -1
    return {}


def dead_and_large(model: nn.Module) -> dict:
    """A channel that is never above 0, with weights so large that all others lose precision."""
    model[int(CONV)].weight.array[2] *= 1000
    model[NORM].bias.array[2] = -1e6
    return {"per_channel": False}


def bad_fold(model: nn.Module) -> dict:
    """A running variance of next to nothing: folding multiplies the channel's weights by hundreds."""
    model[NORM].running_var.array[2] *= 1e-4
    model[NORM].running_mean.array[2] = 0
    model[NEXT].weight.array[:, 2] /= 100
    return {}


FAULTS = {"outlier channel": [outlier_channel, small_input_channel], "clipped range": [clipped_range],
          "few levels": [few_levels], "dead channel": [dead_channel, dead_and_large], "batch-norm fold": [bad_fold]}


@pytest.mark.parametrize(("cause", "plant"), [(cause, plant) for cause, plants in FAULTS.items() for plant in plants])
def test_each_planted_fault_is_named(sound, tests, cause, plant):
    planted = sound.copy()
    options = plant(planted)
    found = precision.diagnose(planted, tests, hard_nets.calibration(), **options)
    named = {r.layer: r.cause for r in found.layers if r.cause}
    assert named.get(CONV) == cause, str(found)
    assert set(named) <= {CONV, "0", str(NEXT)}, str(found)
    row = next(r for r in found.layers if r.layer == CONV)
    assert row.evidence and row.remedy


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("build", [models.CifarCNN, models.ResNet8, models.DepthwiseCNN], ids=lambda b: b.__name__)
def test_a_sound_network_has_no_cause(tests, build, per_channel):
    tinyml.manual_seed(0)
    model = hard_nets.train(build(1, 10, 8), epochs=1)
    found = precision.diagnose(model, tests, hard_nets.calibration(), per_channel=per_channel)
    assert not [r for r in found.layers if r.cause not in ("", "dead channel")], str(found)
    assert all(r.weight_snr > 30 and r.activation_snr > 30 for r in found.layers)


def test_its_figures_are_those_of_conversion(sound, tests):
    found = precision.diagnose(sound, tests, hard_nets.calibration(), per_channel=False)
    names = [r.layer for r in found.layers]
    assert names == ["0", "3", "7", "10", "14", "17", "22"] and found.metric == "accuracy"

    def lost(**options) -> float:
        result = precision.compare(sound, sound.to_int8(calibration=hard_nets.calibration(), per_channel=False, **options),
                                   tests, show=False, seconds=0)
        return 100 * (result.a.accuracy - result.b.accuracy)

    assert found.drop == pytest.approx(lost())
    for row in (found.layers[1], found.layers[-1]):
        assert row.without_drop == pytest.approx(lost(skip=[row.layer]))
        others = [str(i) for i in range(23) if str(i) != row.layer]
        assert row.only_drop == pytest.approx(lost(skip=others), abs=0.11)      # its ReLU is an op of its own there
    assert found.as_dict()["layers"][0]["layer"] == "0"
    assert str(found).count("\n") >= len(names) + 2
    bare = precision.diagnose(sound, next(iter(tests))[0])      # no targets: agreement with the float model
    assert bare.metric == "agreement" and bare.float_value == 1


def test_what_cannot_be_diagnosed_is_refused(sound, tests):
    int8 = sound.to_int8(calibration=hard_nets.calibration())
    with pytest.raises(DtypeError, match="diagnose: Plan is already int8"):
        precision.diagnose(int8, tests)
    with pytest.raises(DtypeError, match="diagnose: skip: CifarCNN has no layer 'head'"):
        precision.diagnose(sound, tests, skip=["head"])
    with pytest.raises(ShapeError, match="expected an iterable"):
        precision.diagnose(sound, 3)
    with pytest.raises(ShapeError, match="cross_entropy: expected targets"):
        precision.diagnose(sound, [(np.zeros((4, 1, 14, 14), np.float32), np.full(4, 10))])
    with pytest.raises(QuantizationError, match="expected at least one batch"):
        precision.diagnose(sound, [])


def test_a_shift_of_the_means_is_named_and_corrected():
    rng = np.random.default_rng(0)
    x = (5 + 0.1 * rng.standard_normal((512, 128))).astype(np.float32)    # rounded weights times 5 do not add up to 0
    model = nn.Sequential(nn.Linear(128, 16)).eval()
    model[0].bias.array[...] = -5 * model[0].weight.array.sum(axis=1)
    found = precision.diagnose(model, x, per_channel=False)
    assert found.layers[0].cause == "bias" and 'repairs=["correct_bias"]' in found.layers[0].remedy
    repaired = precision.diagnose(model, x, per_channel=False, repairs=["correct_bias"])
    assert repaired.layers[0].cause == "" and repaired.drop <= found.drop
    assert repaired.layers[0].activation_snr > found.layers[0].activation_snr + 3


class Constants(nn.Module):
    """A layer whose input does not depend on the model's."""

    def __init__(self):
        self.table, self.mix, self.out = nn.Embedding(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.out(x + self.mix(self.table(np.arange(4))).mean(dim=0))


def test_layers_that_read_constants_are_none_to_diagnose_and_float64_will_do():
    model, x = Constants().eval(), np.random.default_rng(0).standard_normal((64, 8))
    assert [r.layer for r in precision.diagnose(model, [x]).layers] == ["out"]
    assert model.to_int8(calibration=[x], max_drop=100, repairs=["learn_rounding", "correct_bias"]).info["frontier"]
