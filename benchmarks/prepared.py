"""Work that is ready to be timed, whoever does it: a call and what it computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Prepared:
    """`call()` does the work; `array(result)` is what it computed: real numbers, NCHW, as tinyml has them."""

    call: Callable[[], Any]
    array: Callable[[Any], np.ndarray] = np.asarray


@dataclass(frozen=True)
class Decoder:
    """A language model as one library runs it, on ids (1, T); V logits a position.

    `logits(ids)`: (1, T, V), of all positions in one pass. `stream(ids, n)`: the n ids that follow, each the most likely,
    one by one, keys and values kept. `last(ids)`: (1, V) behind the last id, taken alone after the rest, as by `stream`.
    """

    logits: Callable[[np.ndarray], np.ndarray]
    stream: Callable[[np.ndarray, int], Iterator[Any]]
    last: Callable[[np.ndarray], np.ndarray]
