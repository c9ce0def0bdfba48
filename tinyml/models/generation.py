"""Generation: from logits to the next id, and on and on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import nn, random
from ..errors import DtypeError, NonFiniteError, ShapeError
from ..nn.mode import mode
from ..tape import no_grad
from ..tensor import INTEGERS, Tensor
from .decoder import Decoder, is_plain

if TYPE_CHECKING:
    from .gpt import TinyGPT


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
        if not self.temperature >= 0 or (self.top_k is not None and self.top_k < 1) or not 0 < self.top_p <= 1 or (
                not self.repetition_penalty > 0):
            raise ShapeError(f"generate: expected temperature of at least 0, top_k of at least 1, top_p in (0, 1] and "
                             f"repetition_penalty above 0, got {self.temperature}, {self.top_k}, {self.top_p}, "
                             f"{self.repetition_penalty}")

    def draw(self, logits: np.ndarray, seen: Callable[[], np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """One id a row of logits (B, V), where ids `seen()` (B, T) were before.

        Raises:
            NonFiniteError: logits that are NaN, or no finite one in a row.
        """
        if self.repetition_penalty != 1:
            ids = seen()
            was = np.take_along_axis(logits, ids, axis=1)
            was = np.where(was > 0, was / self.repetition_penalty, was * self.repetition_penalty)
            logits = logits.copy()
            np.put_along_axis(logits, ids, was, axis=1)
        best = logits.argmax(axis=1)        # that of a NaN where there is one
        top = logits[np.arange(len(best)), best]
        if not np.isfinite(top).all():
            raise NonFiniteError(f"generate: expected finite logits, got {top[~np.isfinite(top)][0]}; look for NaN "
                                 "or infinity in the weights, or, where the cache is float16, for what is beyond it")
        if self.temperature == 0:
            return best
        logits = (logits - top[:, None]).astype(np.float64) / self.temperature
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
        return (up_to / up_to[:, -1:] <= rng.random((len(p), 1))).sum(axis=1)


def prompts(ids: Any, context: int, vocab_size: int) -> list[np.ndarray]:
    """ids (T,) or (B, T), or rows of unequal lengths, as a list of int64 rows.

    Raises:
        DtypeError, ShapeError: ids that are no integers, none, outside the vocabulary, or more than the context holds.
    """
    if isinstance(ids, Tensor):
        ids = ids.data
    if isinstance(ids, (list, tuple)) and len({np.shape(row) for row in ids}) > 1:
        rows = [np.asarray(row) for row in ids]
    else:
        given = np.asarray(ids)
        rows = [given] if given.ndim == 1 else list(given) if given.ndim == 2 else []
    if not rows or any(row.ndim != 1 or not len(row) for row in rows):
        raise ShapeError("generate: expected a prompt (T,) or (B, T) of at least one id, or rows of at least one, got "
                         + (", ".join(str(row.shape) for row in rows[:5]) or f"shape {np.shape(ids)}"))
    for row in rows:
        if row.dtype not in INTEGERS or row.dtype == np.bool_:
            raise DtypeError(f"generate: expected integer ids, got {row.dtype}")
        if len(row) > context:
            raise ShapeError(f"generate: a prompt of {len(row)} ids is longer than the context of {context}; pass its end, "
                             f"ids[-{context}:]")
        if row.min() < 0 or row.max() >= vocab_size:
            raise ShapeError(f"generate: expected ids in [0, {vocab_size}), got {row.min()} to {row.max()}")
    return [row.astype(np.int64) for row in rows]


def _whole(model: TinyGPT, rows: list[np.ndarray], caches: list[nn.KeyValueCache] | None) -> np.ndarray:
    """Logits (B, V) after all ids of each row, which the caches then hold; rows of equal lengths in one pass."""
    equal = len({len(row) for row in rows}) == 1
    with mode(model, training=False), no_grad():
        if equal:
            return model._call(model.last, np.stack(rows), caches).numpy()
        return np.concatenate([
            model._call(model.last, row[None], None if caches is None else [c.rows(b, b + 1) for c in caches]).numpy()
            for b, row in enumerate(rows)])


class _Written:
    """The ids of each row so far: prompts of any lengths, then one id each at a time."""

    def __init__(self, rows: list[np.ndarray]):
        self.ends = np.array([len(row) for row in rows])
        self.ids = np.empty((len(rows), self.ends.max() + 64), np.int64)
        for row, ids in zip(self.ids, rows):
            row[: len(ids)], row[len(ids) :] = ids, ids[0]      # behind the end an id that was there, for `seen`

    def add(self, ids: np.ndarray) -> None:
        if self.ends.max() == self.ids.shape[1]:
            self.ids = np.concatenate([self.ids, np.repeat(self.ids[:, :1], self.ids.shape[1], axis=1)], axis=1)
        self.ids[np.arange(len(ids)), self.ends] = ids
        self.ends += 1

    def seen(self) -> np.ndarray:
        return self.ids[:, : self.ends.max()]

    def windows(self, context: int) -> list[np.ndarray]:
        """The last ids of each row that fit the context."""
        return [row[max(end - context, 0) : end] for row, end in zip(self.ids, self.ends)]


def stream(model: TinyGPT, ids: Any, max_new_tokens: int | None, sampling: Sampling, seed: int | None,
           stop: Collection[int], cache: str, full: str) -> Iterator[np.ndarray]:
    """The next id of each row (B,), one after the other; rows that are done go on with their last id, and when all are, it
    ends. The model is in evaluation mode while it computes, and as it was in between."""
    if full not in ("slide", "stop"):
        raise ShapeError(f"generate: expected full to be 'slide' or 'stop', got {full!r:.80}")
    rows = prompts(ids, model.context, model.config.vocab_size)
    caches = model.caches(len(rows), cache)
    return _stream(model, _Written(rows), caches, max_new_tokens, sampling, seed, np.array(list(stop), np.int64),
                   full == "stop")


def _stream(model: TinyGPT, text: _Written, caches: list[nn.KeyValueCache], count: int | None, sampling: Sampling,
            seed: int | None, stop: np.ndarray, stops: bool) -> Iterator[np.ndarray]:
    rng = random.generator() if seed is None else np.random.default_rng(seed)
    context, step, logits = model.context, None, None
    done = text.ends >= context if stops else np.zeros(len(text.ends), bool)
    last = text.ids[np.arange(len(text.ends)), text.ends - 1]
    while (count is None or count > 0) and not done.all():
        if logits is None:
            logits = _whole(model, text.windows(context), caches)
            step = Decoder(model, caches) if is_plain(model) else None
        elif text.ends.max() > context and not stops:   # it slides: every position is another one now
            logits = _whole(model, text.windows(context), None)
        else:
            if done.any():      # what such a row computes counts for nothing, but needs a place
                for c in caches:
                    c.lengths[done] = 0
            logits = step(last) if step else _one_more(model, caches, last)
        drawn = sampling.draw(logits, text.seen, rng)
        last = np.where(done, last, drawn) if done.any() else drawn
        text.add(last)
        if len(stop):
            done |= np.isin(last, stop)
        if stops:
            done |= text.ends >= context
        count = None if count is None else count - 1
        yield last


def _one_more(model: TinyGPT, caches: list[nn.KeyValueCache], ids: np.ndarray) -> np.ndarray:
    """Logits after one id more in each row, by the model's own layers."""
    if len(set(caches[0].lengths.tolist())) == 1:
        with mode(model, training=False), no_grad():
            return model._call(model.last, ids[:, None], caches).numpy()
    return np.concatenate([_one_more(model, [c.rows(b, b + 1) for c in caches], ids[b : b + 1]) for b in range(len(ids))])
