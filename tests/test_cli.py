"""The command line, the demos and the examples, run as users run them but on next to no data."""

from __future__ import annotations

import functools
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinyml
from tinyml import cli, data, demo, models, precision
from tinyml.cli.commands import COMMANDS
from tinyml.errors import FileError

EXAMPLES = Path(__file__).parent.parent / "examples"


def run_python(*arguments: str) -> subprocess.CompletedProcess:
    """Another Python that imports what this one imports."""
    paths = os.pathsep.join(p or os.getcwd() for p in sys.path)
    return subprocess.run([sys.executable, *arguments], env={**os.environ, "PYTHONPATH": paths}, capture_output=True,
                          text=True, timeout=300, check=False)


@pytest.fixture
def untimed(monkeypatch):
    """compare() without its second of timing."""
    quick = functools.partial(precision.compare, seconds=0)
    monkeypatch.setattr(precision, "compare", quick)
    monkeypatch.setattr(demo, "compare", quick)


def check_figures(figures: dict) -> None:
    """What every run reports, in ranges that a model of any quality falls in."""
    for side in (figures["a"], figures["b"]):
        assert 0 <= side["accuracy"] <= 1 and 0 < side["loss"] < 20 and side["latency_ms"] > 0
        assert side["memory_bytes"] > 0 and side["file_bytes"] > 0
    assert figures["b"]["file_bytes"] < figures["a"]["file_bytes"]
    assert 0 < figures["agreement"] <= 1


# ---- the command line


def test_config(tmp_path):
    done = run_python("-m", "tinyml", "config", "--json", str(tmp_path / "config.json"))
    assert done.returncode == 0 and done.stderr == ""
    expected = tinyml.config()
    assert json.loads((tmp_path / "config.json").read_text()) == expected
    assert expected["isa"] in done.stdout and f"{expected['threads']} threads" in done.stdout


def test_help_and_bad_arguments(capsys):
    done = run_python("-m", "tinyml", "--help")
    assert done.returncode == 0 and all(c.name in done.stdout and c.help in done.stdout for c in COMMANDS)
    for arguments in (["--help"], *([c.name, "--help"] for c in COMMANDS)):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        out, err = capsys.readouterr()
        assert stop.value.code == 0 and not err and "usage: tinyml" in out
        assert arguments == ["--help"] or f"example: tinyml {arguments[0]}" in out
    wrong = [], ["train"], ["demo", "--model", "rnn"], ["config", "--model", "cnn"], ["demo", "--json"], ["nothing"]
    for arguments in wrong:
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        out, err = capsys.readouterr()
        assert stop.value.code == 2 and not out and err.startswith("tinyml") and err.count("\n") == 1


def test_errors_are_one_line_and_exit_1(monkeypatch, capsys, tmp_path):
    def broken():       # runs only where the figures can be written
        raise FileError("images.gz: damaged")

    monkeypatch.setattr(demo, "cnn", broken)
    assert cli.main(["demo"]) == 1
    assert capsys.readouterr().err == "tinyml demo: images.gz: damaged\n"
    assert cli.main(["config", "--json", str(tmp_path / "missing" / "config.json")]) == 1
    assert capsys.readouterr().err.startswith("tinyml config: ")


# ---- the demos


