"""TinyGPT on the command line: trained, resumed, written with, measured, and what users get wrong."""

from __future__ import annotations

import io
import json
import shutil
import sys

import hugging_face
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyml
from tinyml import cli, data, models
from tinyml.cli.text import Pieces
from tinyml.io import container

TEXT = "the quick brown fox jumps over the lazy dog.\n" * 40
SIZES = ["--context", "8", "--layers", "1", "--heads", "2", "--dim", "8", "--batch", "3"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a text, its ids in files, and models: of its characters, of ids, and no TinyGPT."""
    folder = tmp_path_factory.mktemp("gpt")
    (folder / "text.txt").write_text(TEXT)
    ids = data.CharTokenizer(TEXT).encode(TEXT)
    data.write_tokens(folder / "ids.npy", ids, 300)
    (folder / "ids.bin").write_bytes(ids.astype("<u4").tobytes())
    assert cli.main(["train", "gpt", "--data", str(folder / "text.txt"), *SIZES, "--steps", "20", "--sample", "0",
                     "-o", str(folder / "gpt")]) == 0
    models.TinyGPT(30, 8, 1, 2, 8).save(folder / "ids")
    models.MLP(3, 3).save(folder / "mlp")
    return folder


@pytest.fixture
def folder(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    capsys.readouterr()
    return trained


def run(*arguments):
    """The figures of a command that works."""
    assert cli.main([*arguments, "--json", "figures.json"]) == 0
    with open("figures.json") as file:
        return json.load(file)


# ---- train gpt


def test_training_prints_samples_and_keeps_the_characters(folder, capsys, tmp_path):
    figures = run("train", "gpt", "--data", "text.txt", *SIZES, "--steps", "10", "--evaluate", "4", "--accumulate", "2",
                  "--dropout", "0.1", "--sample", "12", "-o", str(tmp_path / "gpt"))
    row, = figures["history"]
    assert [e["updates"] for e in row["evaluations"]] == [4, 8, 10] and all("validation_loss" in e for e in
                                                                            row["evaluations"])
    model = tinyml.load(tmp_path / "gpt")
    assert model.config.characters == "".join(sorted(set(TEXT))) and model.config.dropout == 0.1
    assert (model.config.hidden, model.config.kv_heads) == (32, 2)
    out, err = capsys.readouterr()
    held_out = TEXT[int(len(TEXT) * 0.9) :]
    assert err.replace("\r", "\n").count(f"\n{held_out[:8]}") == 3 and "tokens/s=" in err and "update 8: train loss" in err
    assert f"wrote {tmp_path / 'gpt'}: " in out


def test_training_refuses_a_picture_before_it_trains(folder, capsys, tmp_path):
    assert cli.main(["train", "gpt", "--data", "text.txt", *SIZES, "-o", str(tmp_path / "gpt"), "--plot", "a.png"]) == 1
    assert "--plot: expected a file that ends in .svg" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_training_draws_losses(folder, tmp_path):
    run("train", "gpt", "--data", "text.txt", *SIZES, "--steps", "2", "-o", str(tmp_path / "gpt"), "--plot",
        str(tmp_path / "losses.svg"))
    assert (tmp_path / "losses.svg").read_text().startswith("<?xml")


def test_an_interrupted_training_continues_to_the_same_bytes(folder, monkeypatch, tmp_path):
    def train(name):
        return cli.main(["train", "gpt", "--data", "ids.npy", "--vocab-size", "30", *SIZES, "--steps", "12",
                         "--evaluate", "3", "--checkpoints", str(tmp_path / name), "-o", str(tmp_path / f"{name}.gpt")])

    assert train("straight") == 0
    whole, calls = tinyml.Trainer.evaluate, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(tinyml.Trainer, "evaluate", interrupted)
    assert train("stopped") == 130 and not (tmp_path / "stopped.gpt").exists()
    history = json.loads((tmp_path / "stopped" / "history.json").read_text())
    assert [e["updates"] for e in history[0]["evaluations"]] == [3, 6]
    assert train("stopped") == 0 and len(calls) == 5
    assert (tmp_path / "stopped.gpt").read_bytes() == (tmp_path / "straight.gpt").read_bytes()
    ends = [container.unpack(tmp_path / name / "checkpoint.safetensors")[1] for name in ("stopped", "straight")]
    assert {k: v.tobytes() for k, v in ends[0].items()} == {k: v.tobytes() for k, v in ends[1].items()}


@pytest.mark.parametrize(("source", "preset", "expected"), [
    (["ids.npy", "--vocab-size", "30"], [], {"vocab_size": 30, "hidden": 32, "characters": None}),
    (["ids.bin", "--dtype", "uint32", "--vocab-size", "30"], [], {"vocab_size": 30}),
    (["ids.npy"], ["gpt2"], {"vocab_size": 50257, "activation": "gelu_tanh", "hidden": 32}),
    (["text.txt"], ["smollm2-135m", "--heads", "3", "--dim", "12"],
     {"vocab_size": 29, "kv_heads": 3, "hidden": 1536, "norm": "rms", "characters": "".join(sorted(set(TEXT)))})])
def test_shapes_and_sources(folder, tmp_path, source, preset, expected):
    options = ["--preset", *preset] if preset else []
    run("train", "gpt", "--data", *source, *SIZES, *options, "--steps", "1", "-o", str(tmp_path / "gpt"))
    config = tinyml.load(tmp_path / "gpt").config.as_dict()
    assert {name: config[name] for name in expected} == expected


# ---- generate


class Watched(io.StringIO):
    """Standard output that notes what was flushed."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def flush(self):
        self.seen.append(self.getvalue())


def test_a_text_is_printed_as_it_comes(folder, monkeypatch, capsys):
    options = ["--prompt", "the q", "--tokens", "15", "--seed", "3"]
    plain = run("generate", "gpt", *options)
    out, err = capsys.readouterr()
    model, characters = tinyml.load(folder / "gpt"), data.CharTokenizer(TEXT)
    expected = characters.decode(model.generate(characters.encode("the q"), 15, 0.8, seed=3))
    assert plain["text"] == expected and out == expected + "\n"
    assert plain["tokens"] == 15 and plain["prompt_tokens"] == 5 and plain["tokens_per_second"] > 0
    assert "[5 characters of prompt, 15 new in " in err and "tokens per second]" in err
    monkeypatch.setattr(sys, "stdout", Watched())
    run("generate", "gpt", *options, "--stream")
    assert sys.stdout.getvalue() == out
    assert {expected[:n] for n in range(5, 21)} <= set(sys.stdout.seen)     # after each id


def test_options_of_sampling_and_precision_reach_the_model(folder, capsys):
    def text(*options):
        return run("generate", "gpt", "--prompt", "the", "--tokens", "12", "--seed", "1", *options)["text"]

    model, characters = tinyml.load(folder / "gpt"), data.CharTokenizer(TEXT)
    for options, form, keywords in [
            (["--temperature", "0"], model, {"temperature": 0}),
            (["--top-k", "3", "--temperature", "1.5"], model, {"temperature": 1.5, "top_k": 3}),
            (["--top-p", "0.5", "--repetition-penalty", "1.5"], model, {"top_p": 0.5, "repetition_penalty": 1.5}),
            (["--int8"], model.to_int8(), {}), (["--fp16"], model.to_fp16(), {}),
            (["--int8", "--group", "32"], model.to_int8(group=32), {}),
            (["--cache", "int8", "--full", "stop"], model, {"cache": "int8", "full": "stop"})]:
        expected = form.generate(characters.encode("the"), 12, seed=1, **{"temperature": 0.8} | keywords)
        assert text(*options) == characters.decode(expected), options
    expected = characters.decode(model.generate(characters.encode("the"), 12, 0.8, seed=1))
    last = expected[8]
    assert text("--stop", last) == expected[: expected.index(last, 3)]


def test_ids_do_where_there_are_no_characters(folder, capsys):
    figures = run("generate", "ids", "--ids", "1,2,3", "--tokens", "4", "--temperature", "0", "--stream")
    expected = [str(i) for i in tinyml.load(folder / "ids").generate([1, 2, 3], 4, 0)]
    assert capsys.readouterr().out == " ".join(expected) + "\n" and figures["text"].split() == expected
    stopped = run("generate", "ids", "--ids", "1,2,3", "--tokens", "4", "--temperature", "0", "--stop", expected[4])
    assert stopped["text"].split() == expected[: 3 + expected[3:].index(expected[4])]
    assert run("generate", "gpt", "--ids", "1,2", "--tokens", "0")["text"] == "".join(sorted(set(TEXT)))[1:3]


@pytest.mark.parametrize("stream", [["--stream"], []])
def test_an_interrupt_ends_the_line_and_counts_what_came(folder, monkeypatch, capsys, stream):
    def two(model, ids, *_, **__):
        yield from (np.array([5]), np.array([6]))
        raise KeyboardInterrupt

    monkeypatch.setattr(models.TinyGPT, "stream", two)
    assert cli.main(["generate", "gpt", "--prompt", "the", *stream]) == 130
    out, err = capsys.readouterr()
    assert out == "the" + "".join(sorted(set(TEXT)))[5:7] + "\n"
    assert "[3 characters of prompt, 2 new in " in err and err.endswith("\ntinyml generate: interrupted\n")


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1), begin=st.integers(1, 5))
def test_pieces_of_characters_wait_for_the_rest(text, begin):
    def decode(ids):
        return bytes(ids.tolist()).decode("utf-8", "replace")

    prompt = np.frombuffer(text[:begin].encode(), np.uint8)
    pieces = Pieces(decode, prompt)
    parts = [pieces.add(byte) for byte in text[begin:].encode()] + [pieces.rest()]
    assert text[:begin] + "".join(parts) == text
    if "\ufffd" not in text:
        assert [len(part) <= 1 for part in parts] == [True] * len(parts) and parts[-1] == ""


