"""The one source of randomness: `manual_seed` makes initialisation, dropout, shuffling and sampling repeatable."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import checks

_generator = np.random.default_rng(0)


class _Replaced(threading.local):
    """The generator that this thread draws from for a while, in the place of the one that all threads share."""

    generator: np.random.Generator | None = None


_replaced = _Replaced()


def manual_seed(seed: int) -> None:
    """Restart the generator that every random choice in tinyml draws from.

    Args:
        seed: a whole number of at least 0.

    Raises:
        DtypeError, ShapeError: another seed.

    Example:
        >>> tinyml.manual_seed(0)
        >>> a = nn.Linear(2, 2)
        >>> tinyml.manual_seed(0)
        >>> bool((nn.Linear(2, 2).weight == a.weight).numpy().all())
        True
    """
    global _generator
    fresh = np.random.default_rng(checks.seed("manual_seed", seed))
    if _replaced.generator is not None:
        _replaced.generator = fresh
    else:
        _generator = fresh


_held: list[Any] = []       # the lock of the generator, while this process forks


def _before_fork() -> None:
    """Wait until no other thread draws: in the child, which has no such thread, the lock would be held for ever."""
    lock = _generator.bit_generator.lock
    lock.acquire()
    _held.append(lock)


def _after_fork() -> None:
    _held.pop().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


def generator() -> np.random.Generator:
    """The current generator; pass a seed of your own where a choice must not depend on what ran before."""
    return _generator if _replaced.generator is None else _replaced.generator


@contextmanager
def replaced(seed: int) -> Iterator[None]:
    """Another generator, newly seeded, within the block and in this thread. Behind it the one from before goes on as if
    nothing had been drawn."""
    kept, _replaced.generator = _replaced.generator, np.random.default_rng(checks.seed("random.replaced", seed))
    try:
        yield
    finally:
        _replaced.generator = kept


def get_state() -> Mapping[str, Any]:
    """State of the generator, for a checkpoint."""
    return generator().bit_generator.state


def set_state(state: Mapping[str, Any]) -> None:
    """Continue from a state that `get_state` returned."""
    generator().bit_generator.state = state