def test_demo_of_the_cnn(monkeypatch, untimed, capsys, tmp_path):
    images, labels = data.fashion_mnist_small("test")[np.arange(300)]
    monkeypatch.setattr(data, "fashion_mnist_small", lambda split: data.ArrayDataset(images, labels))
    settings = {**demo.CNN, "epochs": 1, "width": 4, "batch": 32, "calibration": 96}
    monkeypatch.setattr(demo, "cnn", functools.partial(demo.cnn, settings))
    assert cli.main(["demo", "--json", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    check_figures(figures)
    assert figures["settings"] == settings and figures["samples"] == 300 and figures["agreement"] > 0.8
    out = capsys.readouterr().out
    assert "width 4" in out and f"{figures['b']['accuracy']:.2%}" in out and "to_int8(calibration=96" in out


def test_demo_of_the_gpt(monkeypatch, untimed, capsys, tmp_path):
    text = data.bible()[:6000]
    monkeypatch.setattr(data, "bible", lambda: text)
    # one step more than the warm-up, which has 100
    settings = {**demo.GPT, "steps": 3, "batch": 2, "layers": 1, "heads": 2, "dim": 8, "context": 16}
    monkeypatch.setattr(demo, "gpt", functools.partial(demo.gpt, settings))
    assert cli.main(["demo", "--model", "gpt", "--json", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    check_figures(figures)
    assert figures["model"] == "gpt" and figures["sample"].startswith("And God said") and len(figures["sample"]) == 212
    assert figures["sample"] in capsys.readouterr().out


# ---- the examples


def run_example(monkeypatch, name: str, **options: object) -> None:
    """examples/<name>.py as a program; an option given a tuple has several values, True has none."""
    arguments = []
    for option, value in options.items():
        values = value if isinstance(value, tuple) else () if value is True else (value,)
        arguments += [f"--{option.replace('_', '-')}", *map(str, values)]
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


def test_add_an_op():
    done = run_python(str(EXAMPLES / "add_an_op.py"))
    assert done.returncode == 0, done.stderr
    assert "gradient of softplus: right for all 2 samples" in done.stdout
    assert "linear, softplus, clip, linear; of a batch of 100,000 samples" in done.stdout
    assert "quantize, product, softplus, product, dequantize; of a batch of 100,000 samples" in done.stdout
    assert "ops that the second call of the compiled model runs by themselves: 0" in done.stdout
    assert re.search(r"^softplus +forward +1 +[\d.]+ +[\d.]+% +[\d.]+ +[\d.]+ +[\d.]+ +\d+%$", done.stdout, re.MULTILINE)
    assert re.search(r"^\(no layer\) +softplus +int8 .*x$", done.stdout, re.MULTILINE)     # as fast as float32
    accuracy = next(line.split()[1:3] for line in done.stdout.splitlines() if line.startswith("accuracy"))
    assert all(float(a.rstrip("%")) > 95 for a in accuracy)


@pytest.mark.parametrize(("model", "mode"), [("CifarCNN", "roll"), ("ResNet8", "zero")])
def test_train_cnn(monkeypatch, untimed, capsys, tmp_path, model, mode):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (120, 8, 8, 3), np.uint8), rng.integers(0, 10, 120)
    np.savez(tmp_path / "images.npz", x_train=x[:80], y_train=y[:80], x_test=x[80:], y_test=y[80:])
    run_example(monkeypatch, "train_cnn", data=tmp_path / "images.npz", model=model, mode=mode, width=4, epochs=2,
                batch=16, shift=1, calibration=48, seeds=(3, 4), validate=True, checkpoints=tmp_path / "kept",
                save=tmp_path / "int8", plot=tmp_path / "losses", json=tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["arguments"]["width"] == 4 and [r["seed"] for r in figures["runs"]] == [3, 4]
    for run in figures["runs"]:
        check_figures(run)
        assert run["samples"] == 40
        assert tinyml.load(tmp_path / f"int8-seed{run['seed']}.safetensors").islands == []
    float32, int8 = (np.mean([run[side]["accuracy"] for run in figures["runs"]]) for side in "ab")
    assert f"mean of 2 seeds: float32 {float32:.2%}, int8 {int8:.2%}" in capsys.readouterr().out
    for seed in (3, 4):
        assert "validation accuracy" in (tmp_path / f"losses-seed{seed}.svg").read_text()
        assert {"best.safetensors", "checkpoint.safetensors"} <= set(os.listdir(tmp_path / "kept" / f"seed{seed}"))


def test_quantize_cnn(monkeypatch, untimed, capsys, tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (120, 8, 8, 3), np.uint8), rng.integers(0, 10, 120)
    np.savez(tmp_path / "images.npz", x_train=x[:80], y_train=y[:80], x_test=x[80:], y_test=y[80:])
    monkeypatch.syspath_prepend(str(EXAMPLES))
    run_example(monkeypatch, "quantize_cnn", data=tmp_path / "images.npz", width=4, train_epochs=1, calibration=70,
                json=tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text())
    lines = capsys.readouterr().out.splitlines()
    for name, run in figures.items():
        if name != "float32, trained on":
            check_figures(run)
        line, = (text for text in lines if text.startswith(f"{name}  ") and "..." not in text)
        assert f"{run['b']['accuracy']:.2%}" in line and f"{run['b']['file_bytes']:,}" in line
    assert {"static, minmax", "static, entropy", "dynamic", "float16", "QAT, against that"} <= set(figures)


def test_train_tinygpt(monkeypatch, untimed, capsys, tmp_path):
    text = "the quick brown fox jumps over the lazy dog. " * 30
    (tmp_path / "text.txt").write_text(text)
    run_example(monkeypatch, "train_tinygpt", data=tmp_path / "text.txt", layers=1, heads=2, dim=16, context=16,
                batch=4, steps=3, warmup=1, seed=7, save=tmp_path / "int8.safetensors", json=tmp_path / "figures.json",
                evaluate=2, checkpoints=tmp_path / "kept")
    figures = json.loads((tmp_path / "figures.json").read_text())
    check_figures(figures)
    assert figures["arguments"]["seed"] == 7
    split = int(0.9 * len(text))
    out, err = capsys.readouterr()
    assert text[split : split + 16] in out and f"perplexity {np.exp(figures['b']['loss']):.1f}" in out
    assert err.count(text[split : split + 16]) == 2 and (tmp_path / "kept" / "history.json").exists()
    assert cli.main(["generate", str(tmp_path / "int8.safetensors"), "--prompt", "the", "--tokens", "5"]) == 0
    ids = data.CharTokenizer(text).encode(text[:16])
    assert tinyml.load(tmp_path / "int8.safetensors")(ids[None]).shape == (1, 16, len(set(text)))


def test_quantize_gpt(monkeypatch, capsys, tmp_path):
    """Trained by itself; and on a given model, whose loss through the cache is that of whole windows."""
    text = "the quick brown fox jumps over the lazy dog. " * 30
    (tmp_path / "text.txt").write_text(text)
    tokenizer = data.CharTokenizer(text)
    model = models.TinyGPT(tokenizer.vocab_size, 16, 1, 2, 16)
    model.save(tmp_path / "model.safetensors")
    found = []
    for more in ({}, {"model": tmp_path / "model.safetensors"}):
        run_example(monkeypatch, "quantize_gpt", data=tmp_path / "text.txt", quick=True, json=tmp_path / "f.json", **more)
        rows, out = json.loads((tmp_path / "f.json").read_text()), capsys.readouterr().out
        for row in rows:
            line, = (x for x in out.splitlines() if x.startswith(f"{row['form']:30}  "))
            assert f"{row['file_bytes']:,} " in line and f"{row['loss']:.4f}" in line and row["tokens_per_second"] > 0
            assert row["file_bytes"] <= rows[0]["file_bytes"] and row["cache_bytes"] <= rows[0]["cache_bytes"]
            assert row["sample"] in out and set(row["sample"]) <= set(text)
        found.append({row["form"]: row for row in rows})
    split = int(0.9 * len(text))
    windows = data.TextDataset(tokenizer.encode(text[split:])[: 8 * 16 + 1], 16)
    logits, targets = model.eval()(windows[range(len(windows))][0]), windows[range(len(windows))][1]
    assert found[1]["float32"]["loss"] == pytest.approx(models.next_token_loss(logits, targets).item(), abs=1e-5)
    assert all(abs(row["loss"] - rows[0]["loss"]) < 0.02 for rows in [list(f.values()) for f in found] for row in rows)


def test_diagnose_cnn(monkeypatch, capsys, tmp_path):
    whole = data.fashion_mnist_small
    monkeypatch.setitem(data.named.NAMES, "shipped", lambda split: data.ArrayDataset(*whole(split)[range(300)]))
    run_example(monkeypatch, "diagnose_cnn", calibration=128, per_tensor=True, html=tmp_path / "page.html",
                json=tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["lost"]["none"] > 5 and figures["lost"]["equalize"] < 2
    worst = min(figures["diagnosis"]["layers"], key=lambda r: r["without_drop"])
    assert worst["layer"] == "15" and worst["cause"] == "outlier channel"
    assert any(layer == "conv2d in 15" for layer in figures["floats"]) and (tmp_path / "page.html").exists()
    assert "15: outlier channel" in capsys.readouterr().out
