"""Milliseconds of functions called in turn, and the figures of time that a report has of each step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

LEAST_ROUNDS = 3
MEASURED = 50e-6        # seconds that one measurement takes at least: the clock itself costs about a thousandth of it


@dataclass
class Took:
    """Milliseconds of one step, or of one op, for the batch.

    quantize: floats to codes and back. multiply, requantize: the two parts of an integer product, told apart only where
    `together` is empty; else multiply has both, and `together` says why. other: what is neither. float32: the same in
    float32, None where that cannot be run.
    narrow: whether it computes with codes, or reads weights stored as float16.
    What a reason for no gain is derived from: rows, terms: how many outputs a channel an integer product makes, of
    sums of how many products; crowd: the product's time for CROWD times as many rows, measured where rows are few;
    copy: the time to copy as many bytes as the step reads and writes, measured where it computes little.
    """

    quantize: float = 0.0
    multiply: float = 0.0
    requantize: float = 0.0
    other: float = 0.0
    float32: float | None = 0.0
    together: str = ""
    narrow: bool = False
    rows: int = 0
    terms: int = 0
    crowd: float | None = None
    copy: float | None = None

    @property
    def total(self) -> float:
        """All parts."""
        return self.quantize + self.multiply + self.requantize + self.other


CROWD, FEW_ROWS = 8, 16


def in_turn(functions: dict[Hashable, Callable[[], object]], seconds: float) -> dict[Hashable, float]:
    """Least milliseconds of each function over rounds in which all are called one after the other, so that a machine whose
    speed changes changes it for all. Short ones are called many times for one measurement.
    """
    repeats = {}
    for key, function in functions.items():
        function()
        start = time.perf_counter()
        function()
        repeats[key] = min(max(math.ceil(MEASURED / max(time.perf_counter() - start, 1e-9)), 1), 1000)
    least = dict.fromkeys(functions, math.inf)
    until, rounds = time.perf_counter() + seconds, 0
    while rounds < LEAST_ROUNDS or time.perf_counter() < until:
        for key, function in functions.items():
            times = range(repeats[key])
            start = time.perf_counter()
            for _ in times:
                function()
            least[key] = min(least[key], (time.perf_counter() - start) / repeats[key])
        rounds += 1
    return {key: 1e3 * value for key, value in least.items()}


def split(full: float, other: float, slices: int, other_slices: int) -> tuple[float, float] | None:
    """(multiply, requantize) of a product that takes `full`, from what it takes with another number of input channels.

    The line t = a + b slices through both: b slices is what multiplying takes, a what is left without any input: adding
    the bias, requantizing, writing codes, and the call. None where noise leaves no such line.
    """
    slope = (full - other) / (slices - other_slices)
    multiply = slope * slices
    return (multiply, full - multiply) if 0 < multiply <= full else None
