"""The one source of randomness: `manual_seed` makes initialisation, dropout, shuffling and sampling repeatable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from . import checks

_generator = np.random.default_rng(0)


def manual_seed(seed: int) -> None:
    """Restart the generator that every random choice in tinyml draws from."""
    global _generator
    _generator = np.random.default_rng(checks.seed("manual_seed", seed))


def _in_child() -> None:
    """A generator in the same state: the lock of the old one may be held by a thread that does not exist in the child."""
    global _generator
    kind = type(_generator.bit_generator)
    fresh = kind(0)
    fresh.state = _generator.bit_generator.state
    _generator = np.random.Generator(fresh)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def generator() -> np.random.Generator:
    """The current generator; pass a seed of your own where a choice must not depend on what ran before."""
    return _generator


@contextmanager
def replaced(seed: int) -> Iterator[None]:
    """Another generator, newly seeded, in here; behind it the one from before goes on as if nothing had been drawn."""
    global _generator
    kept, _generator = _generator, np.random.default_rng(checks.seed("random.replaced", seed))
    try:
        yield
    finally:
        _generator = kept


def get_state() -> dict:
    """State of the generator, for a checkpoint."""
    return _generator.bit_generator.state


def set_state(state: dict) -> None:
    """Continue from a state that `get_state` returned."""
    _generator.bit_generator.state = state
