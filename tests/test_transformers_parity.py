"""Folders that the transformers library writes give its logits, and its greedy tokens."""

from __future__ import annotations

import numpy as np
import pytest

from tinyml.models import TinyGPT
from tinyml.tape import no_grad

pytestmark = pytest.mark.parity

SIZES = {
    "gpt2": {"vocab_size": 97, "n_positions": 64, "n_embd": 48, "n_layer": 3, "n_head": 4, "bos_token_id": None,
             "eos_token_id": None},
    "llama": {"vocab_size": 97, "max_position_embeddings": 64, "hidden_size": 48, "intermediate_size": 80,
              "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2, "bos_token_id": None,
              "eos_token_id": None, "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}},
}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("dtype", "shards"), [("float32", False), ("float16", True), ("bfloat16", True)])
@pytest.mark.parametrize("family", SIZES)
def test_logits_and_greedy_tokens_are_those_of_transformers(family, dtype, shards, tied, tmp_path):
    torch = pytest.importorskip("torch", reason="compares live with PyTorch: pip install '.[parity]'")
    transformers = pytest.importorskip("transformers", reason="compares live with transformers: pip install '.[parity]'")
    config = transformers.AutoConfig.for_model(family, tie_word_embeddings=tied, **SIZES[family])
    torch.manual_seed(0)
    theirs = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for p in theirs.parameters():       # biases begin at 0, norms at 1: mistaken for one another they would not show
            p += 0.1 * torch.randn(p.shape)
    theirs.to(getattr(torch, dtype)).save_pretrained(tmp_path, max_shard_size="50KB" if shards else "1GB")
    assert (tmp_path / "model.safetensors.index.json").exists() == shards

    ours = TinyGPT.from_pretrained(tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = np.random.default_rng(1).integers(0, 97, (3, 64))
    with no_grad(), torch.no_grad():
        expected = theirs(torch.from_numpy(ids)).logits.numpy()
        assert np.abs(expected).max() > 1
        assert np.abs(ours(ids).numpy() - expected).max() < 1e-4
        prompt = ids[:, :10]
        tokens = theirs.generate(torch.from_numpy(prompt), attention_mask=torch.ones(3, 10), do_sample=False,
                                 max_new_tokens=50, pad_token_id=0)
    np.testing.assert_array_equal(ours.generate(prompt, 50, temperature=0), tokens.numpy())
