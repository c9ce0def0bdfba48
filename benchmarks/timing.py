"""Timing by turns: functions are called one after the other, again and again, so that whatever else the machine does
slows all of them alike. Absolute times move from day to day; ratios of medians within one run hold."""

from __future__ import annotations

import gc
import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any

import numpy as np

import tinyml

from .peers import Peer, Prepared
from .roofline import Roofline, reader

SAMPLE = 2e-4       # seconds a sample lasts at least: short calls are repeated, so that reading the clock costs nothing
SAMPLES = 5         # samples of each function at least, whatever the time
TOLERANCE = {"float32": 1e-4, "float16 weights": 1e-2, "int8": 0.1}     # mean error / mean size: all do the same work
SETTLE = 0.02       # seconds after which threads of other libraries, which wait by spinning, have gone to sleep


@dataclass(frozen=True)
class Timing:
    """Seconds of a call: median and quartiles of `samples`, each the mean of `calls` calls."""

    median: float
    low: float
    high: float
    samples: int
    calls: int


def _seconds(function: Callable[[], Any], calls: int) -> float:
    """Mean time of a call."""
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def alternate(functions: Mapping[str, Callable[[], Any]], seconds: float, settle: float = 0) -> dict[str, Timing]:
    """Time all functions in turn, in the order given, until `seconds` have gone by and each has SAMPLES samples.

    Args:
        settle: pause this long before each sample, then call as long without timing. For several threads: those of a
            library that has just run still spin on the cores that the next one needs, and threads that wake share one
            core until the system spreads them.
    """
    calls, found = {}, {name: [] for name in functions}
    for name, function in functions.items():
        function()      # the first call allocates, and tunes in some libraries
        calls[name] = max(1, math.ceil(SAMPLE / max(_seconds(function, 1), 1e-9)))
    enabled = gc.isenabled()
    gc.disable()        # a collection would hit one of them
    try:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(next(iter(found.values()))) < SAMPLES:
            for name, function in functions.items():
                if settle:
                    time.sleep(settle)
                    warm = time.perf_counter() + settle
                    while time.perf_counter() < warm:
                        function()
                found[name].append(_seconds(function, calls[name]))
    finally:
        if enabled:
            gc.enable()
    timings = {}
    for name, samples in found.items():
        low, _, high = quantiles(samples, n=4)
        timings[name] = Timing(median(samples), low, high, len(samples), calls[name])
    return timings


@dataclass
class Row:
    """One piece of work as tinyml and others do it.

    `times` starts with tinyml's; "tinyml ..." are other forms of its own, the rest are peers. `operations` are two a
    multiply-add; `nbytes` is what must be read and written at least. `limit` is the peak that bounds the work, in
    operations a second, or where `bound` is "read" bytes a second, the median of reading as many by turns with the rest;
    None where nothing of the machine bounds it.
    """

    work: str
    precision: str
    times: dict[str, Timing]
    operations: int = 0
    nbytes: int = 0
    bound: str = ""
    limit: float | None = None
    note: str = ""

    @property
    def seconds(self) -> float:
        """Median of tinyml's time."""
        return self.times["tinyml"].median

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.operations / self.seconds

    @property
    def share(self) -> float | None:
        """How much of the limit is reached."""
        if self.limit is None:
            return None
        return (self.nbytes if self.bound == "read" else self.operations) / self.seconds / self.limit

    @property
    def ratios(self) -> dict[str, float]:
        """The others' time / tinyml's: above 1 where tinyml is faster."""
        return {name: t.median / self.seconds for name, t in self.times.items() if name != "tinyml"}

    @property
    def faster_peer(self) -> float | None:
        """The fastest peer's time / tinyml's; None without peers."""
        return min((r for name, r in self.ratios.items() if not name.startswith("tinyml")), default=None)

    def figures(self) -> dict[str, Any]:
        """All of it and what follows from it, for the JSON file."""
        return {**asdict(self), "rate": self.rate, "share": self.share, "ratios": self.ratios,
                "faster_peer": self.faster_peer}


def check(what: str, got: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Raise ValueError unless `got` is `expected` but for a mean error of `tolerance` times the mean size."""
    error = float(np.abs(got - expected).mean() / np.abs(expected).mean()) if got.shape == expected.shape else np.inf
    if not error <= tolerance:
        raise ValueError(f"{what}: expected the outputs that tinyml computes in float32, of shape {expected.shape}, within "
                         f"a mean error of {tolerance}; got shape {got.shape}, mean error {error:.3g}")


@dataclass
class Run:
    """What all subjects share: the peers, prepared for `threads`; seconds a row; the limits of the machine."""

    threads: int
    seconds: float
    peers: list[Peer]
    roofline: Roofline

    def row(self, work: str, precision: str, prepared: dict[str, Prepared], expected: np.ndarray, operations: int = 0,
            nbytes: int = 0, bound: str = "", grad: bool = False) -> Row:
        """Check that all compute `expected`, then `time` them.

        Raises:
            ValueError: one computes something else.
        """
        with nullcontext() if grad else tinyml.no_grad():
            for name, p in prepared.items():
                check(f"{work}, {precision}, {name}", p.array(p.call()), expected, TOLERANCE[precision])
        return self.time(work, precision, prepared, operations, nbytes, bound, grad)

    def time(self, work: str, precision: str, prepared: dict[str, Prepared], operations: int = 0, nbytes: int = 0,
             bound: str = "", grad: bool = False) -> Row:
        """Time all by turns; `bound` names the peak: "fma", "dot4", "read", none."""
        functions = {name: p.call for name, p in prepared.items()}
        if bound == "read":     # by turns with the rest: caches hold as much of what is read, and others slow it as much
            functions["read"] = reader(nbytes, self.threads)
        with nullcontext() if grad else tinyml.no_grad():
            times = alternate(functions, self.seconds, SETTLE if self.threads > 1 else 0)
        limit = nbytes / times.pop("read").median if bound == "read" else self.roofline.limit(bound) if bound else None
        row = Row(work, precision, times, operations, nbytes, bound, limit)
        print(f"{work}, {precision}: {1e3 * row.seconds:.4f} ms", file=sys.stderr, flush=True)      # tables come at the end
        return row
