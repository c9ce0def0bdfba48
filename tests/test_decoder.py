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
from tinyml.models.gpt import decoder as decoding
from tinyml.models.gpt.decoder import Decoder
from tinyml.models.gpt.plain import is_plain, keeps_positions
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
    qkv.weight.array[...] = 0        # keys and values are the bias
    qkv.bias.array[32:] = np.resize(np.array(HALVES, np.float32), 64)
    caches, slow = model.caches(1, stored), model.caches(1, stored)
    Decoder(model, caches)(np.array([3]))
    with tinyml.no_grad():
        model(np.array([[3]]), slow)
    for name in ("keys", "values", "key_scale", "value_scale"):
        kept, expected = (getattr(c[0], name) for c in (caches, slow))
        assert kept is expected is None or kept[:, :, :1].tobytes() == expected[:, :, :1].tobytes()
    qkv.bias.array[40] = 1e6
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


def greedy(model: models.TinyGPT, ids: list[int], count: int) -> list[int]:
    """The ids with which the model itself continues, by a whole forward per id."""
    with tinyml.no_grad():
        for _ in range(count):
            ids = [*ids, int(model(np.array([ids[-model.context :]])).numpy()[0, -1].argmax())]
    return ids


class Linear(nn.Linear):
    def forward(self, x):
        return super().forward(x) * -2


Linear.__module__, Linear.__qualname__ = nn.Linear.__module__, "Linear"      # not told from tinyml's by its name


def renewed(layer: nn.Module, cls: type[nn.Module]) -> nn.Module:
    new = cls(layer.weight.shape[1], layer.weight.shape[0], layer.bias is not None)
    new.weight, new.bias = layer.weight, layer.bias
    return new


# what is replaced, of which shape of model, and whether keys and values are kept then
REPLACED = {
    "a method of a block": ("gpt2", False, lambda m, b, p: setattr(b, "feed_forward", lambda x: b.down(b.up(x)) * 50.0)),
    "a method that mixes positions": ("llama", False, lambda m, b, p: setattr(
        b, "feed_forward", lambda x: x.mean(dim=1, keepdim=True) * 3 - x)),
    "the forward of a block": ("gpt2", False, lambda m, b, p: setattr(
        b, "forward", lambda x, cache=None: b.feed_forward(x))),
    "the forward of attention": ("gpt2", False, lambda m, b, p: setattr(b.attention, "forward", lambda x, cache=None: -x)),
    "the forward of a layer": ("llama", True, lambda m, b, p: setattr(b.silu, "forward", lambda x: x * -2)),
    "states of the model": ("gpt2", False, lambda m, b, p: setattr(
        m, "states", lambda ids, caches=None: -m.tokens(ids))),
    "forward of the model": ("gpt2", False, lambda m, b, p: setattr(
        m, "forward", lambda ids, caches=None: -m.head(m.states(ids, caches)))),
    "a method of a class": ("llama", False, lambda m, b, p: p.setattr(type(b), "feed_forward", lambda self, x: -self.up(x)[
        ..., :32])),
    "the forward of a class": ("llama", True, lambda m, b, p: p.setattr(nn.RMSNorm, "forward", lambda self, x: x * -3)),
    "a method of the base": ("gpt2", False, lambda m, b, p: p.setattr(nn.Module, "__call__", lambda self, *x: -self.forward(
        *x) if isinstance(self, nn.LayerNorm) else self.forward(*x))),
    "a function of layers": ("llama", False, lambda m, b, p: p.setattr(nn.functional, "silu", lambda x: x * -2)),
    "a layer by one of its class's name": ("gpt2", True, lambda m, b, p: setattr(b, "up", renewed(b.up, Linear))),
    "a norm by another of tinyml's": ("gpt2", True, lambda m, b, p: setattr(b, "norm2", nn.RMSNorm(32))),
    "heads": ("gpt2", False, lambda m, b, p: [setattr(b.attention, k, 2) for k in ("heads", "kv_heads")]),
    "causal": ("gpt2", False, lambda m, b, p: setattr(b.attention, "causal", False)),
    "rotary's theta": ("llama", False, lambda m, b, p: setattr(b.attention.rotary, "theta", 2.0)),
    "rotary's pairs": ("llama", False, lambda m, b, p: setattr(b.attention.rotary, "interleaved", True)),
    "no rotary": ("llama", False, lambda m, b, p: setattr(b.attention, "rotary", None)),
    "eps": ("llama", True, lambda m, b, p: setattr(b.norm1, "eps", 30.0)),
    "the form of gelu": ("gpt2", True, lambda m, b, p: setattr(b, "gelu", nn.GELU("tanh"))),
    "an activation": ("gpt2", True, lambda m, b, p: setattr(b, "gelu", nn.SiLU())),
    "the number of blocks": ("gpt2", False, lambda m, b, p: delattr(m.blocks, "1")),
    "a bias": ("gpt2", True, lambda m, b, p: setattr(b.up, "bias", None)),
}


@pytest.mark.parametrize("what", REPLACED)
def test_what_was_replaced_is_what_runs(what, monkeypatch):
    shape, keeps, replace = REPLACED[what]
    model, free = made(shape), made(shape)
    assert is_plain(model) and keeps_positions(model)
    replace(model, model.blocks[0], monkeypatch)
    assert not is_plain(model) and keeps_positions(model) == keeps
    expected = greedy(model, [1, 2, 3], 26)
    assert np.array_equal(model.generate([1, 2, 3], 26, temperature=0), expected)       # past the context of 24, too
    assert np.array_equal(model.generate([[1, 2, 3], [1]], 26, temperature=0)[0], expected)
    monkeypatch.undo()
    assert is_plain(free)


def test_what_changes_nothing_keeps_the_compiled_step():
    model = made("llama")
    model.note, model.blocks[0].dropout.p = "mine", 0.5
    assert is_plain(model) and is_plain(model.copy().train()) and is_plain(model.to_int8())

    class Named(models.TinyGPT):
        def speak(self, prompt):
            return self.generate(prompt, 8, temperature=0)

    named = Named(19, 24, 2, 4, 32, **SHAPES["llama"]).eval()
    named.load_state_dict(model.state_dict())
    assert not is_plain(named) and keeps_positions(named)
    assert np.array_equal(named.speak([1, 2]), model.generate([1, 2], 8, temperature=0))


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
    model.blocks[1].up.weight.array[...] = np.nan
    with pytest.raises(NonFiniteError, match="expected finite logits, got nan"):
        model.generate([1], 2)
