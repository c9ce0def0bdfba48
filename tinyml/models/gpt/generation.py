"""Generation: from logits to the next id, and on and on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ... import checks, nn, random
from ...errors import ShapeError
from ...nn.mode import mode
from ...nn.module import run
from ...tape import no_grad
from .decoder import Decoder, check_finite
from .network import Transformer
from .plain import is_plain, keeps_positions

Last = Callable[[np.ndarray, Any], np.ndarray]      # (ids (B, T), caches of what was before them) to logits (B, V)


@dataclass(frozen=True)
class Sampling:
    """How the next id is drawn from logits (B, V).

    Args:
        temperature: divides the logits; 0 takes the most likely id.
        top_k: only the k most likely ids count; None: all.
        top_p: only the most likely ids count that have this much probability together (Holtzman et al. 2020).
        repetition_penalty: logits of ids that were there already are divided by it where positive, else multiplied
            (Keskar et al. 2019); 1 changes nothing.

    Raises:
        ShapeError: a value out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        plain = {"temperature": checks.number("generate", "temperature", self.temperature, 0),
                 "top_p": checks.number("generate", "top_p", self.top_p, above=0, most=1),
                 "repetition_penalty": checks.number("generate", "repetition_penalty", self.repetition_penalty, above=0),
                 "top_k": None if self.top_k is None else checks.whole("generate", "top_k", self.top_k, 1)}
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    def draw(self, logits: np.ndarray, best: np.ndarray, seen: Callable[[], np.ndarray],
             rng: np.random.Generator) -> np.ndarray:
        """One id per row of finite logits (B, V), the largest of which are at `best` (B,), where ids `seen()` (B, T) were
        before."""
        if self.repetition_penalty != 1:
            ids = seen()
            was = np.take_along_axis(logits, ids, axis=1)
            was = np.where(was > 0, was / self.repetition_penalty, was * self.repetition_penalty)
            logits = logits.copy()
            np.put_along_axis(logits, ids, was, axis=1)
            best = logits.argmax(axis=1)
        if self.temperature == 0:
            return best
        logits = (logits - np.take_along_axis(logits, best[:, None], axis=1)).astype(np.float64) / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[1]:
            least = np.partition(logits, -self.top_k, axis=1)[:, -self.top_k, None]
            logits = np.where(logits < least, -np.inf, logits)
        p = np.exp(logits)
        if self.top_p < 1:
            order = np.argsort(-p, axis=1, kind="stable")
            before = np.take_along_axis(p, order, axis=1).cumsum(axis=1)
            kept = before - np.take_along_axis(p, order, axis=1) < self.top_p * before[:, -1:]     # the first always is
            np.put_along_axis(p, order, np.where(kept, np.take_along_axis(p, order, axis=1), 0), axis=1)
        up_to = p.cumsum(axis=1)
        # the last is exactly 1 and a draw is below 1, so an id of probability 0 never comes
        return np.asarray((up_to / up_to[:, -1:] <= rng.random((len(p), 1))).sum(axis=1))


def prompts(ids: Any, context: int, vocab_size: int) -> list[np.ndarray]:
    """ids (T,) or (B, T), or rows of unequal lengths, as a list of int64 rows.

    Raises:
        DtypeError, ShapeError: ids that are no integers, none, outside the vocabulary, or more than the context holds.
    """
    if isinstance(ids, (list, tuple)) and any(hasattr(row, "__len__") for row in ids):
        rows = [checks.array("generate", "ids", row, "iu") for row in ids]
    else:
        given = checks.array("generate", "ids", ids, "iu")
        rows = [given] if given.ndim == 1 else list(given) if given.ndim == 2 else []
    if not rows or any(row.ndim != 1 or not len(row) for row in rows):
        raise ShapeError("generate: expected a prompt (T,) or (B, T) of at least one id, or rows of at least one, got "
                         + (", ".join(str(row.shape) for row in rows[:5]) or checks.described(ids)))
    for row in rows:
        if len(row) > context:
            raise ShapeError(f"generate: a prompt of {len(row)} ids is longer than the context of {context}; pass its end, "
                             f"ids[-{context}:]")
        if row.min() < 0 or row.max() >= vocab_size:
            raise ShapeError(f"generate: expected ids in [0, {vocab_size}), got {row.min()} to {row.max()}")
    return [row.astype(np.int64) for row in rows]


