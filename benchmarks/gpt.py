"""Generation with TinyGPT: the time of one more token, and of a prompt; two threads against one.

A token reads every weight once, so it is memory-bound. A prompt uses each weight for all its positions, so it is
compute-bound. All decode greedily, each from its own ids: with random weights these differ, but cost the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

import tinyml
from tinyml import Tensor, models, nn
from tinyml.models.gpt.decoder import Decoder as StepDecoder

from . import ours
from .machine import cores
from .prepared import Decoder, Prepared
from .timing import TOLERANCE, Row, Run, check


@dataclass(frozen=True)
class Shape:
    """A TinyGPT of GPT-2's form whose output projection is not tied, and the lengths that are timed."""

    arguments: tuple[int, int, int, int, int]       # vocab_size, context, layers, heads, dim
    prompt: int                                     # the number of ids before the decoded ones
    tokens: int                                     # the number of ids that a turn decodes

    def make(self) -> models.TinyGPT:
        """The model in evaluation mode, with random weights as large as GPT-2's; every call gives the same weights."""
        with nn.init.blank():
            model = models.TinyGPT(*self.arguments, tied=False)
        rng = np.random.default_rng(0)
        for p in model.parameters():
            if p.ndim > 1:
                rng.random(out=p.array, dtype=np.float32)
                p.array -= 0.5
                p.array *= 0.02 * 12**0.5        # a uniform distribution of standard deviation 0.02
        return model.eval()

    def ids(self, n: int) -> np.ndarray:
        """n ids, (1, n); every call gives the same ids."""
        return np.random.default_rng(n).integers(0, self.arguments[0], (1, n))


@dataclass(frozen=True)
class Form:
    """How tinyml stores the model and the cache.

    Attributes:
        precision: the name of the form.
        convert: makes the model from the float one; None for the model of the form `beside`.
        beside: the form that takes turns with this one.
        cache: the format of keys and values.
    """

    precision: str
    convert: Callable[[models.TinyGPT], Any] | None
    beside: str
    cache: str = "float32"


GPT2, SMALL = "GPT-2 124M", "GPT d128 L4"
SHAPES = {GPT2: Shape((50257, 1024, 12, 12, 768), 64, 24), SMALL: Shape((65, 64, 4, 4, 128), 32, 24)}
PROMPT = 512        # the number of ids of the prompt that is timed by itself, of the larger model
FORMS = [Form("float16 weights", lambda m: m.to_fp16(), "float32"),
         Form("int8", lambda m: m.to_int8(), "float32"),
         Form("int8, int8 cache", None, "int8", "int8"),
         *(Form(f"int8, groups of {n}", partial(models.TinyGPT.to_int8, group=n), "int8") for n in (64, 32))]


def decoder(model: Any, cache: str = "float32") -> Decoder:
    """The Decoder of tinyml, whose `stream` is the method that users call."""
    def last(ids: np.ndarray) -> np.ndarray:
        return make_step(model, ids[:, :-1], cache)(ids[:, -1])[0]

    def stream(ids: np.ndarray, n: int) -> Iterator[np.ndarray]:
        return model.stream(ids, n, temperature=0, cache=cache)

    return Decoder(lambda ids: model(ids).numpy(), stream, last)


def make_step(model: Any, ids: np.ndarray, cache: str) -> StepDecoder:
    """The compiled step that continues ids (1, T)."""
    caches = model.caches(1, cache)
    model.last(ids, caches)
    return StepDecoder(model, caches)


def token_bytes(model: Any, length: int, cache: str = "float32") -> int:
    """The bytes that a token must read: all weights, but only one row of each embedding, and `length` cached positions."""
    tensors = {id(t): t for m in model.modules() if not isinstance(m, nn.Embedding)
               for _, t in m.own_tensors()}
    kept = sum(c.nbytes for c in model.caches(1, cache)) * length // model.context
    return sum(stored_bytes(t) for t in tensors.values()) + kept


def stored_bytes(t: Tensor) -> int:
    """The bytes of a tensor's elements or codes, and of its scales. Zero points, which are all 0, are not read."""
    return t.array.nbytes + (0 if t.quantized is None else t.quantized.scale.nbytes)


def decode(run: Run, name: str, shape: Shape, precision: str, decoders: dict[str, Decoder], reference: Decoder,
           nbytes: int) -> Row:
    """The row of one token, after the logits of all decoders were compared with those of `reference`."""
    ids, tolerance = shape.ids(shape.prompt + 1), TOLERANCE[precision.split(",")[0]]
    expected = reference.last(ids)
    for form, d in decoders.items():
        check(f"{name}, {precision}, {form}", d.last(ids), expected, tolerance)
    sequences = {form: partial(d.stream, shape.ids(shape.prompt), shape.tokens) for form, d in decoders.items()}
    return run.pace(f"{name}, a token after {shape.prompt}", precision, sequences, nbytes)


