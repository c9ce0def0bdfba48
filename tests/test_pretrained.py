"""Hugging Face folders: what they hold arrives bit for bit, in little memory; what does not fit is refused by name."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import hugging_face
import numpy as np
import pytest
from saved import memory_below

from tinyml.errors import FileError
from tinyml.models import TinyGPT
from tinyml.models.gpt.pretrained import Checkpoint
from tinyml.tape import no_grad

LLAMA = {"kv_heads": 2, "hidden": 6, "norm": "rms", "eps": 1e-6, "positions": "rotary", "theta": 500.0,
         "activation": "swiglu", "bias": False}
FAMILIES = {"gpt2": (hugging_face.gpt2, {"activation": "gelu_tanh", "hidden": 12}), "llama": (hugging_face.llama, LLAMA)}
IDS = np.random.default_rng(0).integers(0, 11, (2, 6))


def model_of(family: str, **changes) -> TinyGPT:
    """A small model, all of whose parameters differ from their initial values."""
    model = TinyGPT(**{"vocab_size": 11, "context": 6, "layers": 2, "heads": 4, "dim": 8} | FAMILIES[family][1] | changes)
    rng = np.random.default_rng(4)
    for p in model.parameters():
        p.array[...] = rng.standard_normal(p.shape) / 2
    return model


def folder_of(tmp_path: Path, family: str = "llama", tensors: dict | None = None, about: dict | None = None,
              **changes) -> Path:
    """A small model's folder, with other tensors (None: without) or another config."""
    said, held = FAMILIES[family][0](model_of(family, **changes))
    held = {name: a for name, a in (held | (tensors or {})).items() if a is not None}
    return hugging_face.write_folder(tmp_path / "folder", said | (about or {}), held)


def refused(folder: Path, message: str) -> None:
    with pytest.raises(FileError, match=f"^{re.escape(str(folder))}: .*{message}"):
        TinyGPT.from_pretrained(folder)


# ---- what arrives


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize(("prefix", "shards"), [(True, 1), (False, 3)])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_gives_the_model_that_it_was_made_from(family, prefix, shards, dtype, tied, tmp_path):
    model = model_of(family, tied=tied)
    about, tensors = FAMILIES[family][0](model)
    if not prefix:
        tensors = {re.sub(r"^(transformer|model)\.", "", name): a for name, a in tensors.items()}
    loaded = TinyGPT.from_pretrained(hugging_face.write_folder(tmp_path / "folder", about, tensors, dtype, shards))
    assert not loaded.training and loaded.config == model.config
    assert (loaded.head.weight is loaded.tokens.weight) == tied and all(p.requires_grad for p in loaded.parameters())
    for name, p in model.named_parameters():
        p.array[...] = hugging_face.rounded(dtype, p.numpy())
        np.testing.assert_array_equal(loaded.state_dict()[name], p.numpy())
    with no_grad():
        np.testing.assert_array_equal(loaded(IDS).numpy(), model.eval()(IDS).numpy())


def test_constants_and_a_second_copy_of_a_tied_weight_may_be_there(tmp_path):
    constants = {"transformer.h.0.attn.bias": np.ones((1, 1, 6, 6), np.float32), "h.1.attn.masked_bias": np.float32(-1e4)}
    model = TinyGPT.from_pretrained(folder_of(tmp_path, "gpt2", constants))
    folder = folder_of(tmp_path, "gpt2", constants | {"lm_head.weight": model.tokens.weight.numpy()})
    assert TinyGPT.from_pretrained(folder).config == model.config
    other = model.tokens.weight.numpy().copy()
    other[3, 3] += 1
    refused(folder_of(tmp_path, "gpt2", {"lm_head.weight": other}), "lm_head.weight differs .*tie_word_embeddings")
    frequencies = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(1, np.float32)}
    assert TinyGPT.from_pretrained(folder_of(tmp_path, tensors=frequencies)).config.kv_heads == 2


