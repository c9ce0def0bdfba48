"""float16: weights stored as IEEE half, everything else float32; models that mix it with float32 and int8."""

from __future__ import annotations

import numpy as np
import pytest

import tinyml
from tinyml import models, nn
from tinyml.errors import DtypeError, QuantizationError
from tinyml.precision import compare
from tinyml.tape import no_grad


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


IDS = np.random.default_rng(0).integers(0, 11, (3, 6))
MODELS = {"CifarCNN": (lambda: models.CifarCNN(width=4), normal(3, 3, 8, 8)),
          "MLP": (lambda: models.MLP(6, 5, 3), normal(4, 6)),
          "TinyGPT": (lambda: models.TinyGPT(11, 6, 2, 2, 8), IDS)}


@pytest.mark.parametrize("name", MODELS)
def test_float16_weights_compute_as_their_float32_values(name, tmp_path):
    """Activations and sums are float32: the result is that of a float32 model with the rounded weights, to the bit."""
    make, x = MODELS[name]
    model = make().eval()
    half, rounded = model.to_fp16(), model.copy()
    stored = {id(getattr(m, n)) for m in half.modules() for n in m.stored_weights}
    for t, h in zip((t for _, t in rounded.named_tensors()), (t for _, t in half.named_tensors()), strict=True):
        assert h.dtype == (np.float16 if id(h) in stored else t.dtype)
        t.array[...] = h.array
    with no_grad():
        got = half(x)
        assert got.dtype == np.float32 and got.numpy().tobytes() == rounded(x).numpy().tobytes()
    half.save(tmp_path / "half.safetensors")
    loaded = tinyml.load(tmp_path / "half.safetensors")
    assert loaded(x).numpy().tobytes() == got.numpy().tobytes()
    assert [t.dtype for _, t in loaded.named_tensors()] == [t.dtype for _, t in half.named_tensors()]
    assert all(t.dtype != np.float16 for _, t in model.named_tensors())


def test_sizes_halve_and_ties_stay():
    model = models.TinyGPT(300, 8, 2, 2, 64)
    half = model.to_fp16()
    assert half.head.weight is half.tokens.weight
    assert 0.5 < half.nbytes / model.nbytes < 0.51
    result = compare(model, half, [IDS], show=False, seconds=0.01)
    assert result.names == ("float32", "float16") and 0.5 < result.b.file_bytes / result.a.file_bytes < 0.53


def test_a_weight_past_65504_is_refused_by_name():
    model = models.MLP(4, 3, 2)
    model[3].weight.array[1, 0] = -65504
    assert model.to_fp16()[3].weight.array[1, 0] == -65504
    model[3].weight.array[1, 0] = 65520
    with pytest.raises(QuantizationError, match=r"65520 does not fit float16, whose largest value is 65504.*3\.weight"):
        model.to_fp16()
    assert model.to_fp16(skip=["3"])[1].weight.dtype == np.float16


def test_precisions_mix_layer_by_layer():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 16),
                          nn.ReLU(), nn.Linear(16, 5)).eval()
    x = normal(3, 3, 8, 8)
    mixed = model.to_int8(skip=["0", "6"]).to_fp16(skip=["0"])
    assert [str(mixed[i].weight.dtype) for i in (0, 4, 6)] == ["float32", "int8", "float16"]
    lines = repr(mixed).splitlines()
    assert [lines[i].split(", ")[-1].rstrip(")") for i in (1, 5, 7)] == ["float32", "int8", "float16"]
    with no_grad():
        expected = model(x).numpy()
        assert 0 < np.abs(mixed(x).numpy() - expected).max() < 0.02 * np.abs(expected).max()
    # static: float16 weights of the layers that are skipped stay float16 in the plan
    plan = model.to_fp16(skip=["0"]).to_int8(calibration=x, skip=["0", "6"])
    kinds = [(s.attrs["op"], {str(a.dtype) for a in s.arrays.values()}) for s in plan.steps if "op" in s.attrs]
    assert kinds == [("conv2d", {"float32"}), ("reshape", set()), ("linear", {"float16", "float32"})]
    shown = repr(plan)
    assert "float_product conv2d in 0: float32\n" in shown and "product in 4: int8, " in shown
    assert "island linear in 6: float32/float16\n" in shown
    with no_grad():
        assert np.abs(plan(x).numpy() - expected).max() < 0.05 * np.abs(expected).max()


def test_what_float16_refuses():
    model = models.MLP(4, 3, 2)
    with pytest.raises(DtypeError, match="a Plan holds packed weights"):
        model.to_int8(calibration=normal(2, 4)).to_fp16()
    with pytest.raises(DtypeError, match="MLP has int8 weights only"):
        model.to_int8().to_fp16()
    with pytest.raises(DtypeError, match=r"to_fp16: skip: MLP has no layer 'head'; its layers are 0, 1, 2, 3"):
        model.to_fp16(skip=["head"])
    with pytest.raises(DtypeError, match=r"ReLU has no layer with weights to store"):
        nn.ReLU().to_fp16()
    with pytest.raises(DtypeError, match="outside 1, 3"):
        model.to_fp16(skip=["1", "3"])
