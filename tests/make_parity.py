"""What PyTorch computes for the samples of every op, kept in tests/parity/ so that the tests need no PyTorch.

    python tests/make_parity.py             write the file of every op
    python tests/make_parity.py linear gelu write these
    python tests/make_parity.py --check     compare what PyTorch gives now with the files

A file holds, one sample after the other and flattened: `inputs` (the float operands, float32), and as `float32` and
`float64` the result and the gradients for the cotangent of `cotangent()`, computed in that precision. Shapes, integer
operands and attributes come from the op's samples.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

import tinyml.ops  # noqa: F401  (registers the ops)
from tinyml.tensors import FLOATS, OPS, Tensor, apply

FOLDER = Path(__file__).parent / "parity"
SEED = 20260101
PRECISIONS = ("float32", "float64")
COMMAND = "python tests/make_parity.py"


def path_of(name: str) -> Path:
    return FOLDER / f"op_{name}.npz"


def files() -> list[Path]:
    """The files of ops (others keep theirs in the same folder)."""
    return sorted(FOLDER.glob("op_*.npz"))


def samples(name: str, seed: int) -> list[tuple[list, list[bool], dict]]:
    """(inputs, which are differentiated, attrs); floats are float32, so that both precisions start from one number."""
    found = []
    for s in OPS[name].samples(np.random.default_rng(seed)):
        inputs = [x.astype(np.float32) if is_float(x) else x for x in s.inputs]
        found.append((inputs, [is_float(x) and x.dtype == np.float64 for x in s.inputs], s.attrs))
    return found


def is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype in FLOATS


def cotangent(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.random.default_rng(SEED + 1).standard_normal(shape).astype(np.float32).astype(dtype)


def by_torch(torch: Any, name: str, inputs: list, wanted: list[bool], attrs: dict, dtype: str) -> list[np.ndarray]:
    """The result and the gradients as PyTorch computes them."""
    operands = []
    for x, w in zip(inputs, wanted, strict=True):
        t = torch.from_numpy(np.array(x)) if isinstance(x, np.ndarray) else x
        operands.append(t.to(getattr(torch, dtype)).requires_grad_(w) if is_float(x) else t)
    out = OPS[name].parity(torch, *operands, **attrs)
    if not OPS[name].differentiable:
        return [out.numpy()]
    out.backward(torch.from_numpy(cotangent(tuple(out.shape), dtype)).to(out.dtype))
    grads = [torch.zeros_like(t) if t.grad is None else t.grad for t, w in zip(operands, wanted, strict=True) if w]
    return [out.detach().numpy(), *(g.numpy() for g in grads)]


def by_tinyml(name: str, inputs: list, wanted: list[bool], attrs: dict, dtype: str) -> list[np.ndarray]:
    """The result and the gradients as tinyml computes them."""
    operands = [None if x is None else Tensor(x.astype(dtype) if is_float(x) else x, requires_grad=w)
                for x, w in zip(inputs, wanted, strict=True)]
    out = apply(OPS[name], *operands, **attrs)
    if not OPS[name].differentiable:
        return [out.numpy()]
    out.backward(cotangent(out.shape, dtype))
    return [out.numpy(), *(t.grad.numpy() for t, w in zip(operands, wanted, strict=True) if w)]


def flat(arrays: list, dtype: str) -> np.ndarray:
    return np.concatenate([np.zeros(0), *(np.ravel(a) for a in arrays)]).astype(dtype)


def compute(torch: Any, name: str) -> dict[str, np.ndarray]:
    """The contents of one op's file."""
    cases = samples(name, SEED)
    contents = {"inputs": flat([x for inputs, _, _ in cases for x in inputs if is_float(x)], "float32")}
    for dtype in PRECISIONS:
        contents[dtype] = flat([a for case in cases for a in by_torch(torch, name, *case, dtype)], dtype)
    return contents


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ops", nargs="*", help="names of ops (default: all)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a file differs")
    options = parser.parse_args()
    import torch

    different = []
    FOLDER.mkdir(exist_ok=True)
    for name in options.ops or sorted(OPS):
        contents = compute(torch, name)
        if not options.check:
            np.savez_compressed(path_of(name), **contents)
            continue
        same = path_of(name).exists()
        if same:
            with np.load(path_of(name)) as kept:
                same = all(kept[k].shape == v.shape and np.allclose(kept[k], v, 1e-5, 1e-6, equal_nan=True)
                           for k, v in contents.items())
        if not same:
            different.append(name)
    if options.check:
        surplus = sorted(p.name for p in files() if p not in map(path_of, OPS))
        print(f"different or missing: {', '.join(different) or 'none'}; of no op: {', '.join(surplus) or 'none'}")
        return bool(different or surplus)
    total = sum(p.stat().st_size for p in files())
    print(f"{len(options.ops or OPS)} files written, {total / 1000:.0f} kB in {FOLDER.name}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