def prompt(run: Run, name: str, precision: str, decoders: dict[str, Decoder], expected: np.ndarray, operations: int) -> Row:
    """The row of a prompt, with the logits of all its positions."""
    ids = SHAPES[name].ids(PROMPT)
    prepared = {form: Prepared(partial(d.logits, ids)) for form, d in decoders.items()}
    return run.row(f"{name}, prompt of {PROMPT}", precision, prepared, expected, operations,
                   bound="fma" if precision == "float32" else "dot4")


def rows(run: Run) -> list[Row]:
    """One token and a prompt of the larger model, in each precision, and one token of the small model."""
    with tinyml.no_grad():
        return [*larger_model(run), *small_model(run)]


def small_model(run: Run) -> list[Row]:
    """One token in float32 of a model that stays in the cache, so that the overhead around the arithmetic shows."""
    shape = SHAPES[SMALL]
    model, peers = shape.make(), {}
    for peer in run.peers:
        peers |= peer.decoder_f32(model)
    own = decoder(model)
    return [decode(run, SMALL, shape, "float32", {"tinyml": own, **peers}, own, token_bytes(model, mean_length(shape)))]


def mean_length(shape: Shape) -> int:
    """The mean number of positions that a decoded token attends to."""
    return shape.prompt + shape.tokens // 2


def larger_model(run: Run) -> list[Row]:
    """The rows of the larger model; the last one has an almost full context and each format of the cache. Models that no
    further row needs are freed."""
    shape = SHAPES[GPT2]
    length, ids = mean_length(shape), shape.ids(PROMPT)
    model = shape.make()
    own, kept = {"float32": decoder(model)}, {"float32": model}
    reference, logits, operations = own["float32"], own["float32"].logits(ids), ours.operations(model, ids)
    peers: dict[str, Decoder] = {}
    for peer in run.peers:
        peers |= peer.decoder_f32(model)
    forms = {"tinyml": reference, **peers}
    found = [decode(run, GPT2, shape, "float32", forms, reference, token_bytes(model, length)),
             prompt(run, GPT2, "float32", forms, logits, operations)]
    peers, forms = {}, {}
    for peer in run.peers:
        peers |= peer.decoder_int8(model)
    for f in FORMS:
        converted = kept[f.beside] if f.convert is None else f.convert(model)
        own[f.precision] = decoder(converted, f.cache)
        forms = {"tinyml": own[f.precision], f"tinyml {f.beside}": own[f.beside]}
        if f.precision.startswith("int8"):
            forms |= peers
        found.append(decode(run, GPT2, shape, f.precision, forms, reference, token_bytes(converted, length, f.cache)))
        if f.precision == "int8":
            found.append(prompt(run, GPT2, f.precision, forms, logits, operations))
            kept["int8"] = converted
        else:
            del own[f.precision]
    late = replace(shape, prompt=model.context - shape.tokens)
    forms = {"tinyml": decoder(kept["int8"], "int8"), "tinyml float16 cache": decoder(kept["int8"], "float16"),
             "tinyml float32 cache": own["int8"]}
    nbytes = token_bytes(kept["int8"], mean_length(late), "int8")
    return [*found, decode(run, GPT2, late, "int8, int8 cache", forms, reference, nbytes)]


def threads(run: Run) -> list[Row]:
    """A token in int8 on one thread and on two; no rows if there is only one core."""
    if cores() < 2:
        return []
    shape, before = SHAPES[GPT2], run.threads
    model = shape.make().to_int8()
    own = decoder(model)

    def on(n: int) -> Iterator[np.ndarray]:
        tinyml.set_num_threads(n)
        return own.stream(shape.ids(shape.prompt), shape.tokens)

    sequences = {"tinyml": partial(on, 2), "tinyml, 1 thread": partial(on, 1)}
    found = replace(run, threads=2).pace(f"{GPT2}, a token after {shape.prompt}, 2 threads", "int8", sequences,
                                         token_bytes(model, mean_length(shape)))
    tinyml.set_num_threads(before)
    return [found]


def around_step(run: Run) -> list[Row]:
    """A token as users get it, beside the compiled step alone. The note is the time of Python around the step."""
    found = []
    for name, shape in SHAPES.items():
        model = shape.make()
        for precision in ("float32", "int8"):
            stored = model if precision == "float32" else model.to_int8()
            sequences = {"tinyml": partial(decoder(stored).stream, shape.ids(shape.prompt), shape.tokens),
                         "tinyml step": partial(steps, stored, shape)}
            row = run.pace(f"{name}, a token after {shape.prompt}, drawn", precision, sequences,
                           token_bytes(stored, mean_length(shape)))
            rest = row.seconds - row.times["tinyml step"].median
            row.note = f"{1e6 * rest:+.0f} µs to the step, {rest / row.seconds:.1%}"
            found.append(row)
    return found


def steps(model: Any, shape: Shape) -> Iterator[np.ndarray]:
    """The compiled step, again and again; its time does not depend on the ids."""
    with tinyml.no_grad():
        step = make_step(model, shape.ids(shape.prompt), "float32")
    one = np.zeros(1, np.int64)
    for _ in range(shape.tokens):
        yield step(one)
