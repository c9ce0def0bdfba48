"""Families of models in Hugging Face folders: what config.json says in TinyGPT's words, and where each tensor goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...errors import FileError
from .config import TinyGPTConfig

GELU = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}


@dataclass(frozen=True)
class Place:
    """A tensor of a checkpoint: its shape there, and the parameter whose rows from `first` on it is.

    transposed: it is (in, out), as GPT-2's; optional: it may be missing.
    """

    shape: tuple[int, ...]
    parameter: str
    first: int = 0
    transposed: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Family:
    """prefix: what names of tensors may begin with; ignored: a pattern of the names of constants, which are no weights."""

    config: Callable[[dict[str, Any]], TinyGPTConfig]
    places: Callable[[TinyGPTConfig], dict[str, Place]]
    prefix: str
    ignored: str


def gpt2_config(about: dict[str, Any]) -> TinyGPTConfig:
    """GPT-2's config.json."""
    expect(about, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False)
    dim, activation = whole(about, "n_embd"), about.get("activation_function", "gelu_new")
    if not isinstance(activation, str) or activation not in GELU:
        raise FileError(f"config.json: expected an activation_function of {', '.join(GELU)}, got {activation!r:.80}")
    return TinyGPTConfig(
        vocab_size=whole(about, "vocab_size"), context=whole(about, "n_positions"), layers=whole(about, "n_layer"),
        heads=whole(about, "n_head"), dim=dim, hidden=whole(about, "n_inner", 4 * dim),
        tied=flag(about, "tie_word_embeddings", True), eps=about.get("layer_norm_epsilon", 1e-5),
        activation=GELU[activation])


def gpt2_places(c: TinyGPTConfig) -> dict[str, Place]:
    """GPT-2's tensors; its layers are "Conv1D", whose weights are (in, out)."""
    found = {"wte.weight": Place((c.vocab_size, c.dim), "tokens.weight"),
             "wpe.weight": Place((c.context, c.dim), "positions.weight"), "lm_head.weight": head(c)}

    def add(name: str, parameter: str, n: int, k: int | None = None) -> None:
        found[f"{name}.weight"] = Place((n,) if k is None else (k, n), f"{parameter}.weight", transposed=k is not None)
        found[f"{name}.bias"] = Place((n,), f"{parameter}.bias")

    for i in range(c.layers):
        theirs, ours = f"h.{i}", f"blocks.{i}"
        add(f"{theirs}.ln_1", f"{ours}.norm1", c.dim)
        add(f"{theirs}.attn.c_attn", f"{ours}.attention.qkv", 3 * c.dim, c.dim)
        add(f"{theirs}.attn.c_proj", f"{ours}.attention.proj", c.dim, c.dim)
        add(f"{theirs}.ln_2", f"{ours}.norm2", c.dim)
        add(f"{theirs}.mlp.c_fc", f"{ours}.up", c.hidden, c.dim)
        add(f"{theirs}.mlp.c_proj", f"{ours}.down", c.dim, c.hidden)
    add("ln_f", "norm", c.dim)
    return found


def llama_config(about: dict[str, Any]) -> TinyGPTConfig:
    """The Llama family's config.json; SmolLM2's is one."""
    expect(about, hidden_act="silu", attention_bias=False, mlp_bias=False, rope_interleaved=False)
    dim, heads = whole(about, "hidden_size"), whole(about, "num_attention_heads")
    expect(about, head_dim=dim // heads)
    return TinyGPTConfig(
        vocab_size=whole(about, "vocab_size"), context=whole(about, "max_position_embeddings"),
        layers=whole(about, "num_hidden_layers"), heads=heads, dim=dim, tied=flag(about, "tie_word_embeddings", False),
        kv_heads=whole(about, "num_key_value_heads", heads), hidden=whole(about, "intermediate_size"), norm="rms",
        eps=about.get("rms_norm_eps", 1e-6), positions="rotary", theta=theta(about), activation="swiglu", bias=False)


def llama_places(c: TinyGPTConfig) -> dict[str, Place]:
    """The Llama family's tensors; queries, keys and values are rows of one weight here."""
    kv, found = c.kv_heads * (c.dim // c.heads), {"embed_tokens.weight": Place((c.vocab_size, c.dim), "tokens.weight"),
                                                  "norm.weight": Place((c.dim,), "norm.weight"), "lm_head.weight": head(c)}
    for i in range(c.layers):
        qkv = f"blocks.{i}.attention.qkv.weight"
        for name, place in {
                "input_layernorm": Place((c.dim,), f"blocks.{i}.norm1.weight"),
                "self_attn.q_proj": Place((c.dim, c.dim), qkv),
                "self_attn.k_proj": Place((kv, c.dim), qkv, c.dim),
                "self_attn.v_proj": Place((kv, c.dim), qkv, c.dim + kv),
                "self_attn.o_proj": Place((c.dim, c.dim), f"blocks.{i}.attention.proj.weight"),
                "post_attention_layernorm": Place((c.dim,), f"blocks.{i}.norm2.weight"),
                "mlp.gate_proj": Place((c.hidden, c.dim), f"blocks.{i}.gate.weight"),
                "mlp.up_proj": Place((c.hidden, c.dim), f"blocks.{i}.up.weight"),
                "mlp.down_proj": Place((c.dim, c.hidden), f"blocks.{i}.down.weight")}.items():
            found[f"layers.{i}.{name}.weight"] = place
    return found


def head(c: TinyGPTConfig) -> Place:
    """The output projection; where it is tied a file may have it a second time."""
    return Place((c.vocab_size, c.dim), "head.weight", optional=c.tied)


def theta(about: dict[str, Any]) -> float:
    """Base of the rotary angles; newer files have it in rope_parameters."""
    found = about.get("rope_theta", 10000.0)
    for key in ("rope_scaling", "rope_parameters"):
        rope = {} if about.get(key) is None else about[key]
        if not isinstance(rope, dict) or rope.get("rope_type", rope.get("type", "default")) != "default" or (
                not rope.keys() <= {"rope_type", "type", "rope_theta"}):
            raise FileError(f"config.json: {key}: TinyGPT does not scale rotary positions; expected rope_type 'default' "
                            f"and rope_theta, got {rope!r:.200}")
        found = rope.get("rope_theta", found)
    return found        # type: ignore[no-any-return]   # TinyGPTConfig checks that it is a number


def expect(about: dict[str, Any], **values: Any) -> None:
    """Raise FileError unless config.json has these values, or none."""
    for key, value in {**values, "quantization_config": None}.items():
        got = about.get(key)
        if got is not None and (type(got) is not type(value) or got != value):
            raise FileError(f"config.json: TinyGPT has no {key} of {got!r:.80}, expected {value!r}")


def whole(about: dict[str, Any], key: str, default: int | None = None) -> int:
    """A whole number of at least 1."""
    value = about.get(key)
    value = default if value is None else value
    if type(value) is not int or not 0 < value < 2**31:
        raise FileError(f"config.json: expected {key} to be a whole number from 1 to 2^31 - 1, got {value!r:.80}")
    return value


def flag(about: dict[str, Any], key: str, default: bool) -> bool:
    """True or false."""
    value = about.get(key)
    value = default if value is None else value
    if type(value) is not bool:
        raise FileError(f"config.json: expected {key} to be true or false, got {value!r:.80}")
    return value


# the ignored are the causal mask of old GPT-2 files, and angles that follow from the config
FAMILIES = {
    "gpt2": Family(gpt2_config, gpt2_places, "transformer.", r"h\.\d+\.attn\.(bias|masked_bias)"),
    "llama": Family(llama_config, llama_places, "model.", r"(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")}
