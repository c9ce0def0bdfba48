"""Models of every kind that a file can hold, and files with something else written into them."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from values import normal

import tinyml
from tinyml import Tensor, models, nn
from tinyml.errors import FileError
from tinyml.io import container
from tinyml.nn import functional as F


class Own(nn.Module):
    """A user's module: arguments of many kinds, buffers of every dtype, ordinary attributes."""

    def __init__(self, widths, power, *layers, limit=float("inf"), name="own", window=(1, 2), on=None):
        self.sizes = widths + [1]           # a list must come back as a list
        self.power, self.limit, self.window, self.on = power, limit, window + (3,), on
        self.layers = nn.ModuleList(layers)
        self.gain = nn.Parameter(np.full(widths[0], 1.5, np.float32))
        self.half = nn.Parameter(normal(3).astype(np.float16))
        for dtype in ("float64", "float32", "float16", "int64", "int32", "uint8", "bool"):
            setattr(self, f"scalar_{dtype}", Tensor(np.array(1, dtype)))
            setattr(self, f"array_{dtype}", Tensor(np.asfortranarray(100 * normal(4, 3)).astype(dtype)))
        self.none = Tensor(np.zeros((0, 3), np.float32))
        self.codes = Tensor(normal(3, 4)).to_int8(0.02, -7)
        self.columns = Tensor(normal(3, 4)).to_int8(axis=1)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return (x * self.gain * self.half[0] * self.codes.dequantize()[0, 0]).clip(-1e9, self.limit)


def own() -> Own:
    model = Own([6, 4], 2.5, nn.Linear(6, 6), nn.Sequential(nn.GELU("tanh"), nn.Dropout(0.25)), on=True)
    for name, t in model.named_tensors():
        if name.startswith("array_float"):
            t.array[...] = normal(4, 3, seed=1)      # not what the constructor makes
        if name == "scalar_bool":
            t.array[...] = False
    return model


class Integers(nn.Module):
    """Every step that runs in integers without a second input: products of both kinds, sums, tables, pools, indices."""

    def __init__(self):
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Linear(6, 5)

    def forward(self, x):
        y = F.relu(self.a(x))
        y = F.sigmoid(F.max_pool2d(y + self.b(y), 2))
        y = F.adaptive_avg_pool2d(y, 2).permute(0, 2, 3, 1).reshape(len(x), 16)
        return self.c(y[:, [0, 3, 3, 7, 9, 15]])


class Everything(nn.Module):
    """Every step there is: two inputs, of floats and of ids, islands, constants, some of which follow the batch."""

    def __init__(self):
        self.integers, self.table, self.norm = Integers(), nn.Embedding(11, 5), nn.LayerNorm(5)
        self.d = nn.Linear(10, 6)

    def forward(self, x, ids):
        y = self.integers(x)
        y = self.norm(y) * self.table(ids).mean(dim=1) + y * y
        y = F.cat([F.cat([y, x.mean((2, 3))], dim=1), np.ones((len(x), 1), np.float32)], dim=1)
        return self.d(F.pad(y, (1, 0), value=0.5)).clip(-3.0, 7.0) @ np.ones((6, 2), np.float32)


IMAGES, ROWS, IDS = normal(3, 3, 8, 8), normal(4, 6), np.random.default_rng(0).integers(0, 11, (3, 6))

KINDS = {   # how the model is made, an input of it
    "CifarCNN": (lambda: models.CifarCNN(width=4), (IMAGES,)),
    "ResNet8": (lambda: models.ResNet8(width=4), (IMAGES,)),
    "MLP": (lambda: models.MLP(6, 5, 3), (ROWS,)),
    "TinyGPT": (lambda: models.TinyGPT(11, 6, 1, 2, 8, dropout=0.5), (IDS,)),
    "Own": (own, (ROWS,)),
    "float16 TinyGPT": (lambda: models.TinyGPT(11, 6, 1, 2, 8).to_fp16(), (IDS,)),
    "dynamic CifarCNN": (lambda: models.CifarCNN(width=4).to_int8(), (IMAGES,)),
    "dynamic TinyGPT": (lambda: models.TinyGPT(11, 6, 1, 2, 8).to_int8(), (IDS,)),
    "dynamic per tensor": (lambda: models.MLP(6, 5, 3).to_int8(per_channel=False), (ROWS,)),
    "static CifarCNN": (lambda: models.CifarCNN(width=4).to_int8(calibration=IMAGES), (IMAGES,)),
    "static ResNet8": (lambda: models.ResNet8(width=4).to_int8(calibration=IMAGES, rounding="double"), (IMAGES,)),
    "static Llama": (lambda: models.TinyGPT(11, 6, 1, 4, 8, kv_heads=2, norm="rms", positions="rotary", activation="swiglu",
                                            bias=False).to_int8(calibration=IDS), (IDS,)),
    "static integers": (lambda: Integers().to_int8(calibration=IMAGES), (IMAGES,)),
    "static everything": (lambda: Everything().to_int8(calibration=[((IMAGES, IDS), None)]), (IMAGES, IDS)),
    "compiled ResNet8": (lambda: models.ResNet8(width=4).compile(IMAGES), (IMAGES,)),
    "compiled everything": (lambda: Everything().compile(IMAGES, IDS), (IMAGES, IDS)),
    "static with layers in float": (lambda: Everything().to_int8(calibration=[((IMAGES, IDS), None)], skip=["integers"]),
                                    (IMAGES, IDS)),
}


def made(kind: str) -> tuple[nn.Module, tuple[np.ndarray, ...]]:
    """A model, and its inputs."""
    make, inputs = KINDS[kind]
    model = make()
    for name, t in model.named_tensors():
        if "running" in name:
            t.array[...] = np.random.default_rng(3).uniform(0.5, 2, t.shape)
    return model, inputs


def opened(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Description and arrays of a file, as safetensors reads it."""
    with safe_open(path, "np") as file:
        return json.loads(file.metadata()["tinyml"]), {name: file.get_tensor(name) for name in file.keys()}   # noqa: SIM118


def rewrite(path: Path, about: Any = None, arrays: dict[str, np.ndarray] | None = None) -> None:
    """Another description or other arrays in a file, with the digest of the new content."""
    old = opened(path)
    about = {k: v for k, v in (about or old[0]).items() if k != "digest"}
    path.write_bytes(container.pack(about, old[1] if arrays is None else arrays))


def refused(path: Path, message: str, **options: Any) -> None:
    """Assert that loading fails with `message` after the name of the file."""
    with pytest.raises(FileError, match=f"^{re.escape(str(path))}: .*{message}"):
        tinyml.load(path, **options)


@contextmanager
def memory_below(limit: float) -> Iterator[None]:
    """Assert that fewer than `limit` bytes are allocated at any time in the block."""
    tracemalloc.start()
    try:
        yield
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < limit
