"""Store a character TinyGPT and its key/value cache in every format that tinyml has, and print the cost and gain of each.

    python examples/quantize_gpt.py                                     trains on the shipped text first, some minutes
    python examples/quantize_gpt.py --data tinyshakespeare.txt --model gpt.safetensors
    python examples/quantize_gpt.py --quick                             a small model, hardly trained, takes seconds

The loss is over all consecutive windows of the last 10% of the text, with keys and values in the format of the cache.
--model is a float TinyGPT that save() wrote, trained on the characters of the same text.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

import tinyml
from tinyml import data, models, optim
from tinyml.tables import layout

LETTERS = 300       # characters of a sample


@dataclass(frozen=True)
class Form:
    """How the weights and the cache are stored."""

    convert: Callable[[models.TinyGPT], Any]
    cache: str = "float32"


FORMS = {
    "float32": Form(lambda model: model),
    "float32, float16 cache": Form(lambda model: model, "float16"),
    "float16": Form(lambda model: model.to_fp16()),
    "int8": Form(lambda model: model.to_int8()),
    "int8, int8 cache": Form(lambda model: model.to_int8(), "int8"),
    "int8, groups of 64": Form(lambda model: model.to_int8(group=64)),
    "int8, groups of 32": Form(lambda model: model.to_int8(group=32)),
    "int8, groups of 32, int8 cache": Form(lambda model: model.to_int8(group=32), "int8"),
}


def train(ids: np.ndarray, tokenizer: data.CharTokenizer, args: argparse.Namespace) -> models.TinyGPT:
    """A TinyGPT trained as examples/train_tinygpt.py trains it by default."""
    model = models.TinyGPT(tokenizer.vocab_size, args.context, args.layers, args.heads, args.dim)
    optimizer = optim.AdamW(model.parameters(), 1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    schedule = optim.CosineAnnealingLR(optimizer, args.steps, 1e-4, args.steps // 20)
    batches = data.RandomBatches(data.TextDataset(ids, args.context, stride=1), 12, args.steps, seed=0)
    tinyml.Trainer(model, optimizer, schedule=schedule, clip_norm=1.0).fit(batches, 1)
    return model


def speeds(stored: dict[str, Any], prompt: np.ndarray, turns: int = 5) -> dict[str, float]:
    """Ids per second of each form. All take turns to fill the context after the prompt, whose time does not count."""
    times: dict[str, list[float]] = {name: [] for name in stored}
    for _ in range(turns):
        for name, model in stored.items():
            ids = model.stream(prompt, model.context - len(prompt), temperature=0, cache=FORMS[name].cache)
            at = [perf_counter() for _ in ids]
            times[name] += np.diff(at).tolist()
    return {name: 1 / median(found) for name, found in times.items()}


def measure(model: models.TinyGPT, tests: np.ndarray, prompt: np.ndarray) -> list[dict[str, Any]]:
    """The figures of each form, and the text that it generates after the prompt."""
    stored = {name: form.convert(model) for name, form in FORMS.items()}
    fast, rows = speeds(stored, prompt), []
    for name, converted in stored.items():
        print(f"{name} ...", flush=True)
        cache = FORMS[name].cache
        rows.append({"form": name, "file_bytes": size(converted),
                     "loss": models.perplexity(converted, tests, cache=cache)["loss"],
                     "cache_bytes": sum(c.nbytes for c in converted.caches(1, cache)) / model.context,
                     "tokens_per_second": fast[name],
                     "sample": converted.generate(prompt, LETTERS, 0.8, 20, seed=0, cache=cache).tolist()})
    return rows


def size(model: Any) -> int:
    """The bytes of the file that save() writes."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.safetensors")
        return (Path(folder) / "model.safetensors").stat().st_size


def table(rows: list[dict[str, Any]]) -> str:
    """One line per form."""
    return layout([["", "bytes on disk", "cache, bytes per id", "loss", "change", "ids per second"], *(
        [row["form"], f"{row['file_bytes']:,}", f"{row['cache_bytes']:,.0f}", f"{row['loss']:.4f}",
         f"{row['loss'] - rows[0]['loss']:+.4f}", f"{row['tokens_per_second']:,.0f}"] for row in rows)], rules=())


def main() -> None:
    """Parse the arguments, train or load, store in every way, print the table and the samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="FILE", help="UTF-8 text (default: the shipped King James Bible)")
    parser.add_argument("--model", metavar="FILE", help="a float TinyGPT (default: train one)")
    for name, default in {"layers": 4, "heads": 4, "dim": 128, "context": 64, "steps": 2000}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--quick", action="store_true", help="1 layer of width 32, 30 steps, 8 windows")
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE")
    args = parser.parse_args()
    if args.quick:
        args.layers, args.heads, args.dim, args.context, args.steps = 1, 2, 32, 32, 30

    tinyml.manual_seed(0)
    text = data.read_text(args.data) if args.data else data.bible()
    tokenizer = data.CharTokenizer(text)
    ids = tokenizer.encode(text)
    split = int(0.9 * len(ids))
    model = tinyml.load(args.model) if args.model else train(ids[:split], tokenizer, args)
    tests = ids[split : split + 8 * model.context + 1] if args.quick else ids[split:]
    rows = measure(model.eval(), tests, tests[: model.context // 4])

    print("\n" + table(rows))
    for row in rows:
        row["sample"] = tokenizer.decode(np.array(row["sample"]))
        print(f"\n{row['form']}:\n{row['sample']}")
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=2, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
