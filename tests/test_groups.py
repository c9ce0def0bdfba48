"""Weights with a scale for each 32 or 64 of them: codes, products, embeddings, models, files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyml
from tinyml import Tensor, models, nn
from tinyml.errors import DtypeError, QuantizationError, ShapeError
from tinyml.nn import functional as F


def matrix(n: int, k: int, seed: int = 0) -> np.ndarray:
    """Rows whose parts differ in size, so that groups matter."""
    rng = np.random.default_rng(seed)
    size = np.exp2(rng.integers(-6, 6, (n, -(-k // 32)))).repeat(32, axis=1)[:, :k]
    return (rng.standard_normal((n, k)) * size).astype(np.float32)


@given(st.integers(1, 20), st.integers(1, 200), st.sampled_from([32, 64]), st.integers(0, 99))
def test_each_group_has_a_scale_of_its_own(n, k, group, seed):
    x = matrix(n, k, seed)
    q = Tensor(x).to_int8(group=group)
    assert (q.group, q.axis, q.scale.shape) == (group, 0, (n, -(-k // group))) and q.nbytes >= x.size + 4 * q.scale.size
    for g in range(q.scale.shape[1]):
        part = x[:, g * group : (g + 1) * group]
        largest = np.abs(part).max(axis=1)
        assert np.allclose(q.scale[:, g], np.where(largest == 0, 1, largest / 127), rtol=1e-6)
        error = np.abs(q.dequantize().numpy()[:, g * group : (g + 1) * group] - part)
        assert (error <= 0.5001 * q.scale[:, g, None]).all()


@given(st.integers(0, 20), st.integers(1, 200), st.integers(1, 40), st.sampled_from([None, 32, 64]), st.integers(0, 99))
def test_linear_is_the_sum_of_its_groups(rows, k, n, group, seed):
    x, w = matrix(max(rows, 1), k, seed)[:rows], Tensor(matrix(n, k, seed + 1))
    w = w.to_int8(axis=0) if group is None else w.to_int8(group=group)
    bias = np.linspace(-1, 1, n).astype(np.float32)
    expected = np.zeros((rows, n), np.float32)
    for at in range(0, k, group or k):
        part = slice(at, at + (group or k))
        largest = np.abs(x[:, part]).max(axis=1, initial=0)
        scale = np.where(largest < np.float32(127 * 2.0**-126), 1, largest / np.float32(127)).astype(np.float32)
        codes = np.clip(np.rint(x[:, part] / scale[:, None]), -127, 127).astype(np.int64)
        sums = codes @ w.array[:, part].T.astype(np.int64)
        column = w.scale if group is None else w.scale[:, at // group]
        expected += sums.astype(np.float32) * (scale[:, None] * column)
    assert np.array_equal(F.linear(x, w, bias).numpy(), expected + bias)


def test_an_embedding_in_groups_gives_its_dequantized_rows():
    table = Tensor(matrix(11, 96)).to_int8(group=32)
    ids = np.array([[0, 3, 10], [3, 3, 1]])
    assert np.array_equal(F.embedding(ids, table).numpy(), table.dequantize().numpy()[ids])
    assert F.embedding(np.zeros((2, 0), int), table).shape == (2, 0, 96)


@pytest.mark.parametrize("weights", ["max", "mse"])
@pytest.mark.parametrize("group", [32, 64])
def test_a_model_in_groups_is_closer_than_one_scale_a_channel_and_survives_its_file(group, weights, tmp_path):
    tinyml.manual_seed(0)
    model = models.TinyGPT(19, 16, 2, 4, 64).eval()
    for p in model.parameters():
        if p.ndim == 2:
            p.array[...] = matrix(*p.shape) * np.abs(p.array).mean()
    ids = np.random.default_rng(0).integers(0, 19, (3, 16))
    error = {}
    for name, int8 in (("channel", model.to_int8(weights=weights)), ("group", model.to_int8(weights=weights, group=group))):
        error[name] = sum(np.square(a.dequantize().numpy() - b.numpy()).sum()
                          for (_, a), (_, b) in zip(int8.named_tensors(), model.named_tensors()))
    assert error["group"] < 0.9 * error["channel"]
    int8.save(tmp_path / "m")
    loaded = tinyml.load(tmp_path / "m")
    assert loaded.blocks[0].up.weight.group == group and loaded.head.weight is loaded.tokens.weight
    assert np.array_equal(loaded(ids).numpy(), int8(ids).numpy())
    assert "per group of" in repr(loaded.head.weight) and str(group) in repr(loaded.head.weight)


def test_convolutions_beside_grouped_layers_have_a_scale_a_channel():
    tinyml.manual_seed(0)
    int8 = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 16, 5)).to_int8(group=32)
    assert int8[0].weight.group is None and int8[2].weight.group == 32
    assert int8(np.ones((2, 3, 6, 6), np.float32)).shape == (2, 5)


def test_wrong_groups_are_refused():
    x = Tensor(np.ones((4, 64), np.float32))
    for group in (16, 0, True, 32.0, "32"):
        with pytest.raises(ShapeError, match=r"group to be one of \(32, 64\)|group: expected one of"):
            x.to_int8(group=group)
    with pytest.raises(ShapeError, match="and a matrix"):
        Tensor(np.ones((4, 64, 2), np.float32)).to_int8(group=32)
    with pytest.raises(ShapeError, match="zero point 0 and are of rows, got zero point None, axis 1"):
        x.to_int8(axis=1, group=32)
    with pytest.raises(ShapeError, match=r"scale: expected shape \(4, 2\)"):
        Tensor(np.ones((4, 64), np.int8), scale=np.ones(4), axis=0, group=32)
    with pytest.raises(QuantizationError, match="expected finite"):
        Tensor(np.full((4, 64), np.nan, np.float32)).to_int8(group=32)
    grouped = x.to_int8(group=32)
    with pytest.raises(DtypeError, match="weights in groups of 32 go with float activations"):
        F.linear(x.to_int8(), grouped)
    with pytest.raises(DtypeError, match="matmul: int8 expects one scale on the left"):
        F.matmul(Tensor(np.ones((3, 4), np.float32)).to_int8(), grouped)
    model = models.TinyGPT(19, 16, 1, 2, 32)
    with pytest.raises(DtypeError, match="group to be one of"):
        model.to_int8(group=48)
    with pytest.raises(DtypeError, match="not with per_channel=False"):
        model.to_int8(group=32, per_channel=False)
    with pytest.raises(DtypeError, match="group is an option of dynamic int8"):
        model.to_int8(calibration=[np.zeros((1, 4), int)], group=32)
