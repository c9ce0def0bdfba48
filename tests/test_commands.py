"""The command line's work on models and data: train, quantize, compare, diagnose, info, bench; and its messages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tinyml
from tinyml import cli, data, models

NET = ["tinyml.models:CifarCNN", "--arg", "in_channels=1", "--arg", "classes=2", "--arg", "width=8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """images.npz: bright and dark squares; cnn.safetensors: a model that tells them apart; text.txt."""
    folder, rng = tmp_path_factory.mktemp("commands"), np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    x = np.clip(rng.normal(90 + 70 * y[:, None, None], 30, (200, 8, 8)), 0, 255).astype(np.uint8)
    np.savez(folder / "images.npz", x_train=x[:150], y_train=y[:150], x_test=x[150:], y_test=y[150:])
    assert run(folder, "train", *NET, "--data", "images.npz", "--epochs", "2", "--batch", "16", "-o", "cnn.safetensors")
    (folder / "text.txt").write_text("to be or not to be " * 40)
    return folder


def run(folder: Path, command: str, *arguments: str) -> dict | list:
    """The figures of a command, run in `folder`, in which names of files are looked for."""
    kinds = (".npz", ".safetensors", ".txt", ".html", ".svg", ".pt")
    named = [str(folder / a) if a.endswith(kinds) else a for a in arguments]
    assert cli.main([command, *named, "--json", str(folder / "figures.json")]) == 0
    return json.loads((folder / "figures.json").read_text())


def test_from_training_to_a_model_that_is_compared(folder, capsys):
    made = run(folder, "quantize", "cnn.safetensors", "--calibration", "images.npz", "-o", "int8.safetensors")
    int8 = tinyml.load(folder / "int8.safetensors")
    assert made["file_bytes"] == (folder / "int8.safetensors").stat().st_size and int8.info["calibration"]["samples"] == 150
    compared = run(folder, "compare", "cnn.safetensors", "int8.safetensors", "--data", "images.npz", "--tolerance", "5")
    assert compared["a"]["accuracy"] > 0.9 and compared["samples"] == 50 and compared["tolerance"] == 5
    dynamic = run(folder, "quantize", "cnn.safetensors", "-o", "dynamic.safetensors", "--per-tensor", "--skip", "22")
    assert dynamic["frontier"] == [] and tinyml.load(folder / "dynamic.safetensors")[22].weight.dtype == np.float32
    out = capsys.readouterr().out
    assert f"wrote {folder / 'int8.safetensors'}: {made['file_bytes']:,} bytes" in out and "verdict" in out


def test_repairs_and_the_search_for_float_layers(folder, capsys):
    made = run(folder, "quantize", "cnn.safetensors", "--calibration", "images.npz", "--samples", "64", "--repairs",
               "equalize", "correct_bias", "--max-drop", "100", "--validation", "images.npz", "-o", "mixed.safetensors")
    assert made["frontier"][0]["float_layers"] == [] and made["floats"] == {}
    assert tinyml.load(folder / "mixed.safetensors").info["repairs"] == ["equalize", "correct_bias"]
    found = run(folder, "diagnose", "cnn.safetensors", "--data", "images.npz", "--observer", "minmax", "--per-tensor")
    assert [r["layer"] for r in found["layers"]] == ["0", "3", "7", "10", "14", "17", "22"]
    assert "only it  all but it" in capsys.readouterr().out


def test_report_on_paper_and_as_a_page(folder, capsys):
    run(folder, "quantize", "cnn.safetensors", "--calibration", "images.npz", "-o", "int8.safetensors")
    figures = run(folder, "report", "int8.safetensors", "--data", "images.npz", "--html", "page.html", "--batch", "2",
                  "--plot", "charts.svg")
    assert figures["file_bytes"] == (folder / "int8.safetensors").stat().st_size and figures["batch"] == 2
    assert "<!doctype html>" in (folder / "page.html").read_text().lower()
    assert "Bytes on disk" in (folder / "charts.svg").read_text()
    assert f"wrote {folder / 'page.html'}" in capsys.readouterr().out


def test_info_and_bench(folder, capsys):
    about = run(folder, "info", "cnn.safetensors")
    assert about["class"] == "CifarCNN" and about["elements"]["float32"] == sum(
        t.numel() for _, t in tinyml.load(folder / "cnn.safetensors").named_tensors() if t.dtype == np.float32)
    rows = run(folder, "bench", "cnn.safetensors", "--data", "images.npz", "--batch", "1", "7", "--seconds", "0.01")
    assert [(r["batch"], r["form"]) for r in rows[3:5]] == [(1, "to_int8(calibration)"), (7, "as it is")]
    assert all(r["samples_per_second"] == pytest.approx(1e3 * r["batch"] / r["ms"]) for r in rows)
    run(folder, "quantize", "cnn.safetensors", "--calibration", "images.npz", "-o", "int8.safetensors")
    assert run(folder, "info", "int8.safetensors")["plan"]["calibration"]["observer"] == "mse"
    plan = run(folder, "bench", "int8.safetensors", "--data", "images.npz", "--batch", "3", "--seconds", "0.01")
    assert [r["form"] for r in plan] == ["as it is"] and "samples per second" in capsys.readouterr().out


def test_text_goes_to_a_gpt_in_windows_of_its_context(folder):
    size = data.CharTokenizer((folder / "text.txt").read_text()).vocab_size
    net = ["tinyml.models:TinyGPT", "--arg", f"vocab_size={size}", "--arg", "context=8", "--arg", "layers=1", "--arg",
           "heads=2", "--arg", "dim=16"]
    figures = run(folder, "train", *net, "--data", "text.txt", "--epochs", "1", "--batch", "8", "-o", "gpt.safetensors")
    assert figures["history"][0]["validation_loss"] < 4
    run(folder, "quantize", "gpt.safetensors", "-o", "gpt8.safetensors")
    compared = run(folder, "compare", "gpt.safetensors", "gpt8.safetensors", "--data", "text.txt")
    assert compared["agreement"] > 0.8


def test_a_model_of_the_users_own_and_its_mistakes(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "own_nets.py").write_text(
        "from tinyml import nn\n"
        "def net(hidden): return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 2))\n"
        "number = 3\n")
    trained = ["train", "--data", "images.npz", "--epochs", "1", "-o", "own.safetensors"]
    assert cli.main([*trained, "own_nets:net", "--arg", "hidden=8"]) == 0
    models.CifarCNN(1, 2, 8).save("other.safetensors")
    capsys.readouterr()
    for arguments, says in [
        ([*trained, "own_nets:net"], "own_nets:net: TypeError: net() missing 1 required positional argument: 'hidden'"),
        ([*trained, "own_nets:number"], "own_nets:number: TypeError: 'int' object is not callable"),
        ([*trained, "own_nets:nothing"], "own_nets:nothing: AttributeError: "),
        ([*trained, "no_such_module:net"], "no_such_module:net: ModuleNotFoundError: "),
        ([*trained, "builtins:dict"], "builtins:dict: expected a callable that makes a tinyml.nn.Module, got a dict"),
        ([*trained[:-1], "own.safetensors", "missing.safetensors"], "missing.safetensors: no such file"),
        (["train", *NET, "--data", "images.csv", "-o", "x"], "images.csv: expected shipped, fashion-mnist, bible"),
        (["train", *NET, "--data", "own_nets.py", "-o", "x"], "own_nets.py: expected shipped, fashion-mnist, bible"),
        (["quantize", "other.safetensors", "-o", "x", "--max-drop", "1"], "need --calibration DATA"),
        (["quantize", "other.safetensors", "-o", "x", "--skip", "head"], "CifarCNN has no layer 'head'"),
        (["compare", "other.safetensors", "own.safetensors", "--data", "text.txt"], "conv2d: operand 1 is int64"),
        (["bench", "other.safetensors", "--data", "images.npz", "--json", "no/where.json"], "no/where.json"),
    ]:
        assert cli.main(arguments) == 1
        err = capsys.readouterr().err
        assert says in err and err.rstrip("\n").splitlines()[-1].startswith(f"tinyml {arguments[0]}: "), (arguments, err)
    for arguments in (["info", "a:b", "--arg", "hidden"], ["diagnose", "cnn.safetensors"], ["info", "x", "--arg", "1=2"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_an_interrupted_command_says_so(folder, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tinyml.io, "load", interrupted)
    assert cli.main(["info", str(folder / "cnn.safetensors")]) == 130
    assert capsys.readouterr().err == "\ntinyml info: interrupted\n"