@pytest.mark.parametrize("about", [
    {"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    {"rope_scaling": {"type": "default"}}, {"head_dim": 2}, {"num_key_value_heads": 2, "mlp_bias": False}])
def test_config_as_other_versions_write_it(about, tmp_path):
    assert TinyGPT.from_pretrained(folder_of(tmp_path, about=about)).config == model_of("llama").config


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
@pytest.mark.parametrize(("family", "changes"), [
    ("gpt2", {"vocab_size": 9000, "heads": 4, "dim": 256, "hidden": 1024, "layers": 6}),
    ("gpt2", {"vocab_size": 50, "heads": 4, "dim": 512, "hidden": 6000, "layers": 2}),
    ("llama", {"vocab_size": 9000, "heads": 4, "dim": 256, "hidden": 800, "layers": 6}),
    ("llama", {"vocab_size": 9000, "heads": 4, "dim": 256, "hidden": 800, "layers": 2, "tied": False})])
def test_memory_stays_below_the_weights_and_twice_the_largest_tensor(family, changes, dtype, tmp_path):
    """Some tens of MB, of which the 64 MB that are allowed beside would hide all: here it is one."""
    model = TinyGPT(**{"context": 64} | FAMILIES[family][1] | changes)
    folder = hugging_face.write_folder(tmp_path / "folder", *FAMILIES[family][0](model), dtype)
    weights, largest = model.nbytes, max(p.nbytes for p in model.parameters())
    assert weights > 20e6
    del model
    with memory_below(weights + 2 * largest + 1e6):
        TinyGPT.from_pretrained(folder)


# ---- what is refused


@pytest.mark.parametrize(("family", "about", "message"), [
    ("llama", {"model_type": "mistral"}, "model_type of gpt2, llama, got 'mistral'"),
    ("llama", {"model_type": ["llama"]}, "model_type"), ("llama", {"hidden_act": "gelu"}, "hidden_act of 'gelu'"),
    ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_scaling: .*llama3"),
    ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling: .*linear"),
    ("llama", {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "rope_parameters: .*partial_rotary"),
    ("llama", {"rope_scaling": "default"}, "rope_scaling"), ("llama", {"rope_theta": "big"}, "theta.*'big'"),
    ("llama", {"rope_interleaved": True}, "rope_interleaved"), ("llama", {"attention_bias": True}, "attention_bias of"),
    ("llama", {"mlp_bias": 1}, "mlp_bias"), ("llama", {"head_dim": 4}, "head_dim of 4, expected 2"),
    ("llama", {"quantization_config": {"bits": 4}}, "quantization_config"), ("llama", {"rms_norm_eps": [1]}, "eps"),
    ("llama", {"hidden_size": None}, "hidden_size .*None"), ("llama", {"hidden_size": 10**400}, "hidden_size"),
    ("llama", {"num_hidden_layers": 10**9}, "1000000000 layers, the files have 20 tensors"),
    ("llama", {"num_hidden_layers": 1}, "left over layers.1"), ("llama", {"num_hidden_layers": 3}, "missing layers.2"),
    ("llama", {"vocab_size": 10**9}, r"embed_tokens.weight has shape \(11, 8\), expected \(1000000000, 8\)"),
    ("llama", {"num_attention_heads": 3}, "heads"), ("llama", {"num_attention_heads": 2**31 - 1}, "heads"),
    ("llama", {"num_key_value_heads": 4}, r"k_proj.weight has shape \(4, 8\), expected \(8, 8\)"),
    ("llama", {"tie_word_embeddings": False}, r"missing lm_head.weight \(11, 8\)"),
    ("llama", {"tie_word_embeddings": "yes"}, "tie_word_embeddings .*'yes'"),
    ("llama", {"vocab_size": True}, "vocab_size"), ("llama", {"vocab_size": 11.0}, "vocab_size"),
    ("gpt2", {"activation_function": "relu"}, "activation_function .*'relu'"), ("gpt2", {"n_inner": 9}, "c_fc.weight has"),
    ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights"), ("gpt2", {"add_cross_attention": True}, "add_cross"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "inverse_layer"), ("gpt2", {"n_positions": 7}, r"wpe.*\(7, 8\)"),
    ("gpt2", {"n_embd": 2**31 - 1, "n_inner": 1}, "heads"), ("gpt2", {"model_type": "llama"}, "hidden_size")])
def test_a_config_that_does_not_fit_is_refused_by_name(family, about, message, tmp_path):
    folder = folder_of(tmp_path, family, about=about)
    with memory_below(1e6):
        refused(folder, message)


NORM, WIDE = "model.norm.weight", np.ones((8, 9), np.float32)


@pytest.mark.parametrize(("tensors", "message"), [
    ({NORM: None}, r"missing norm.weight \(8,\)"), ({"model.lost": np.ones(2, np.float32)}, r"left over lost \(2,\)"),
    ({"model.layers.1.mlp.down_proj.weight": WIDE}, r"down_proj.weight has shape \(8, 9\), expected \(8, 6\)"),
    ({"norm.weight": np.ones(8, np.float32)}, r"norm.weight comes twice"),
    ({NORM: np.full(8, np.nan, np.float32)}, "norm.weight has values that are not finite"),
    ({NORM: np.full(8, np.inf, np.float32)}, "norm.weight has values that are not finite")])
def test_tensors_that_do_not_fit_are_refused_by_name(tensors, message, tmp_path):
    refused(folder_of(tmp_path, tensors=tensors), message)


@pytest.mark.parametrize("dtype", ["F64", "I32"])
def test_dtypes_that_are_no_weights_are_refused(dtype, tmp_path):
    folder = folder_of(tmp_path)
    held = {name: ("F32", a) for name, a in hugging_face.llama(model_of("llama"))[1].items()}
    hugging_face.write(folder / "model.safetensors", held | {NORM: (dtype, np.ones(8))})
    refused(folder, "norm.weight has dtype .*, expected F32, F16 or BF16")


def test_files_that_are_not_there(tmp_path):
    refused(tmp_path / "nowhere", "expected a folder")
    folder = folder_of(tmp_path)
    refused(folder / "config.json", "expected a folder")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(folder, "expected model.safetensors or model.safetensors.index.json, found neither")
    (folder / "config.json").unlink()
    refused(folder, "config.json: no such file")
    (folder / "config.json").write_text("[1]")
    refused(folder, "config.json: .*expected a JSON object, got a list")


@pytest.mark.parametrize(("change", "message"), [
    (lambda names: {**names, NORM: "../outside.safetensors"}, "weight_map"), (lambda names: [], "weight_map"),
    (lambda names: {**names, NORM: "/etc/model.safetensors"}, "weight_map"),
    (lambda names: {**names, NORM: 3}, "weight_map"),
    (lambda names: {**names, NORM: "other.safetensors"}, "other.safetensors: no such file"),
    (lambda names: {n: f for n, f in names.items() if "00002" not in f}, "missing")])
def test_an_index_that_does_not_fit(change, message, tmp_path):
    folder = hugging_face.write_folder(tmp_path / "folder", *hugging_face.llama(model_of("llama")), shards=3)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": change(json.loads(index.read_text())["weight_map"])}))
    refused(folder, message)


def test_a_file_that_changes_while_it_is_read(tmp_path):
    folder = folder_of(tmp_path)
    checkpoint, content = Checkpoint(folder), (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content.replace(b'"F32"', b'"I32"', 1))
    with pytest.raises(FileError, match="the file changed while it was read"):
        checkpoint.fill(model_of("llama"))


# ---- damage


def test_every_truncation_is_refused(tmp_path):
    folder = folder_of(tmp_path, layers=1)
    path = folder / "model.safetensors"
    content = path.read_bytes()
    for n in [*range(40), *np.random.default_rng(0).integers(40, len(content), 200).tolist(), len(content) - 1]:
        path.write_bytes(content[:n])
        refused(folder, "model.safetensors: ")
    path.write_bytes(content + b"0")
    refused(folder, "model.safetensors: .*1 bytes follow")


@pytest.mark.parametrize("which", ["config.json", "model.safetensors", "model.safetensors.index.json"])
def test_changed_bytes_are_refused_or_give_a_model(which, tmp_path):
    """Nothing says what weights should be; all else either does not fit or makes a model like any other, in its memory."""
    said, held = hugging_face.llama(model_of("llama", layers=1))
    folder = hugging_face.write_folder(tmp_path / "folder", said, held, shards=2 if "index" in which else 1)
    path, rng, refusals = folder / which, np.random.default_rng(5), 0
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little") if which == "model.safetensors" else len(content)
    for _ in range(400):
        damaged = bytearray(content)
        for at in rng.integers(0, end, rng.integers(1, 4)):
            damaged[at] = rng.choice([rng.integers(0, 256), *b'0129"{}[],:-.eE'])
        path.write_bytes(damaged)
        with warnings.catch_warnings(), memory_below(1e6):
            warnings.simplefilter("error")
            try:
                model = TinyGPT.from_pretrained(folder)
            except FileError as error:
                assert str(error).startswith(f"{folder}: ")
                refusals += 1
                continue
        with no_grad():
            ids = IDS[:, : min(6, model.context)] % model.config.vocab_size
            assert np.isfinite(model(ids).numpy()).all()
    assert refusals > 200
