"""PyTorch's tutorials and what is built on them, retyped: examples/pytorch runs, and learns."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

import tinyml

FOLDER = Path(__file__).parent.parent / "examples" / "pytorch"


@pytest.mark.parametrize(("name", "arguments"), [
    ("tensors", []), ("autograd_and_training", ["--epochs", "1"]), ("makemore", ["--steps", "400"]),
    ("nanogpt", ["--steps", "60"])])
def test_examples_run(name, arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    if name == "autograd_and_training":
        assert float(re.findall(r"Accuracy: ([\d.]+)%", printed)[-1]) > 70
        assert "grad_fn" not in printed or "Gradient function for loss = <" in printed
    if name == "makemore":
        mlp, bigrams = (float(re.findall(rf"{name}: loss ([\d.]+)", printed)[0]) for name in ("MLP", "bigrams"))
        assert mlp < bigrams
    if name == "nanogpt":       # the two ways to attention learn alike
        losses = [float(v) for v in re.findall(r"(?:True|False): ([\d.]+)", printed)]
        assert len(losses) == 2 and max(losses) < 1.5 and abs(losses[0] - losses[1]) < 0.1


def test_every_file_has_a_test():
    assert {p.stem for p in FOLDER.glob("*.py")} == {"tensors", "autograd_and_training", "makemore", "nanogpt"}
    assert tinyml.tensor([1, 2]).dtype == tinyml.int64
