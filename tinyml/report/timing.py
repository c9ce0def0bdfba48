"""The times of each step in a report, and how they are measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .._kernels.dispatch import active, threads_for
from ..timing import time_by_turns

Function = Callable[[], object]
Functions = dict[str, Function]
ROUNDS, REPEATS = 3, 3      # the least number of turns of each function, and the measurements in a turn
SAMPLE_SECONDS = 10e-6      # the least duration of a measurement: reading the clock takes about a hundredth of it


@dataclass
class StepTimes:
    """Milliseconds of one step, or of one op, for the batch, and figures from which a reason for no gain is derived.

    Attributes:
        quantize: the time to turn floats into codes and back.
        multiply, requantize: the times of the two parts of an integer product. If they cannot be separated, multiply is
            the time of both, and `together` says why.
        other: the rest of the time.
        float32: the time of the same step in float32; None if that cannot be run.
        together: why multiply and requantize are not separated; "" if they are.
        narrow: whether it computes with codes, or reads weights stored as float16.
        rows, terms: the number of outputs per channel of an integer product, and the number of products in each sum.
        crowd: the product's time for CROWD times as many rows, measured if rows are few.
        copy: the time to copy as many bytes as the step reads and writes, measured if it has no weights.
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

    Attributes:
        whole: the time of a call of the model.
        least: the time of a call of the smallest product.
        team: the time of a kernel that has almost no work for all threads. It is long only if another program keeps a core
            busy.
    """

    whole: float
    least: float
    team: float


CROWD, FEW_ROWS = 8, 16     # the factor by which rows are multiplied, and the most rows that are few
BUSY = 0.05         # milliseconds for threads to begin and end together; they take some µs if each has a core


def team_call() -> Function:
    """A function that looks up a few codes on all threads."""
    u, table, threads = np.zeros(256, np.uint8), np.zeros(256, np.uint8), threads_for(10**9)
    y = np.empty_like(u)
    return lambda: active.lookup(u, table, y, threads)


def time_parts(parts: list[Functions], whole: Function, least: Function,
               seconds: float) -> tuple[list[dict[str, float]], Calls]:
    """The least milliseconds of each function, where all functions take turns.

    Args:
        parts: the functions of each step, or of each op.
        whole: a call of the model.
        least: a call of the smallest product.
        seconds: how long to time, in seconds.

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
    """(multiply, requantize) of a product that takes `full`, from its time `other` with another number of input channels.

    On the line t = a + b slices through both times, b slices is the time to multiply. a is the time that is left without
    any input: adding the bias, requantizing, writing codes, and the call. The result is None if noise leaves no such line.
    """
    slope = (full - other) / (slices - other_slices)
    multiply = slope * slices
    return (multiply, full - multiply) if 0 < multiply <= full else None
