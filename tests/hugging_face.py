"""Folders as the transformers library writes them, made from a TinyGPT by other means than those that read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tinyml.models import TinyGPT


def stored_as(dtype: str, a: np.ndarray) -> bytes:
    """float32 in the bytes of F32, F16 or BF16 (rounded toward zero)."""
    if dtype == "BF16":
        return np.ascontiguousarray(a).view("<u4").__rshift__(16).astype("<u2").tobytes()
    return a.astype({"F32": "<f4", "F16": "<f2", "F64": "<f8", "I32": "<i4"}[dtype]).tobytes()


def rounded(dtype: str, a: np.ndarray) -> np.ndarray:
    """The float32 values that come back after they were stored in a dtype."""
    if dtype == "BF16":
        return (np.ascontiguousarray(a).view("<u4") & 0xFFFF0000).astype("<u4").view("<f4")
    return a.astype(np.float16).astype(np.float32) if dtype == "F16" else a


def write(path: Path, tensors: dict[str, tuple[str, np.ndarray]]) -> None:
    """A safetensors file of arrays by name, each with its dtype there."""
    header, content = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, a) in tensors.items():
        data = stored_as(dtype, a)
        header[name] = {"dtype": dtype, "shape": list(a.shape), "data_offsets": [len(content), len(content) + len(data)]}
        content += data
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)


def gpt2(model: TinyGPT) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """config.json and tensors of GPT2LMHeadModel."""
    c, ours = model.config, model.state_dict()
    names = {"tokens": "wte", "positions": "wpe", "norm": "ln_f"}
    for i in range(c.layers):
        names |= {f"blocks.{i}.{a}": f"h.{i}.{b}" for a, b in {
            "norm1": "ln_1", "norm2": "ln_2", "attention.qkv": "attn.c_attn", "attention.proj": "attn.c_proj",
            "up": "mlp.c_fc", "down": "mlp.c_proj"}.items()}
    tensors = {}
    for name, a in ours.items():
        layer, _, kind = name.rpartition(".")
        if layer in names:
            conv1d = kind == "weight" and layer.startswith("blocks") and "norm" not in layer
            tensors[f"transformer.{names[layer]}.{kind}"] = np.ascontiguousarray(a.T) if conv1d else a
    if not c.tied:
        tensors["lm_head.weight"] = ours["head.weight"]
    about = {"model_type": "gpt2", "vocab_size": c.vocab_size, "n_positions": c.context, "n_embd": c.dim,
             "n_layer": c.layers, "n_head": c.heads, "n_inner": c.hidden, "activation_function": "gelu_new",
             "layer_norm_epsilon": c.eps, "tie_word_embeddings": c.tied, "scale_attn_weights": True,
             "architectures": ["GPT2LMHeadModel"]}
    return about, tensors


def llama(model: TinyGPT) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """config.json and tensors of LlamaForCausalLM."""
    c, ours = model.config, model.state_dict()
    tensors, kv = {"model.embed_tokens.weight": ours["tokens.weight"]}, c.kv_heads * c.dim // c.heads
    for i in range(c.layers):
        theirs, block = f"model.layers.{i}", f"blocks.{i}"
        qkv = np.split(ours[f"{block}.attention.qkv.weight"], [c.dim, c.dim + kv])
        tensors |= {f"{theirs}.self_attn.{p}_proj.weight": a for p, a in zip("qkv", qkv, strict=True)}
        tensors |= {f"{theirs}.{b}.weight": ours[f"{block}.{a}.weight"] for a, b in {
            "attention.proj": "self_attn.o_proj", "norm1": "input_layernorm", "norm2": "post_attention_layernorm",
            "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"}.items()}
    tensors["model.norm.weight"] = ours["norm.weight"]
    if not c.tied:
        tensors["lm_head.weight"] = ours["head.weight"]
    about = {"model_type": "llama", "vocab_size": c.vocab_size, "max_position_embeddings": c.context, "hidden_size": c.dim,
             "num_hidden_layers": c.layers, "num_attention_heads": c.heads, "num_key_value_heads": c.kv_heads,
             "intermediate_size": c.hidden, "rms_norm_eps": c.eps, "rope_theta": c.theta, "rope_scaling": None,
             "hidden_act": "silu", "attention_bias": False, "tie_word_embeddings": c.tied, "torch_dtype": "bfloat16"}
    return about, tensors


def write_folder(folder: Path, about: dict[str, Any], tensors: dict[str, np.ndarray], dtype: str = "F32",
                 shards: int = 1) -> Path:
    """The folder, its tensors in one file or in several with an index."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(about))
    held = {name: (dtype, a) for name, a in tensors.items()}
    if shards == 1:
        write(folder / "model.safetensors", held)
        return folder
    where = {name: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, name in enumerate(held)}
    for file in sorted(set(where.values())):
        write(folder / file, {name: held[name] for name in held if where[name] == file})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder
