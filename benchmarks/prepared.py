"""Work that is ready to be timed, by tinyml or a peer: a call, and what it computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Prepared:
    """`call()` does the work, and `array(result)` is its result as an array of real numbers, images in NCHW."""

    call: Callable[[], Any]
    array: Callable[[Any], np.ndarray] = np.asarray


@dataclass(frozen=True)
class Decoder:
    """A language model as one library runs it, on ids (1, T), with V logits per position.

    Attributes:
        logits: logits(ids), (1, T, V), of all positions in one pass.
        stream: stream(ids, n), the n most likely ids that follow, one by one, with a cache of keys and values.
        last: last(ids), the logits (1, V) after the last id, which goes through the model alone, as in `stream`.
    """

    logits: Callable[[np.ndarray], np.ndarray]
    stream: Callable[[np.ndarray, int], Iterator[Any]]
    last: Callable[[np.ndarray], np.ndarray]
