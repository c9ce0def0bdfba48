"""The compiled step: what the model's own layers give, on every instruction set; rows of unequal lengths; full contexts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_generation import CONVERSIONS, SHAPES, made

import tinyml
from tinyml import Tensor, models, nn
from tinyml._kernels import dispatch
from tinyml.errors import DtypeError, NonFiniteError, QuantizationError, ShapeError
from tinyml.models import decoder as decoding
from tinyml.models.decoder import Decoder, is_plain
from tinyml.nn.cache import STORED

HALVES = [0, -0.0, 1e-8, 2.9e-8, 3e-8, -6.1e-5, 5.96e-8, 8.9e-8, 1, 1.00048828125, 1.00146484375, 65504, -2049, 2051, 0.1]


@pytest.mark.parametrize("isa", dispatch.available())
@pytest.mark.parametrize("convert", CONVERSIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_gives_what_the_layers_give(shape, convert, isa, monkeypatch):
    monkeypatch.setattr(decoding, "active", dispatch.load(isa))
    model = CONVERSIONS[convert](made(shape))
    assert is_plain(model)
    ids = np.random.default_rng(0).integers(0, 19, (3, 24))
    for stored in STORED:
        caches, slow = model.caches(3, stored), model.caches(3, stored)
        with tinyml.no_grad():
            first = model.last(ids[:, :4], caches).numpy()
            whole = np.concatenate([model(ids[:, :4], slow).numpy(), model(ids[:, 4:], slow).numpy()], axis=1)
        assert np.allclose(first, whole[:, 3], atol=1e-5 * np.abs(whole).max())
        step = Decoder(model, caches)
        error = 2e-5 if convert in ("float32", "float16") and stored == "float32" else 0.03    # codes round either way
        for t in range(4, 24):
            logits, best = step(np.ascontiguousarray(ids[:, t]))
            assert np.allclose(logits, whole[:, t], atol=error * np.abs(whole).max())
            assert np.array_equal(best, logits.argmax(axis=1))
        assert {tuple(c.lengths) for c in caches} == {(24, 24, 24)}
        with pytest.raises(IndexError, match="the 24 positions of row 0 are full"):
            step(ids[:, 0].copy())


def test_threads_change_no_bit():
    tinyml.manual_seed(0)
    model = models.TinyGPT(3000, 600, 2, 4, 192, **SHAPES["llama"] | {"hidden": 500}).eval()
    before = tinyml.get_num_threads()
    try:
        for converted in (model, model.to_fp16(), model.to_int8(), model.to_int8(group=64)):
            for stored in STORED:
                logits = []
                for threads in (1, 2, 3):
                    tinyml.set_num_threads(threads)
                    caches = converted.caches(2, stored)
                    before_it = Tensor(np.random.default_rng(0).standard_normal((2, 2, 590, 48)).astype(np.float32))
                    for c in caches:
                        c.append(before_it, before_it)
                    step = Decoder(converted, caches)
                    logits.append(np.stack([step(np.array([i, i + 1]))[0].copy() for i in range(3)]).tobytes())
                assert len(set(logits)) == 1
    finally:
        tinyml.set_num_threads(before)


@pytest.mark.parametrize("stored", STORED)
def test_the_step_keeps_what_the_layers_keep(stored):
    model = made("gpt2")
    qkv = model.blocks[0].attention.qkv
    qkv.weight.data[...] = 0        # keys and values are the bias
    qkv.bias.data[32:] = np.resize(np.array(HALVES, np.float32), 64)
    caches, slow = model.caches(1, stored), model.caches(1, stored)
    Decoder(model, caches)(np.array([3]))
    with tinyml.no_grad():
        model(np.array([[3]]), slow)
    for name in ("keys", "values", "key_scale", "value_scale"):
        kept, expected = (getattr(c[0], name) for c in (caches, slow))
        assert kept is expected is None or kept[:, :, :1].tobytes() == expected[:, :, :1].tobytes()
    qkv.bias.data[40] = 1e6
    if stored == "float16":
        with pytest.raises(QuantizationError, match=r"up to 65504 to store as float16, got 1e\+06"):
            model.generate([1, 2], 3, cache=stored)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("full", ["slide", "stop"])
@settings(max_examples=15)
@given(st.lists(st.lists(st.integers(0, 18), min_size=1, max_size=12), min_size=1, max_size=4), st.integers(0, 16))
def test_rows_of_unequal_lengths_are_each_as_alone(full, plain, prompts, count):
    model = made("llama", context=12)
    if not plain:
        model.blocks[0].forward = model.blocks[0].forward
    assert is_plain(model) == plain
    together = model.generate(prompts, count, temperature=0, full=full)
    assert isinstance(together, list) == (len({len(p) for p in prompts}) > 1)
    for row, prompt in zip(together, prompts, strict=True):
        alone = model.generate(prompt, count, temperature=0, full=full)
        assert np.array_equal(row[: len(alone)], alone) and (row[len(alone) :] == row[len(alone) - 1]).all()
        if full == "stop":
            assert len(alone) == min(len(prompt) + count, 12)
        else:
            assert len(alone) == len(prompt) + count


def test_changed_layers_are_run_as_they_are():
    class Louder(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 2

    model = made("gpt2")
    tinyml.manual_seed(3)
    model.blocks[0].up = Louder(32, 128)
    assert not is_plain(model)
    out, text = model.generate([1, 2, 3], 8, temperature=0), [1, 2, 3]
    with tinyml.no_grad():
        for _ in range(8):
            text.append(int(model(np.array([text])).numpy()[0, -1].argmax()))
    assert np.array_equal(out, text)
    model = made("gpt2")
    model.head = nn.Linear(32, 25, bias=False)
    assert not is_plain(model) and model.generate([1], 3, seed=0).shape == (4,)


def test_what_cannot_be_generated_is_refused():
    model = made("gpt2")
    for ids in ([], [[]], [[1], []], [[[1]]], 3):
        with pytest.raises(ShapeError, match="at least one id"):
            model.generate(ids, 2)
    for ids, message in (([19], r"in \[0, 19\), got 19 to 19"), ([2, -1], r"in \[0, 19\), got -1 to 2"),
                         ([1] * 30, "30 ids is longer than the context of 24"),
                         ([[1], [1] * 25], "25 ids is longer than the context of 24")):
        with pytest.raises(ShapeError, match=message):
            model.generate(ids, 2)
    with pytest.raises(DtypeError, match="ids to be an array of integers, got float64"):
        model.generate([[1], [0.5, 1]], 2)
    with pytest.raises(DtypeError, match="KeyValueCache: expected one of float32, float16, int8, got 'int4'"):
        model.generate([1], 2, cache="int4")
    with pytest.raises(ShapeError, match="full to be one of 'slide', 'stop', got 'wrap'"):
        model.generate([1], 2, full="wrap")
    caches = model.caches(2)
    caches[0].lengths[:] = 1, 2
    with pytest.raises(ShapeError, match=r"rows of equal lengths, got \[1, 2\]"):
        model(np.array([[1], [2]]), caches)
    with pytest.raises(IndexError, match=r"expected ids in \[0, 19\), got 19"):
        Decoder(model, model.caches(1))(np.array([19]))
    model.blocks[1].up.weight.data[...] = np.nan
    with pytest.raises(NonFiniteError, match="expected finite logits, got nan"):
        model.generate([1], 2)
