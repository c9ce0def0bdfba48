"""Milliseconds of functions called in turn, and the figures of time that a report has of each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .._kernels.dispatch import active, threads_for
from ..timing import time_by_turns

Function = Callable[[], object]
Functions = dict[str, Function]
ROUNDS, REPEATS = 3, 3      # turns of each function at least, and measurements in a turn
SAMPLE_SECONDS = 10e-6      # that a measurement lasts at least: reading the clock takes about a hundredth of it


@dataclass
class StepTimes:
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


@dataclass
class Calls:
    """Milliseconds of one call of the model, of the least product there is, and of a kernel that next to nothing is shared
    out in among all threads: much only where something else keeps a core busy."""

    whole: float
    least: float
    team: float


CROWD, FEW_ROWS = 8, 16
BUSY = 0.05         # milliseconds for threads to begin and end together: some µs where each has a core


def team_call() -> Function:
    """A lookup of a few codes by all threads."""
    u, table, threads = np.zeros(256, np.uint8), np.zeros(256, np.uint8), threads_for(10**9)
    y = np.empty_like(u)
    return lambda: active.lookup(u, table, y, threads)


def time_parts(parts: list[Functions], whole: Function, least: Function,
               seconds: float) -> tuple[list[dict[str, float]], Calls]:
    """The least milliseconds of each function over turns that all of them take.

    Args:
        parts: What is timed of each step, or of each op.
        whole: A call of the model.
        least: The least product there is.
        seconds: How long to time.

    Returns:
        The times of `parts`, and those of the calls.
    """
    functions = {(at, name): f for at, mine in enumerate(parts) for name, f in mine.items()}
    of_calls = {(-1, "whole"): whole, (-1, "least"): least, (-1, "team"): team_call()}
    found: list[dict[str, float]] = [{} for _ in range(len(parts) + 1)]     # the last one is that of -1
    for (at, name), samples in time_by_turns(of_calls | functions, seconds, ROUNDS, REPEATS, SAMPLE_SECONDS).items():
        found[at][name] = 1e3 * min(samples.seconds)
    return found[:-1], Calls(**found[-1])


def split(full: float, other: float, slices: int, other_slices: int) -> tuple[float, float] | None:
    """(multiply, requantize) of a product that takes `full`, from what it takes with another number of input channels.

    On the line t = a + b slices through both times, b slices is what multiplying takes. a is what is left without any
    input: adding the bias, requantizing, writing codes, and the call. The result is None if noise leaves no such line.
    """
    slope = (full - other) / (slices - other_slices)
    multiply = slope * slices
    return (multiply, full - multiply) if 0 < multiply <= full else None
