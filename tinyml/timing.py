"""Times of functions that take turns, so that whatever else the machine does slows all of them alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, TypeVar

Key = TypeVar("Key", bound=Hashable)
Function = Callable[[], Any]
LONGEST = 3600      # seconds of timing that a user may ask for
CALL = 1e-8         # seconds that any call takes, whatever a coarse clock says


@dataclass(frozen=True)
class Samples:
    """Measured times of one function: `seconds` per call, each the mean over `calls` calls."""

    seconds: list[float]
    calls: int


def take_turns(turns: Mapping[Key, Callable[[], Iterable[float]]], seconds: float, least: int) -> dict[Key, list[float]]:
    """The numbers that each function gives, called in turn until `seconds` have gone by and each has given `least`."""
    found: dict[Key, list[float]] = {key: [] for key in turns}
    until = time.perf_counter() + seconds
    while min(map(len, found.values()), default=least) < least or time.perf_counter() < until:
        for key, turn in turns.items():
            found[key] += turn()
    return found


def time_calls(function: Function, calls: int = 1) -> float:
    """Mean seconds per call over `calls` calls."""
    times = range(calls)
    start = time.perf_counter()
    for _ in times:
        function()
    return (time.perf_counter() - start) / calls


def time_by_turns(functions: Mapping[Key, Function], seconds: float, rounds: int = 5, repeats: int = 1,
                  sample_seconds: float = 0.0, settle: float = 0.0) -> dict[Key, Samples]:
    """Times of functions that take turns, in the order given, after a first call of each that does not count.

    Args:
        seconds: How long to go on.
        rounds: The number of turns of each function at least, however long that takes.
        repeats: How often a function is measured in a turn; the least time is the turn's sample.
        sample_seconds: How long a measurement lasts at least. A short function is called several times in it, so that the
            time to read the clock does not matter.
        settle: Seconds of pause before each turn, and then as many of calls without timing. For several threads: those of a
            library that has just run still spin on the cores that the next one needs, and threads that wake share one core
            until the system spreads them.

    Returns:
        The samples of each function.
    """
    calls = {}
    for key, function in functions.items():
        first = min(time_calls(function) for _ in range(2 if sample_seconds else 1))
        calls[key] = max(math.ceil(sample_seconds / max(first, CALL)), 1)

    def turn(key: Key) -> list[float]:
        if settle:
            time.sleep(settle)
            until = time.perf_counter() + settle
            while time.perf_counter() < until:
                functions[key]()
        return [min(time_calls(functions[key], calls[key]) for _ in range(repeats))]

    found = take_turns({key: partial(turn, key) for key in functions}, seconds, rounds)
    return {key: Samples(times, calls[key]) for key, times in found.items()}


def median_times(functions: Sequence[Function], seconds: float = 1.0) -> list[float]:
    """Median milliseconds per call of each function, over at least five turns."""
    found = time_by_turns(dict(enumerate(functions)), seconds)
    return [1e3 * median(found[i].seconds) for i in range(len(functions))]


def least_time(function: Function, seconds: float = 0.0, calls: int = 3) -> float:
    """Seconds of the shortest of at least `calls` calls within `seconds`: that of a call which nothing has disturbed."""
    return min(take_turns({0: lambda: [time_calls(function)]}, seconds, calls)[0])
