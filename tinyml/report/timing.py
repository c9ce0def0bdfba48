"""The times that a report has of each step, and how they are measured."""

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
    """Milliseconds of one step, or of one op, for the batch, and what a reason for no gain is derived from.

    quantize: Turning floats into codes and back.
    multiply, requantize: The two parts of an integer product. They are only told apart if `together` is ""; else multiply
        has both, and `together` says why.
    other: What is neither.
    float32: The same in float32; None if that cannot be run.
    narrow: Whether it computes with codes, or reads weights stored as float16.
    rows, terms: The number of outputs per channel of an integer product, and the number of products in each sum.
    crowd: The product's time for CROWD times as many rows, measured if rows are few.
    copy: The time to copy as many bytes as the step reads and writes, measured if it has no weights.
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
        """The sum of all parts."""
        return self.quantize + self.multiply + self.requantize + self.other


@dataclass
class Calls:
    """Milliseconds of calls.

    whole: Of the model.
    least: Of the smallest product there is.
    team: Of a kernel with next to nothing to do for all threads, which is much only if something else keeps a core busy.
    """

    whole: float
    least: float
    team: float


CROWD, FEW_ROWS = 8, 16     # how many times as many rows are timed, and how many rows are few
BUSY = 0.05         # milliseconds for threads to begin and end together; some µs if each has a core


def team_call() -> Function:
    """A function that looks up a few codes on all threads."""
    u, table, threads = np.zeros(256, np.uint8), np.zeros(256, np.uint8), threads_for(10**9)
    y = np.empty_like(u)
    return lambda: active.lookup(u, table, y, threads)


def time_parts(parts: list[Functions], whole: Function, least: Function,
               seconds: float) -> tuple[list[dict[str, float]], Calls]:
    """The least milliseconds of each function over turns that all of them take.

    Args:
        parts: what is timed of each step, or of each op.
        whole: a call of the model.
        least: a call of the smallest product there is.
        seconds: how long to time.

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
