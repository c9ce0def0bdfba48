"""Files that earlier versions wrote: each loads and gives the bytes that it gave then."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import make_files
import numpy as np
import pytest

import tinyml
from tinyml.precision import Plan

OUTPUTS = dict(np.load(make_files.FOLDER / "outputs.npz"))


def test_each_kind_has_a_file_and_each_file_an_output():
    files = {p.stem for p in make_files.FOLDER.glob("*.safetensors")}
    assert files == set(make_files.KINDS) == OUTPUTS.keys() - {"run", "run-best"}


@pytest.mark.parametrize("name", sorted(make_files.KINDS))
def test_files_load_as_what_they_were(name):
    model = tinyml.load(make_files.FOLDER / f"{name}.safetensors")
    y = model(*make_files.KINDS[name][1]).numpy()
    if isinstance(model, Plan) and not model.islands:
        assert np.array_equal(y, OUTPUTS[name])         # on every instruction set
    else:
        np.testing.assert_allclose(y, OUTPUTS[name], rtol=1e-3, atol=1e-4)


def test_files_give_the_same_bytes():
    """In a separate process, on the instruction set that computed the outputs."""
    code = """
import make_files, numpy as np
expected = dict(np.load(make_files.FOLDER / "outputs.npz"))
got = make_files.outputs()
assert got.keys() == expected.keys()
wrong = [name for name in got if got[name].dtype != expected[name].dtype or not np.array_equal(got[name], expected[name])]
assert not wrong, wrong
"""
    environment = {**os.environ, "TINYML_ISA": "baseline", "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_attributes_and_characters_come_back():
    model = tinyml.load(make_files.FOLDER / "module-attributes.safetensors")
    notes = [m.note for m in model.modules() if hasattr(m, "note")]
    assert notes and all(note == ("kept", 1.5, [True, None]) for note in notes)
    assert tinyml.load(make_files.FOLDER / "gpt.safetensors").config.characters == make_files.CHARACTERS


def test_the_files_stay_small():
    assert sum(p.stat().st_size for p in make_files.FOLDER.rglob("*") if p.is_file()) < 300_000
