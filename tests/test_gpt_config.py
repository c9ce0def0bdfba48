"""TinyGPT's architectures: any mix of parts works everywhere; rotary positions and shared heads mean what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinyml
from tinyml import Tensor, models, nn
from tinyml.errors import DtypeError, ShapeError
from tinyml.models.gpt.config import PRESETS, TinyGPTConfig
from tinyml.nn import functional as F
from tinyml.tape import no_grad
from tinyml.testing import gradcheck

LLAMA = {"kv_heads": 2, "hidden": 6, "norm": "rms", "positions": "rotary", "activation": "swiglu", "bias": False}


def normal(*shape: int, dtype: type = np.float32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@st.composite
def configs(draw) -> TinyGPTConfig:
    kv_heads, heads = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return TinyGPTConfig(
        vocab_size=draw(st.integers(5, 20)), context=draw(st.integers(4, 9)), layers=draw(st.integers(1, 2)),
        heads=kv_heads * heads, dim=kv_heads * heads * draw(st.sampled_from([2, 4, 6])), tied=draw(st.booleans()),
        kv_heads=kv_heads, hidden=draw(st.integers(1, 20)), norm=draw(st.sampled_from(["layer", "rms"])),
        eps=draw(st.sampled_from([1e-5, 1e-6])), positions=draw(st.sampled_from(TinyGPTConfig.CHOICES["positions"])),
        theta=draw(st.sampled_from([100.0, 10000])), activation=draw(st.sampled_from(TinyGPTConfig.CHOICES["activation"])),
        bias=draw(st.booleans()), dropout=draw(st.sampled_from([0.0, 0.1])))


def run(model: nn.Module, ids: np.ndarray) -> np.ndarray:
    with no_grad():
        return model.eval()(ids).numpy()


def ids_for(c: TinyGPTConfig, batch: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, c.vocab_size, (batch, c.context))


# ---- any mix of parts


@given(configs())
@settings(max_examples=30)
def test_any_config_counts_its_parameters_and_trains_all_of_them(c):
    model, ids = models.TinyGPT.from_config(c), ids_for(c)
    assert sum(p.numel() for p in model.parameters()) == c.parameters
    assert model.config == c and TinyGPTConfig(**c.as_dict()) == c
    assert all(p.numpy().any() for name, p in model.named_parameters() if p.ndim > 1), "a weight has no initial values"
    models.next_token_loss(model(ids[:, :-1]), ids[:, 1:]).backward()
    assert all(p.grad is not None and p.grad.numpy().any() for _, p in model.named_parameters())


@given(configs())
@settings(max_examples=30)
def test_any_config_is_causal_and_knows_positions(c):
    model, ids = models.TinyGPT.from_config(c), ids_for(c)
    logits = run(model, ids)
    other = ids.copy()
    other[:, -1] = (other[:, -1] + 1) % c.vocab_size
    np.testing.assert_array_equal(run(model, other)[:, :-1], logits[:, :-1])
    for t in range(1, c.context):
        np.testing.assert_allclose(run(model, ids[:, :t]), logits[:, :t], 1e-4, 1e-5)
    swapped = ids[:1, [1, 0, *range(2, c.context)]]
    if ids[0, 0] != ids[0, 1]:
        assert np.abs(run(model, swapped)[:, 2:] - logits[:1, 2:]).max() > 0


@given(configs())
@settings(max_examples=15)
def test_any_config_is_saved_compiled_and_quantized(tmp_path_factory, c):
    model, ids = models.TinyGPT.from_config(c), ids_for(c, 12)
    path, logits = tmp_path_factory.mktemp("model") / "model", run(model, ids)
    size = np.abs(logits).max()
    for made, off in ((model, 0), (model.compile(ids), 1e-5), (model.to_fp16(), 0.01), (model.to_int8(), 0.1),
                      (model.to_int8(calibration=[ids]), 0.25)):
        got = run(made, ids)
        assert np.abs(got - logits).max() <= off * size
        made.save(path)
        loaded = tinyml.load(path)
        np.testing.assert_array_equal(run(loaded, ids), got)
        assert getattr(loaded, "config", c) == c


@pytest.mark.parametrize("parts", [{}, LLAMA, {**LLAMA, "positions": "rotary_interleaved", "norm": "layer", "bias": True}])
def test_gradients_of_a_whole_model_are_those_of_central_differences(parts):
    model, ids = models.TinyGPT(5, 4, 1, 4, 8, **parts), np.array([[0, 3, 1, 4]])
    owners = [(module, name) for _, module in model.named_modules() for name, t in vars(module).items()
              if isinstance(t, Tensor) and module is not model.head]
    rng = np.random.default_rng(0)

    def logits(*tensors: Tensor) -> Tensor:
        for (module, name), tensor in zip(owners, tensors, strict=True):
            object.__setattr__(module, name, tensor)
        object.__setattr__(model.head, "weight", model.tokens.weight)
        return model(ids)

    gradcheck(logits, [rng.standard_normal(getattr(*owner).shape) / 2 for owner in owners], atol=1e-6)


def test_files_and_names_of_the_gpt2_form_stay():
    """The description that files from before there were configs are compared with."""
    model = models.TinyGPT(11, 6, 1, 2, 8, dropout=0.5)
    assert list(model.state_dict()) == [
        "tokens.weight", "positions.weight", *(f"blocks.0.{name}.{kind}" for name in (
            "norm1", "attention.qkv", "attention.proj", "norm2", "up", "down") for kind in ("weight", "bias")),
        "norm.weight", "norm.bias", "head.weight"]
    assert [f"{name} {type(m).__name__}({m.describe()})" for name, m in model.named_modules()] == [
        " TinyGPT()", "tokens Embedding(11, 8)", "positions Embedding(6, 8)", "dropout Dropout(p=0.5)",
        "blocks ModuleList()", "blocks.0 Block()", "blocks.0.norm1 LayerNorm(8, eps=1e-05)",
        "blocks.0.attention SelfAttention(heads=2, causal=True)", "blocks.0.attention.qkv Linear(8, 24, bias=True)",
        "blocks.0.attention.proj Linear(8, 8, bias=True)", "blocks.0.norm2 LayerNorm(8, eps=1e-05)",
        "blocks.0.up Linear(8, 32, bias=True)", "blocks.0.gelu GELU(approximate='none')",
        "blocks.0.down Linear(32, 8, bias=True)", "blocks.0.dropout Dropout(p=0.5)", "norm LayerNorm(8, eps=1e-05)",
        "head Linear(8, 11, bias=False)"]


@given(characters=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12))
def test_a_model_of_characters_has_them_in_its_file(tmp_path_factory, characters):
    characters = "".join(sorted(set(characters)))
    path = tmp_path_factory.mktemp("characters") / "gpt"
    model = models.TinyGPT(len(characters), 4, 1, 1, 2, characters=characters)
    for form in (model, model.to_int8(), model.to_fp16()):
        form.save(path)
        assert tinyml.load(path).config == model.config
    assert model.config.characters == characters


# ---- presets, and what is refused


def test_presets():
    assert {name: c.parameters for name, c in PRESETS.items()} == {
        "char": 809_856, "gpt2": 124_439_808, "smollm2-135m": 134_515_008}
    model = models.TinyGPT.preset("smollm2-135m", layers=1, vocab_size=10, dropout=0.1)
    assert model.config == TinyGPTConfig(**PRESETS["smollm2-135m"].as_dict() | {
        "layers": 1, "vocab_size": 10, "dropout": 0.1})
    assert model.head.weight is model.tokens.weight and model.positions is None
    with pytest.raises(ShapeError, match="expected name to be one of 'char', 'gpt2', 'smollm2-135m', got 'gpt3'"):
        models.TinyGPT.preset("gpt3")
    with pytest.raises(TypeError, match="colour"):
        models.TinyGPT.preset("char", colour="red")


@pytest.mark.parametrize(("changes", "message"), [
    ({"dim": 9}, "dim 9, heads 2"), ({"heads": 4, "kv_heads": 3}, "heads 4, kv_heads 3"), ({"layers": 0}, "layers.*got 0"),
    ({"vocab_size": 2.0}, "vocab_size.*2.0"), ({"hidden": -1}, "hidden.*-1"), ({"kv_heads": 0}, "kv_heads.*0"),
    ({"norm": "batch"}, "norm to be one of 'layer', 'rms', got 'batch'"), ({"positions": "alibi"}, "alibi"),
    ({"activation": ["gelu"]}, "activation"), ({"eps": -1e-5}, "eps"), ({"eps": "1"}, "eps.*'1'"),
    ({"theta": 0.5}, "theta"), ({"theta": math.nan}, "theta.*nan"), ({"dropout": 2}, "2"),
    ({"dim": 6, "positions": "rotary"}, "even size, got 3"), ({"characters": "abc"}, "vocab_size 7 .* got 'abc'"),
    ({"characters": "bacdefg"}, "sorted"), ({"characters": "aacdefg"}, "none of them twice"), ({"characters": 7}, "got 7"),
    ({"characters": list("abcdefg")}, "got .'a', 'b'"), ({"characters": "abcdef\ud800"}, "lone surrogate")])
def test_configs_that_do_not_fit_are_refused(changes, message):
    with pytest.raises((ShapeError, DtypeError), match=message):
        models.TinyGPT(**{"vocab_size": 7, "context": 5, "layers": 1, "heads": 2, "dim": 8} | changes)


@pytest.mark.parametrize("make", [
    lambda: nn.Rotary(3), lambda: nn.Rotary(4, 0.0), lambda: nn.Rotary(4)(normal(2, 6)), lambda: nn.Rotary(4)(normal(4)),
    lambda: nn.Rotary(4)(normal(2, 4), -1), lambda: nn.SelfAttention(8, 4, kv_heads=3),
    lambda: nn.SelfAttention(8, 4, rotary=nn.Rotary(4))])
def test_wrong_rotary_and_heads_are_refused(make):
    with pytest.raises(ShapeError, match=r"expected|must divide"):
        make()


# ---- rotary positions


@pytest.mark.parametrize("interleaved", [False, True])
@given(st.integers(0, 3000), st.integers(0, 50), st.integers(1, 16))
@settings(max_examples=20)
def test_products_of_turned_vectors_depend_on_distances(interleaved, start, distance, half):
    rotary, (q, k) = nn.Rotary(2 * half, 500.0, interleaved), normal(2, 1, 2 * half)
    near = (rotary(q, distance).numpy() * rotary(k, 0).numpy()).sum()
    far = (rotary(q, start + distance).numpy() * rotary(k, start).numpy()).sum()
    assert far == pytest.approx(near, rel=1e-5, abs=1e-5 * half)
    np.testing.assert_array_equal(rotary(q, 0).numpy(), q)


def test_rotary_by_hand():
    x, theta = normal(2, 5, 6), 50.0
    turns = np.arange(7, 12)[:, None] * theta ** (-np.arange(3) / 3)
    pairs = (x[..., :3] + 1j * x[..., 3:]) * np.exp(1j * turns)
    turned = nn.Rotary(6, theta)(x, 7).numpy()
    np.testing.assert_allclose(turned, np.concatenate([pairs.real, pairs.imag], -1), 1e-5, 1e-6)
    order = [0, 3, 1, 4, 2, 5]      # the same pairs, as neighbours
    np.testing.assert_array_equal(nn.Rotary(6, theta, True)(x[..., order], 7).numpy(), turned[..., order])
    assert not nn.Rotary(6).state_dict()


# ---- heads that share keys and values


@pytest.mark.parametrize(("dtype", "t", "size", "tolerance"), [(np.float64, 9, 5, 1e-12), (np.float32, 300, 20, 2e-5)])
@pytest.mark.parametrize("causal", [True, False])
def test_shared_heads_are_what_plain_ops_compute(causal, dtype, t, size, tolerance):
    """Value and gradients, of separate operands and of one that holds all three, over several blocks of scores."""
    x, cotangent = normal(2, t, 10, size, dtype=dtype).transpose(0, 2, 1, 3), normal(2, 6, t, size, dtype=dtype, seed=1)
    each = np.repeat(np.arange(2), 3)       # the head of keys that each of the 6 heads of queries has

    def plain(x):
        q, k, v = x[:, :6], x[:, 6 + each], x[:, 8 + each]
        scores = q @ k.transpose() * (1 / math.sqrt(size))
        return F.softmax(F.where(np.tri(t, dtype=bool), scores, dtype(-np.inf)) if causal else scores, -1) @ v

    results = []
    for function in (plain, lambda x: F.attention(x[:, :6], x[:, 6:8], x[:, 8:], causal, 2),
                     lambda x: F.self_attention(x, causal, 2)):
        operand = Tensor(x, requires_grad=True)
        y = function(operand)
        y.backward(cotangent)
        results.append((y.numpy(), operand.grad.numpy()))
    for y, gradient in results[1:]:
        np.testing.assert_allclose(y, results[0][0], tolerance, tolerance)
        np.testing.assert_allclose(gradient, results[0][1], 10 * tolerance, 10 * tolerance)


def test_fewer_queries_than_keys_see_what_is_before_them():
    """What a cache of keys and values needs: the last rows alone are the last rows of all."""
    q, k, v = normal(6, 30, 8), normal(2, 30, 8, seed=1), normal(2, 30, 8, seed=2)
    whole = F.attention(q, k, v, True, 2).numpy()
    for last in (1, 7, 29):
        np.testing.assert_allclose(F.attention(q[:, -last:], k, v, True, 2).numpy(), whole[:, -last:], 1e-5, 1e-6)


def test_threads_do_not_change_shared_heads():
    x, cotangent, results = normal(2, 10, 64, 32), normal(2, 6, 64, 32, seed=1), []
    for threads in (1, 3):
        tinyml.set_num_threads(threads)
        operand = Tensor(x, requires_grad=True)
        y = F.self_attention(nn.Rotary(32)(operand, 0, 8), True, 2)
        y.backward(cotangent)
        results.append((y.numpy().tobytes(), operand.grad.numpy().tobytes()))
    assert results[0] == results[1]
