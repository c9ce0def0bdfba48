"""How much memory decoding holds for good: what is resident after the context was filled, in a process of its own.

    python -m benchmarks.gpt_memory FILE THREADS CACHE      what such a process runs on the model in FILE
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
from .memory import MB, resident, run_apart
from .timing import Run

CACHES = ("float32", "int8")


@dataclass(frozen=True)
class Held:
    """Bytes of weights as they are stored, of the cache for a whole context, and `resident` beyond what the process had
    before it loaded the model."""

    work: str
    weights: int
    cache: int
    resident: int

    @property
    def ratio(self) -> float:
        """What is resident to what it must hold."""
        return self.resident / (self.weights + self.cache)

    def figures(self) -> dict[str, Any]:
        """For the JSON file."""
        return {**asdict(self), "ratio": self.ratio}


def generate(model: Any, cache: str) -> int:
    """Fill the model's context, half of it with a prompt, the rest one id at a time; what is resident at the last."""
    half, held = model.context // 2, 0
    for _ in model.stream([0] * half, model.context - half, temperature=0, cache=cache):
        held = resident("VmRSS")
    return held


def measure(path: str, threads: int, cache: str) -> int:
    """Bytes resident in this process at the end of generating, beyond those from before the model was loaded."""
    tinyml.set_num_threads(threads)
    generate(gpt.Shape((8, 16, 1, 2, 8), 8, 8).make().to_int8(), cache)       # what is loaded on first use
    before = resident("VmRSS")
    return generate(tinyml.load(path), cache) - before


def rows(run: Run) -> list[Held]:
    """The larger model in int8, with each format of the cache."""
    model, found = gpt.SHAPES[gpt.GPT2].make().to_int8(), []
    weights = sum(gpt.stored(t) for t in {id(t): t for _, t in model.named_tensors()}.values())
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
    """One line a row, in MB, and how many times weights and cache are resident."""
    lines = [[row.work, *(f"{n / MB:.1f} MB" for n in (row.weights, row.cache, row.resident)), f"{row.ratio:.2f}x"]
             for row in rows]
    return layout([["decoding", "weights", "cache", "resident", "of both"], *lines], markdown=markdown)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
