"""The data shipped in the package: whole, balanced, and parts of what they were taken from."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tinyml import data
from tinyml.data._shipped import SHIPPED, shipped
from tinyml.errors import FileError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
needs_fashion = pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian package dataset-fashion-mnist is not installed")
needs_bible = pytest.mark.skipif(shutil.which("bible") is None, reason="Debian package bible-kjv is not installed")


def test_manifest_lists_what_is_there():
    entries = json.loads((SHIPPED / "MANIFEST.json").read_text())["files"]
    files = {path.name: path.stat().st_size for path in SHIPPED.iterdir()}
    assert {entry["name"]: entry["bytes"] for entry in entries} == {
        name: size for name, size in files.items() if name.endswith((".gz", ".xz"))
    }
    assert all(entry["source"] and entry["licence"] for entry in entries)
    assert sum(files.values()) < 6_000_000
    for entry in entries:
        assert shipped(entry["name"]).name == entry["name"]


@pytest.mark.parametrize("split, per_class", [("train", 1200), ("test", 200)])
def test_shipped_images_are_balanced(split, per_class):
    dataset = data.fashion_mnist_small(split)
    assert dataset.inputs.shape == (10 * per_class, 1, 28, 28) and dataset.inputs.dtype == np.float32
    assert np.bincount(dataset.targets).tolist() == [per_class] * 10
    # The constants are of the full training set: this part is close to it.
    assert abs(dataset.inputs.mean()) < 0.02 and abs(dataset.inputs.std() - 1) < 0.02


@needs_fashion
def test_full_fashion_mnist_and_its_shipped_part(monkeypatch):
    monkeypatch.delenv("TINYML_DATA", raising=False)
    full, small = data.fashion_mnist("test"), data.fashion_mnist_small("test")
    assert full.inputs.shape == (10000, 1, 28, 28) and np.bincount(full.targets).tolist() == [1000] * 10
    chosen = np.sort(np.concatenate([np.flatnonzero(full.targets == c)[:200] for c in range(10)]))
    np.testing.assert_array_equal(small.inputs, full.inputs[chosen])
    np.testing.assert_array_equal(small.targets, full.targets[chosen])


def test_shipped_text():
    text = data.bible()
    assert text.startswith("In the beginning God created the heaven and the earth.\n")
    assert text.endswith("And Obed begat Jesse, and Jesse begat David.\n")
    assert 1_000_000 < len(text) < 1_100_000
    assert not set(text) & set("0123456789\r\t[]{}") and "  " not in text and "\n\n\n" not in text


@needs_bible
def test_shipped_text_is_that_of_the_package():
    lines = subprocess.run(
        ["bible", "-f", "gen1:1-ruth4:22"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    ours = [line for line in data.bible().splitlines() if line]
    assert ours == [" ".join(line.split()[1:]) for line in lines]


def test_a_changed_shipped_file_is_refused(tmp_path):
    name = "fashion-mnist-small-t10k-labels-idx1-ubyte.xz"
    for file in (name, "MANIFEST.json"):
        shutil.copy(SHIPPED / file, tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    assert shipped(name, tmp_path).read_bytes() == content
    content[100] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError, match=f"{name}: expected sha256 843ee98.*, got "):
        shipped(name, tmp_path)
    with pytest.raises(FileError, match="expected an entry other"):
        shipped("other.xz", tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileError, match=f"{name}: expected"):
        shipped(name, tmp_path)
    for manifest in (b'{"files": [{}]}', b"[]", b"{"):
        (tmp_path / "MANIFEST.json").write_bytes(manifest)
        with pytest.raises(FileError, match=r"MANIFEST\.json: expected"):
            shipped(name, tmp_path)
