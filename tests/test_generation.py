"""Generation: with keys and values kept as without, drawn as asked for, stopped where told."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyml
from tinyml import models, nn
from tinyml.errors import DtypeError, ShapeError
from tinyml.models.gpt.generation import Sampling

SHAPES = {
    "gpt2": {},
    "llama": {"norm": "rms", "positions": "rotary", "activation": "swiglu", "bias": False, "kv_heads": 2, "hidden": 40},
    "mixed": {"positions": "rotary_interleaved", "kv_heads": 1, "tied": False},
}


def made(shape: str, context: int = 24) -> models.TinyGPT:
    tinyml.manual_seed(1)
    model = models.TinyGPT(19, context, 2, 4, 32, **SHAPES[shape]).eval()
    for p in model.parameters():        # far from the nearly equal logits of fresh parameters
        p.array *= 3 if p.ndim > 1 else 1
    return model


CONVERSIONS = {"float32": lambda m: m, "float16": lambda m: m.to_fp16(), "int8": lambda m: m.to_int8(),
               "groups": lambda m: m.to_int8(group=32), "mixed": lambda m: m.to_int8(skip=["head", "blocks.1"]).to_fp16(
                   skip=["blocks.1.up"])}


@pytest.mark.parametrize("convert", CONVERSIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_with_a_cache_are_those_without_at_every_position(shape, convert):
    model = CONVERSIONS[convert](made(shape))
    ids = np.random.default_rng(0).integers(0, 19, (3, 24))
    with tinyml.no_grad():
        whole = model(ids).numpy()
        for cuts in ([7, 8, 9, 20, 24], [1, 24], range(1, 25)):
            caches, begin, parts = model.caches(3), 0, []
            for end in cuts:
                parts.append(model(ids[:, begin:end], caches).numpy())
                begin = end
            error = 2e-5 if convert in ("float32", "float16") else 0.02     # a code may round the other way
            assert np.allclose(np.concatenate(parts, axis=1), whole, atol=error * np.abs(whole).max())
            assert {c.length for c in caches} == {24}
            assert np.allclose(model.last(ids).numpy(), whole[:, -1], atol=error * np.abs(whole).max())
    with pytest.raises(ShapeError, match=r"expected ids \(B, T\) with T from 1 to 0, got"):
        model(ids[:, :1], caches)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_generated_is_what_whole_passes_give(shape):
    model = made(shape, context=12)
    for prompt in ([3], [3, 1, 4, 1, 5], list(range(12))):
        out = np.array([prompt, prompt[::-1]])
        made_by = model.generate(out, 20, temperature=0)
        for _ in range(20):     # past the context, which slides
            with tinyml.no_grad():
                out = np.concatenate([out, model(out[:, -12:]).numpy()[:, -1].argmax(axis=1)[:, None]], axis=1)
        assert np.array_equal(made_by, out)


def test_a_stream_gives_what_generate_gives_and_leaves_the_model_as_it_is():
    model = made("llama").train()
    whole = model.generate([1, 2], 30, seed=4, top_k=5)
    drawn = []
    for ids in model.stream([1, 2], seed=4, top_k=5):
        assert model.training
        drawn.append(int(ids[0]))
        ids[...] = 0        # its own array
        if len(drawn) == 30:
            break
    assert np.array_equal(whole[2:], drawn)
    three = [ids[0] for ids in itertools.islice(model.stream([1, 2], seed=4), 3)]
    assert np.array_equal(model.generate([1, 2], 3, seed=4), [1, 2, *three])


def test_rows_stop_at_a_stop_id_and_the_last_one_ends_it():
    model = made("gpt2")
    free = model.generate([[1], [2], [3]], 20, seed=0)
    stop = int(free[0, 5])
    out = model.generate([[1], [2], [3]], 20, seed=0, stop=[stop])
    at = [list(row).index(stop) if stop in row[1:] else None for row in out]
    assert at[0] is not None and at[0] <= 5
    for row, whole, end in zip(out, free, at):
        assert end is None or (row[end:] == stop).all()
        assert np.array_equal(row[: (end or len(row) - 1) + 1], whole[: (end or len(row) - 1) + 1])
    assert None in at or out.shape[1] == max(at) + 1


def drawn_by(sampling: Sampling, logits: np.ndarray, seen: list | None = None, rng=None) -> np.ndarray:
    return sampling.draw(logits, logits.argmax(axis=1), lambda: np.array(seen), rng)


@given(st.integers(2, 30), st.floats(0.05, 1), st.integers(0, 10**6))
def test_top_p_keeps_the_fewest_likely_ids_that_reach_it(n, top_p, seed):
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((1, n)) * 3
    p = np.exp(logits[0]) / np.exp(logits[0]).sum()
    order = np.argsort(-p)
    fewest = int(np.searchsorted(np.cumsum(p[order]), top_p - 1e-9)) + 1
    drawn = drawn_by(Sampling(top_p=top_p), np.repeat(logits, 300, axis=0), rng=rng)
    assert set(drawn) <= set(order[: min(fewest, n)])
    assert np.array_equal(drawn_by(Sampling(top_p=1e-9), logits, rng=rng), order[:1])


def test_a_penalty_makes_ids_that_were_there_less_likely():
    logits = np.array([[2.0, 1.5, -1.0, -1.2]])
    greedy = Sampling(temperature=0, repetition_penalty=1.5)
    assert drawn_by(greedy, logits, [[0, 0]]) == [1]                     # 2 / 1.5 < 1.5
    assert drawn_by(greedy, logits, [[3]]) == [0] and logits[0, 0] == 2
    assert drawn_by(greedy, -logits, [[3, 2]]) == [3]                    # 1.2 / 1.5 and 1 / 1.5
    assert drawn_by(Sampling(temperature=0, repetition_penalty=2), -np.abs(logits), [[2]]) == [3]


def test_wrong_options_and_caches_are_refused():
    model = made("gpt2")
    for options in ({"temperature": -1}, {"top_k": 0}, {"top_p": 0}, {"top_p": 1.5}, {"repetition_penalty": 0},
                    {"temperature": float("nan")}):
        with pytest.raises(ShapeError, match=f"generate: expected {next(iter(options))} to be"):
            model.generate([1], 2, **options)
    with pytest.raises(ShapeError, match="max_new_tokens to be a whole number of at least 0, got -1"):
        model.generate([1], -1)
    with pytest.raises(ShapeError, match="of at least one id"):
        next(model.stream([]))
    with pytest.raises(DtypeError, match="ids to be an array of integers, got float64"):
        next(model.stream([0.5]))
    cache = nn.KeyValueCache(2, 4, 3, 8)
    k = tinyml.Tensor(np.zeros((2, 4, 2, 8), np.float32))
    assert cache.append(k, k)[0].shape == (2, 4, 2, 8) and cache.nbytes == 2 * 2 * 4 * 3 * 8 * 4
    for wrong in (k, tinyml.Tensor(np.zeros((1, 4, 1, 8), np.float32))):
        with pytest.raises(ShapeError, match="KeyValueCache: expected up to 1 more positions"):
            cache.append(wrong, wrong)
