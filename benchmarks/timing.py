"""Timing by turns: functions are called one after the other, again and again, so that whatever else the machine does
slows all of them alike. Absolute times move from day to day; ratios of medians within one run hold."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any

import numpy as np

import tinyml
from tinyml.timing import take_turns, time_by_turns

from .peers.peer import Peer
from .prepared import Prepared
from .roofline import Roofline, reader

SAMPLE = 2e-4       # seconds a sample lasts at least: short calls are repeated, so that reading the clock costs nothing
SAMPLES = 5         # samples of each function at least, whatever the time
TOLERANCE = {"float32": 1e-4, "float16 weights": 1e-2, "int8": 0.1}     # mean error / mean size: all do the same work
READS = 6           # times that memory is read in a turn of iterators
SETTLE = 0.02       # seconds after which threads of other libraries, which wait by spinning, have gone to sleep


@dataclass(frozen=True)
class Timing:
    """Seconds of a call: median and quartiles of `samples`, each the mean of `calls` calls."""

    median: float
    low: float
    high: float
    samples: int
    calls: int


def alternate(functions: Mapping[str, Callable[[], Any]], seconds: float, settle: float = 0) -> dict[str, Timing]:
    """Time all functions in turn, in the order given, until `seconds` have gone by and each has SAMPLES samples.

    `settle` is that of tinyml.timing.time_by_turns.
    """
    with _no_collections():
        found = time_by_turns(functions, seconds, SAMPLES, sample_seconds=SAMPLE, settle=settle)
    return {name: _timing(samples.seconds, samples.calls) for name, samples in found.items()}


def pace(sequences: Mapping[str, Callable[[], Iterator[Any]]], seconds: float, settle: float = 0) -> dict[str, Timing]:
    """Time what each iterator takes from one item to the next; its first item, with what leads up to it, does not count.

    A turn goes through a whole iterator, as a user does, until `seconds` have gone by and each has SAMPLES samples. One
    turn of each before them does not count.

    Args:
        settle: pause this long before each turn; the way to the first item wakes threads.

    Raises:
        ValueError: an iterator of fewer than two items.
    """
    def turn(name: str) -> list[float]:
        time.sleep(settle)
        times = [time.perf_counter() for _ in sequences[name]()]
        if len(times) < 2:
            raise ValueError(f"{name}: expected an iterator of at least two items, got {len(times)}")
        return [after - before for before, after in zip(times, times[1:])]

    with _no_collections():
        for name in sequences:
            turn(name)
        found = take_turns({name: lambda name=name: turn(name) for name in sequences}, seconds, SAMPLES)
    return {name: _timing(samples, 1) for name, samples in found.items()}


@contextmanager
def _no_collections() -> Iterator[None]:
    """Without garbage collections, of which one would hit one of those that take turns."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _timing(samples: list[float], calls: int) -> Timing:
    low, _, high = quantiles(samples, n=4)
    return Timing(median(samples), low, high, len(samples), calls)


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
        return _tell(Row(work, precision, times, operations, nbytes, bound, limit))

    def pace(self, work: str, precision: str, sequences: dict[str, Callable[[], Iterator[Any]]], nbytes: int) -> Row:
        """Time by turns what each iterator takes an item, for which `nbytes` must be read."""
        read = reader(nbytes, self.threads)
        times = pace({**sequences, "read": lambda: (read() for _ in range(READS))}, self.seconds,
                      SETTLE if self.threads > 1 else 0)
        return _tell(Row(work, precision, times, 0, nbytes, "read", nbytes / times.pop("read").median))


def _tell(row: Row) -> Row:
    """The row, told at once: tables come at the end."""
    print(f"{row.work}, {row.precision}: {1e3 * row.seconds:.4f} ms", file=sys.stderr, flush=True)
    return row