class _Written:
    """The ids of each row so far: prompts of any lengths, then one id each at a time."""

    def __init__(self, rows: list[np.ndarray]):
        self.rows = rows
        self.new: list[np.ndarray] = []
        self.longest = max(len(row) for row in rows)

    def add(self, ids: np.ndarray) -> None:
        self.new.append(ids)
        self.longest += 1

    def lengths(self) -> np.ndarray:
        return np.array([len(row) for row in self.rows]) + len(self.new)

    def windows(self, context: int) -> list[np.ndarray]:
        """The last ids of each row that fit the context."""
        new = np.reshape(self.new[-context:], (-1, len(self.rows))).astype(np.int64)
        return [np.concatenate([row, new[:, b]])[-context:] for b, row in enumerate(self.rows)]

    def seen(self) -> np.ndarray:
        """All ids (B, T), those of a shorter row behind its first id, again and again."""
        rows = self.windows(self.longest)
        return np.stack([np.concatenate([np.full(self.longest - len(row), row[0]), row]) for row in rows])


def stream(model: Transformer, ids: Any, count: int | None, sampling: Sampling, seed: int | None,
           stop: int | Collection[int], cache: str, full: str) -> Iterator[np.ndarray]:
    """The next id of each row (B,), one after the other; rows that are done go on with their last id, and when all are, it
    ends. The model is in evaluation mode while it computes, and as it was in between."""
    checks.choice("generate", "full", full, ("slide", "stop"))
    count = None if count is None else checks.whole("generate", "max_new_tokens", count)
    seed = None if seed is None else checks.seed("generate", seed)
    stop = _stop(stop, model.config.vocab_size)
    rows = prompts(ids, model.context, model.config.vocab_size)
    caches = model.caches(len(rows), cache)
    return _stream(model, _Written(rows), caches, count, sampling, seed, stop, full == "stop")


def _stop(stop: int | Collection[int], vocab_size: int) -> np.ndarray:
    """The ids that end a row: one, or several."""
    found = checks.array("generate", "stop", list(stop) if isinstance(stop, (set, frozenset, range)) else stop, "iu")
    if found.size and (found.min() < 0 or found.max() >= vocab_size):
        raise ShapeError(f"generate: expected stop to be ids in [0, {vocab_size}), got {found.min()} to {found.max()}")
    return found.astype(np.int64).reshape(-1)


def _stream(model: Transformer, text: _Written, caches: list[nn.KeyValueCache], count: int | None, sampling: Sampling,
            seed: int | None, stop: np.ndarray, stops: bool) -> Iterator[np.ndarray]:
    rng = random.generator() if seed is None else np.random.default_rng(seed)
    context, kept = model.context, keeps_positions(model)
    step: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None
    last_of = _last(model, kept)
    done = text.lengths() >= context if stops else np.zeros(len(text.rows), bool)
    some_done = bool(done.any())
    last = np.array([row[-1] for row in text.rows])
    while (count is None or count > 0) and not (some_done and done.all()):
        if step is None:
            logits, best = _whole(last_of, text.windows(context), caches if kept else None)
            step = Decoder(model, caches) if is_plain(model) else partial(_one_more, last_of, caches)
        elif not kept or (text.longest > context and not stops):    # when it slides every position is another one
            logits, best = _whole(last_of, text.windows(context), None)
        else:
            if some_done:       # what such a row computes counts for nothing, but needs a place
                for c in caches:
                    c.lengths[done] = 0
            logits, best = step(last)
        drawn = sampling.draw(logits, best, text.seen, rng)
        last = np.where(done, last, drawn) if some_done else drawn
        text.add(last)
        if len(stop):
            done |= np.isin(last, stop)
        if stops and text.longest >= context:
            done |= text.lengths() >= context
        if len(stop) or stops:
            some_done = bool(done.any())
        count = None if count is None else count - 1
        yield last.copy()       # what a user does to it changes nothing here


def _last(model: Transformer, kept: bool) -> Last:
    """Logits by the model's layers; where they do not keep positions, those that a call of the model gives."""
    def last(ids: np.ndarray, caches: list[nn.KeyValueCache] | None) -> np.ndarray:
        with mode(model, training=False), no_grad():
            return run(model, model.last, ids, caches).numpy() if kept else model(ids).numpy()[:, -1]

    return last


def _with_best(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    check_finite(logits)
    return logits, logits.argmax(axis=1)


def _whole(last: Last, rows: list[np.ndarray], caches: list[nn.KeyValueCache] | None) -> tuple[np.ndarray, np.ndarray]:
    """Logits after all ids of each row, which the caches then hold, and the ids of the largest; a pass for each row where
    lengths differ."""
    if len({len(row) for row in rows}) == 1:
        return _with_best(last(np.stack(rows), caches))
    return _with_best(np.concatenate([last(row[None], None if caches is None else [c.rows(b, b + 1) for c in caches])
                                      for b, row in enumerate(rows)]))


def _one_more(last: Last, caches: list[nn.KeyValueCache], ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those after one id more in each row."""
    if len(set(caches[0].lengths.tolist())) > 1:
        return _with_best(np.concatenate([last(ids[b : b + 1, None], [c.rows(b, b + 1) for c in caches])
                                          for b in range(len(ids))]))
    return _with_best(last(ids[:, None], caches))
