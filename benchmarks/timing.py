"""Timing by turns: functions are called one after the other, again and again, so that other work of the machine slows all
of them alike. Absolute times change from day to day, but ratios of medians within one run are stable."""

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

SAMPLE = 2e-4       # the least seconds of a sample: short calls are repeated, so that reading the clock hardly counts
SAMPLES = 5         # the least number of samples of each function
TOLERANCE = {"float32": 1e-4, "float16 weights": 1e-2, "int8": 0.1}     # mean error / mean size
READS = 6           # how often memory is read in a turn of iterators
SETTLE = 0.02       # seconds until the threads of other libraries stop spinning and sleep


@dataclass(frozen=True)
class Timing:
    """The seconds of a call: the median and the quartiles of `samples`, each of which is the mean of `calls` calls."""

    median: float
    low: float
    high: float
    samples: int
    calls: int


def alternate(functions: Mapping[str, Callable[[], Any]], seconds: float, settle: float = 0) -> dict[str, Timing]:
    """Time all functions in turn, in the order given, until `seconds` have passed and each has SAMPLES samples.

    `settle` is the argument of tinyml.timing.time_by_turns.
    """
    with _no_collections():
        found = time_by_turns(functions, seconds, SAMPLES, sample_seconds=SAMPLE, settle=settle)
    return {name: _timing(samples.seconds, samples.calls) for name, samples in found.items()}


def pace(sequences: Mapping[str, Callable[[], Iterator[Any]]], seconds: float, settle: float = 0) -> dict[str, Timing]:
    """Time each iterator from one item to the next. The time to the first item does not count.

    A turn goes through a whole iterator, as a user does. There are turns until `seconds` have passed and each iterator has
    SAMPLES samples. The first turn of each is a warm-up that does not count.

    Args:
        settle: the seconds to pause before each turn. The threads are awake again by the first item.

    Raises:
        ValueError: an iterator has fewer than two items.
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
    """Switch garbage collection off while the block runs: a collection would slow only one of those that take turns."""
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
    """The times of one piece of work in tinyml and in its peers.

    Attributes:
        times: the time of each form: first that of tinyml, then "tinyml ..." for its other forms, and those of the peers.
        operations: the number of operations, two per multiply-add.
        nbytes: the least bytes that must be read and written.
        bound: the name of the peak that bounds the work: "fma", "dot4", "read", or "".
        limit: that peak in operations per second. For "read", in bytes per second: the median of reading as many bytes in
            turn with the work. None without a bound.
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
        """The median of tinyml's time."""
        return self.times["tinyml"].median

    @property
    def rate(self) -> float:
        """The operations per second."""
        return self.operations / self.seconds

    @property
    def share(self) -> float | None:
        """The share of the limit that tinyml reaches."""
        if self.limit is None:
            return None
        return (self.nbytes if self.bound == "read" else self.operations) / self.seconds / self.limit

    @property
    def ratios(self) -> dict[str, float]:
        """The time of each other form divided by tinyml's; above 1 tinyml is faster."""
        return {name: t.median / self.seconds for name, t in self.times.items() if name != "tinyml"}

    @property
    def faster_peer(self) -> float | None:
        """The fastest peer's time divided by tinyml's; None without peers."""
        return min((r for name, r in self.ratios.items() if not name.startswith("tinyml")), default=None)

    def figures(self) -> dict[str, Any]:
        """The fields and the figures that follow from them, for the JSON file."""
        return {**asdict(self), "rate": self.rate, "share": self.share, "ratios": self.ratios,
                "faster_peer": self.faster_peer}


def check(what: str, got: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Raise ValueError if the mean error of `got` is more than `tolerance` times the mean size of `expected`."""
    error = float(np.abs(got - expected).mean() / np.abs(expected).mean()) if got.shape == expected.shape else np.inf
    if not error <= tolerance:
        raise ValueError(f"{what}: expected the outputs that tinyml computes in float32, of shape {expected.shape}, within "
                         f"a mean error of {tolerance}; got shape {got.shape}, mean error {error:.3g}")


@dataclass
class Run:
    """What all subjects share: the peers, the number of threads, the seconds per row, and the limits of the machine."""

    threads: int
    seconds: float
    peers: list[Peer]
    roofline: Roofline

    def row(self, work: str, precision: str, prepared: dict[str, Prepared], expected: np.ndarray, operations: int = 0,
            nbytes: int = 0, bound: str = "", grad: bool = False) -> Row:
        """Check that all forms compute `expected`, then `time` them.

        Raises:
            ValueError: a form computes something else.
        """
        with nullcontext() if grad else tinyml.no_grad():
            for name, p in prepared.items():
                check(f"{work}, {precision}, {name}", p.array(p.call()), expected, TOLERANCE[precision])
        return self.time(work, precision, prepared, operations, nbytes, bound, grad)

    def time(self, work: str, precision: str, prepared: dict[str, Prepared], operations: int = 0, nbytes: int = 0,
             bound: str = "", grad: bool = False) -> Row:
        """Time all forms by turns; `bound` names the peak: "fma", "dot4", "read", or "" for none."""
        functions = {name: p.call for name, p in prepared.items()}
        if bound == "read":     # in turn with the forms, so that it has the same caches and the same disturbance
            functions["read"] = reader(nbytes, self.threads)
        with nullcontext() if grad else tinyml.no_grad():
            times = alternate(functions, self.seconds, SETTLE if self.threads > 1 else 0)
        limit = nbytes / times.pop("read").median if bound == "read" else self.roofline.limit(bound) if bound else None
        return _print_row(Row(work, precision, times, operations, nbytes, bound, limit))

    def pace(self, work: str, precision: str, sequences: dict[str, Callable[[], Iterator[Any]]], nbytes: int) -> Row:
        """Time each iterator per item, by turns; for one item `nbytes` must be read."""
        read = reader(nbytes, self.threads)
        times = pace({**sequences, "read": lambda: (read() for _ in range(READS))}, self.seconds,
                      SETTLE if self.threads > 1 else 0)
        return _print_row(Row(work, precision, times, 0, nbytes, "read", nbytes / times.pop("read").median))


def _print_row(row: Row) -> Row:
    """Print a row as soon as it is measured, because tables come at the end; return it."""
    print(f"{row.work}, {row.precision}: {1e3 * row.seconds:.4f} ms", file=sys.stderr, flush=True)
    return row