# ---- perplexity


def test_perplexity_of_texts_and_token_files(folder, capsys):
    model, ids = tinyml.load(folder / "gpt"), data.CharTokenizer(TEXT).encode(TEXT)
    expected = models.perplexity(model, ids)
    for source in (["text.txt"], ["ids.npy"], ["ids.bin", "--dtype", "uint32"]):
        found = run("perplexity", "gpt", "--data", *source)
        assert {k: found[k] for k in expected} == expected and found["unit"] == "character"
    out, err = capsys.readouterr()
    loss, perplexity, bits = (expected[k] for k in ("loss", "perplexity", "bits"))
    assert f"loss {loss:.4f}, perplexity {perplexity:.3f}, {bits:.4f} bits per character" in out
    assert f"over {len(TEXT) - 1:,}" in out and "100%" in err
    last = ids[int(len(ids) * 0.9) :]
    for source in ("text.txt", "ids.npy"):
        found = run("perplexity", "gpt", "--data", source, "--last", "0.1")
        assert found["loss"] == models.perplexity(model, last)["loss"]
    for options, form in ((["--int8"], model.to_int8()), (["--fp16"], model.to_fp16()),
                          (["--int8", "--group", "32"], model.to_int8(group=32))):
        found = run("perplexity", "gpt", "--data", "text.txt", "--context", "4", *options)
        assert found["loss"] == models.perplexity(form, ids, 4)["loss"] and found["bytes"] == form.nbytes
    found = run("perplexity", "gpt", "--data", "text.txt", "--cache", "int8")
    assert found["loss"] == models.perplexity(model, ids, cache="int8")["loss"] != expected["loss"]
    assert run("perplexity", "ids", "--data", "ids.npy")["unit"] == "id"


