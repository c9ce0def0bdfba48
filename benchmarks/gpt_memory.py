"""How much memory decoding keeps: the resident memory of a separate process after the context was filled.

    python -m benchmarks.gpt_memory FILE THREADS CACHE      what that process runs, on the model in FILE
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tinyml
from tinyml.tables import layout

from . import gpt
from .memory import MB, resident_bytes, run_apart
from .timing import Run

CACHES = ("float32", "int8")


@dataclass(frozen=True)
class Held:
    """The bytes of the stored weights, of the cache for a whole context, and of what became resident since the process
    began to load the model."""

    work: str
    weights: int
    cache: int
    resident: int

    @property
    def ratio(self) -> float:
        """The resident bytes divided by the bytes of weights and cache."""
        return self.resident / (self.weights + self.cache)

    def figures(self) -> dict[str, Any]:
        """The figures for the JSON file."""
        return {**asdict(self), "ratio": self.ratio}


def generate(model: Any, cache: str) -> int:
    """Fill the model's context, half of it with a prompt and the rest id by id. Returns the bytes resident at the end."""
    half, held = model.context // 2, 0
    for _ in model.stream([0] * half, model.context - half, temperature=0, cache=cache):
        held = resident_bytes("VmRSS")
    return held


def measure(path: str, threads: int, cache: str) -> int:
    """The bytes resident in this process at the end of generation, beyond those before the model was loaded."""
    tinyml.set_num_threads(threads)
    generate(gpt.Shape((8, 16, 1, 2, 8), 8, 8).make().to_int8(), cache)       # loads what is only loaded on first use
    before = resident_bytes("VmRSS")
    return generate(tinyml.load(path), cache) - before


def rows(run: Run) -> list[Held]:
    """One row per format of the cache, for the larger model in int8."""
    model, found = gpt.SHAPES[gpt.GPT2].make().to_int8(), []
    weights = sum(gpt.stored_bytes(t) for t in {id(t): t for _, t in model.named_tensors()}.values())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.safetensors"
        model.save(path)
        for cache in CACHES:
            held = Held(f"{gpt.GPT2}, int8, cache {cache}", weights, sum(c.nbytes for c in model.caches(1, cache)),
                        run_apart("benchmarks.gpt_memory", str(path), str(run.threads), cache))
            print(f"{held.work}: {held.resident / MB:.1f} MB", file=sys.stderr, flush=True)
            found.append(held)
    return found


def table(rows: list[Held], markdown: bool = False) -> str:
    """One line per row, in MB, with the ratio of resident memory to weights and cache."""
    lines = [[row.work, *(f"{n / MB:.1f} MB" for n in (row.weights, row.cache, row.resident)), f"{row.ratio:.2f}x"]
             for row in rows]
    return layout([["decoding", "weights", "cache", "resident", "of both"], *lines], markdown=markdown)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
