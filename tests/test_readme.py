"""The README's examples run as they are written, on fewer images."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tinyml
from tinyml import data

README = Path(__file__).parent.parent / "README.md"


def test_the_examples_of_the_readme_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture):
    first, second = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    whole = data.fashion_mnist_small

    def part(split: str) -> data.ArrayDataset:
        x, y = whole(split)[range(640 if split == "train" else 100)]
        return data.ArrayDataset(x, y)

    monkeypatch.setattr(data, "fashion_mnist_small", part)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(first, "README.md", "exec"), names)
    assert "bytes on disk" in capsys.readouterr().out
    x, _ = names["test"][range(32)]
    assert (tinyml.load("cnn-int8.safetensors")(x).numpy() == names["int8"](x).numpy()).all()
    exec(compile(second, "README.md", "exec"), names)
    assert (names["prepared"].eval()(x).numpy() == names["int8"](x).numpy()).all()