# ---- Hugging Face folders


@pytest.fixture
def smol(tmp_path):
    """A folder of the Llama family, without a tokenizer."""
    model = models.TinyGPT(257, 32, 1, 2, 8, kv_heads=1, norm="rms", positions="rotary", activation="swiglu", bias=False)
    return hugging_face.write_folder(tmp_path / "smol", *hugging_face.llama(model))


def write_tokenizer(path):
    """Give the folder a tokenizer that has a token for each byte, and return it."""
    tokenizers = pytest.importorskip("tokenizers", reason="reads with the tokenizers library: pip install '.[text]'")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    bpe.add_special_tokens(["<|end|>"])
    bpe.save(str(path / "tokenizer.json"))
    return bpe


@pytest.mark.parity
def test_a_hugging_face_folder_brings_its_tokenizer(smol, monkeypatch, capsys):
    path, bpe, text = smol, write_tokenizer(smol), "né 日本"
    monkeypatch.chdir(path.parent)
    written = [int(i) for i in bpe.encode(" 語, ♞").ids]

    def stream(model, ids, tokens, *_, **__):
        assert ids.tolist() == bpe.encode(text).ids and tokens == 40
        yield from (np.array([i]) for i in [*written, 256])

    with monkeypatch.context() as patch:
        patch.setattr(models.TinyGPT, "stream", stream)
        figures = run("generate", "smol", "--prompt", text, "--stream", "--tokens", "40", "--stop", "<|end|>")
    assert figures["text"] == text + " 語, ♞" and capsys.readouterr().out == figures["text"] + "\n"
    (path.parent / "text.txt").write_text(text * 9, encoding="utf-8")
    found = run("perplexity", "smol", "--data", "text.txt")
    assert found["unit"] == "token" and found["count"] == len(bpe.encode(text * 9).ids) - 1
    expected = models.perplexity(models.TinyGPT.from_pretrained(path), bpe.encode(text * 9).ids)["loss"]
    assert found["loss"] == expected


@pytest.mark.parity
def test_a_damaged_tokenizer_is_an_error(smol, capsys):
    pytest.importorskip("tokenizers", reason="reads with the tokenizers library: pip install '.[text]'")
    (smol / "tokenizer.json").write_text("{}")
    assert cli.main(["generate", str(smol), "--prompt", "a"]) == 1
    assert "tokenizer.json: not a tokenizer: " in capsys.readouterr().err


