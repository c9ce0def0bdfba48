"""Generation: from logits to the next id, and on and on."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import random
from ..errors import DtypeError, ShapeError
from ..tape import no_grad
from ..tensor import INTEGERS, Tensor

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

    def draw(self, logits: np.ndarray, seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One id a row of logits (B, V), where `seen` (B, T) was before."""
        if self.repetition_penalty != 1:
            was = np.take_along_axis(logits, seen, axis=1)
            was = np.where(was > 0, was / self.repetition_penalty, was * self.repetition_penalty)
            logits = logits.copy()
            np.put_along_axis(logits, seen, was, axis=1)
        if self.temperature == 0:
            return logits.argmax(axis=1)
        logits = logits / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[1]:
            least = np.partition(logits, -self.top_k, axis=1)[:, -self.top_k, None]
            logits = np.where(logits < least, -np.inf, logits)
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        if self.top_p < 1:
            order = np.argsort(-p, axis=1, kind="stable")
            before = np.take_along_axis(p, order, axis=1).cumsum(axis=1)
            kept = before - np.take_along_axis(p, order, axis=1) < self.top_p * before[:, -1:]     # the first always is
            np.put_along_axis(p, order, np.where(kept, np.take_along_axis(p, order, axis=1), 0), axis=1)
        up_to = p.cumsum(axis=1)
        # the last is exactly 1 and a draw is below 1, so an id of probability 0 never comes
        return (up_to / up_to[:, -1:] <= rng.random((len(p), 1))).sum(axis=1)


def prompt(ids: Any) -> np.ndarray:
    """ids (T,) or (B, T) as int64 (B, T).

    Raises:
        DtypeError, ShapeError: ids that are no integers, or none.
    """
    given = np.asarray(ids.data if isinstance(ids, Tensor) else ids)
    rows = given[None] if given.ndim == 1 else given
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ShapeError(f"generate: expected a prompt (T,) or (B, T) of at least one id, got shape {given.shape}")
    if given.dtype not in INTEGERS or given.dtype == np.bool_:
        raise DtypeError(f"generate: expected integer ids, got {given.dtype}")
    return rows.astype(np.int64)


def stream(model: TinyGPT, ids: Any, max_new_tokens: int | None, sampling: Sampling, seed: int | None,
           stop: Collection[int]) -> Iterator[np.ndarray]:
    """The next id of each row (B,), one after the other; rows that have drawn a `stop` id go on with it, and when all have,
    it ends. The model is in evaluation mode while it computes, and as it was in between."""
    out, count = prompt(ids), 0
    rng = random.generator() if seed is None else np.random.default_rng(seed)
    stopped = np.zeros(len(out), bool)
    caches = model.caches(len(out)) if out.shape[1] < model.context else None
    new = out
    while (max_new_tokens is None or count < max_new_tokens) and not stopped.all():
        if out.shape[1] > model.context:    # the context slides: every position is another one now
            caches, new = None, out[:, -model.context :]
        training = model.training
        model.eval()
        try:
            with no_grad():
                logits = model._call(model.last, new, caches).numpy().astype(np.float64)      # (B, V)
        finally:
            model.train(training)
        drawn = np.where(stopped, out[:, -1], sampling.draw(logits, out, rng))
        stopped |= np.isin(drawn, list(stop))
        out, count = np.concatenate([out, drawn[:, None]], axis=1), count + 1
        new = drawn[:, None] if caches is not None else out
        yield drawn
