"""Every op against PyTorch: what it computed once (tests/parity/), and what it computes now, where it is installed."""

from __future__ import annotations

import secrets

import numpy as np
import pytest
from make_parity import COMMAND, PRECISIONS, SEED, by_tinyml, by_torch, files, is_float, path_of, samples

from tinyml.tensors import OPS

# sums of up to some hundred terms of size 1; float64 is what tells a wrong formula from rounding
TOLERANCES = {"float32": 2e-5, "float64": 1e-12}


def assert_parity(got: list[np.ndarray], expected: list[np.ndarray], dtype: str, what: str) -> None:
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert a.shape == b.shape, f"{what}: shape {a.shape}, PyTorch's is {b.shape}"
        close = np.isclose(a, b, TOLERANCES[dtype], TOLERANCES[dtype], equal_nan=True)
        assert close.all(), f"{what}, output {i} (0 the result): {a[~close][0]}, PyTorch's {b[~close][0]}"


def parts(values: np.ndarray, shapes: list[tuple]) -> list[np.ndarray]:
    """A flat array cut into arrays of these shapes."""
    sizes = np.cumsum([0, *(int(np.prod(s)) for s in shapes)])
    return [values[a:b].reshape(s) for a, b, s in zip(sizes, sizes[1:], shapes, strict=False)]


@pytest.mark.parametrize("name", sorted(OPS))
def test_equals_what_torch_computed(name):
    path, hint = path_of(name), f"run (it needs PyTorch): {COMMAND} {name}"
    assert path.exists(), f"no fixture for {name}; {hint}"
    cases = samples(name, SEED)
    with np.load(path) as file:
        kept = {key: file[key] for key in file.files}
    shapes = [x.shape for inputs, _, _ in cases for x in inputs if is_float(x)]
    assert kept["inputs"].size == sum(int(np.prod(s)) for s in shapes), f"the samples of {name} changed; {hint}"
    stored = iter(parts(kept["inputs"], shapes))
    cases = [([next(stored) if is_float(x) else x for x in inputs], wanted, attrs) for inputs, wanted, attrs in cases]
    for dtype in PRECISIONS:
        got = [by_tinyml(name, *case, dtype) for case in cases]
        expected = iter(parts(kept[dtype], [a.shape for arrays in got for a in arrays]))
        assert kept[dtype].size == sum(a.size for arrays in got for a in arrays), f"results of other shapes; {hint}"
        for arrays, (_, _, attrs) in zip(got, cases, strict=True):
            assert_parity(arrays, [next(expected) for _ in arrays], dtype, f"{name} {attrs} {dtype}")


def test_no_fixture_without_its_op():
    assert set(files()) <= {path_of(name) for name in OPS}
    assert sum(p.stat().st_size for p in files()) < 300_000


@pytest.mark.parity
@pytest.mark.parametrize("name", sorted(OPS))
def test_equals_torch_now(name):
    torch = pytest.importorskip("torch", reason="compares live with PyTorch: pip install '.[parity]'")
    for seed in (secrets.randbits(32) for _ in range(3)):
        for case in samples(name, seed):
            for dtype in PRECISIONS:
                expected = by_torch(torch, name, *case, dtype)
                assert_parity(by_tinyml(name, *case, dtype), expected, dtype, f"{name} {case[2]} {dtype}, seed {seed}")