def test_a_missing_library_or_tokenizer_is_an_error(smol, monkeypatch, capsys):
    path, command = smol, ["generate", str(smol), "--prompt", "a", "--tokens", "1"]
    (path / "tokenizer.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert cli.main(command) == 1 and "pip install '.[text]'" in capsys.readouterr().err
    (path / "tokenizer.json").unlink()
    assert cli.main(command) == 1 and "has neither tokenizer.json nor characters" in capsys.readouterr().err
    assert cli.main(["generate", str(path), "--ids", "1,2", "--tokens", "1"]) == 0
    shutil.rmtree(path)
    assert cli.main(command) == 1 and "no such file" in capsys.readouterr().err


# ---- what users get wrong


@pytest.mark.parametrize(("arguments", "says"), [
    (["generate", "gpt", "--prompt", ""], "expected a prompt of 1 to 8 ids, the model's context, got 0"),
    (["generate", "gpt", "--prompt", "the quick"], "expected a prompt of 1 to 8 ids, the model's context, got 9"),
    (["generate", "gpt", "--prompt", "the?T!"], "got '?' at position 3, 'T' at position 4, '!' at position 5"),
    (["generate", "gpt", "--ids", "1,29"], "expected ids from 0 to 28, got 1 to 29"),
    (["generate", "gpt", "--ids", "-1"], "got -1 to -1"),
    (["generate", "gpt", "--prompt", "the", "--top-p", "0"], "top_p to be a number above 0 and of at most 1, got 0.0"),
    (["generate", "gpt", "--prompt", "the", "--tokens", "-1"], "--tokens: expected at least 0, got -1"),
    (["generate", "gpt", "--prompt", "the", "--stop", "ab"], "--stop: expected one character, got 'ab', which is 2"),
    (["generate", "gpt", "--prompt", "the", "--stop", "X"], "got 'X' at position 0"),
    (["generate", "gpt", "--prompt", "the", "--group", "32"], "--group needs --int8"),
    (["generate", "ids", "--prompt", "the"], "ids: has neither tokenizer.json nor characters"),
    (["generate", "mlp", "--prompt", "the"], "mlp: expected a TinyGPT, got a MLP"),
    (["generate", "text.txt", "--prompt", "the"], "text.txt: "),
    (["generate", "none", "--prompt", "the"], "none: no such file"),
    (["perplexity", "gpt", "--data", "none.txt"], "none.txt: "),
    (["perplexity", "ids", "--data", "text.txt"], "text cannot become ids"),
    (["perplexity", "gpt", "--data", "text.txt", "--last", "0"], "--last: expected a share above 0"),
    (["perplexity", "gpt", "--data", "text.txt", "--last", "0.0001"], "at least two integers"),
    (["perplexity", "gpt", "--data", "text.txt", "--context", "9"], "context to be a whole number from 1 to 8, got 9"),
    (["train", "gpt", "--data", "ids.npy", "-o", "x"], "ids.npy: the file does not say how many token ids there are"),
    (["train", "gpt", "--data", "text.txt", "-o", "x", "--vocab-size", "9"], "--vocab-size is for files of token ids"),
    (["train", "gpt", "--data", "text.txt", "-o", "no/x"], "no/x: expected a path in a folder that exists"),
    (["train", "gpt", "--data", "text.txt", "-o", "x", "--plot", "x.gif"], "ends in .svg, "),
    (["train", "gpt", "--data", "text.txt", "-o", "x", "--context", "5000"], "L > 5000, the context"),
    (["train", "gpt", "--data", "text.txt", "-o", "x", "--heads", "3"], "heads must divide dim"),
    (["train", "gpt", "--data", "text.txt", "-o", "x", "--steps", "0"], "total_steps"),
    (["train", "gpt", "--data", "text.txt", "-o", "x", "--evaluate", "0"], "evaluate_every"),
    (["train", "gpt", "--data", "ids.npy", "-o", "x", *SIZES, "--vocab-size", "9", "--steps", "2"], "embedding"),
])
def test_mistakes_are_one_line(folder, capsys, arguments, says):
    assert cli.main(arguments) == 1
    err = capsys.readouterr().err
    assert says in err and err.rstrip("\n").splitlines()[-1].startswith("tinyml "), err
    assert not (folder / "x").exists()


@pytest.mark.parametrize("arguments", [
    ["generate", "gpt"], ["generate", "gpt", "--prompt", "a", "--ids", "1"], ["generate", "gpt", "--ids", "1,a"],
    ["generate", "gpt", "--ids", "9" * 30], ["generate", "gpt", "--prompt", "a", "--int8", "--fp16"],
    ["train", "gpt", "-o", "x"], ["perplexity", "gpt"], ["perplexity", "gpt", "--data", "text.txt", "--group", "16"]])
def test_mistakes_of_options_are_one_line(folder, capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1
