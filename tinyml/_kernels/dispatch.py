"""Chooses, when it is imported, the instruction set that the kernels run on, and holds the number of threads.

`TINYML_ISA` overrides the choice. `load` gives the kernels of any instruction set that this machine runs.
"""

from __future__ import annotations

import importlib
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from ..errors import ShapeError
from . import is_built, reference, table


def available() -> list[str]:
    """The instruction sets that this CPU runs and that were compiled (old compilers lack some), best first."""
    features, folder = cpu.features(), Path(__file__).parent
    return [isa for isa in table.isas_for(platform.machine())
            if features.issuperset(table.ISAS[isa]["features"]) and is_built(table.compiled(isa, table.DOT4[0]), folder)]


def choose() -> str:
    """The best instruction set, or the one that TINYML_ISA names.

    Raises:
        ImportError: TINYML_ISA names one that this machine cannot run.
    """
    wanted = os.environ.get("TINYML_ISA")
    if wanted is None:
        return available()[0]
    if wanted not in available():
        raise ImportError(f"TINYML_ISA={wanted}: expected one of {', '.join(available())} on this CPU")
    return wanted


def load(isa: str) -> SimpleNamespace:
    """All kernels of the table, compiled for `isa`, as attributes of one namespace."""
    kernels = SimpleNamespace(isa=isa)
    modules = {name: importlib.import_module(table.module(table.compiled(isa, name))) for name in table.KERNELS}
    for name, functions in table.KERNELS.items():
        for function in functions:
            setattr(kernels, function, getattr(modules[name], function))
    products = modules["products/product_int8"]
    kernels.panel_for, kernels.lanes, kernels.offset = products.panel_for, products.lanes(), products.offset()
    kernels.decode_step = modules["attention/decode"].DecodeStep
    kernels.bound_int8, kernels.bound_f32 = products.BoundProduct, modules["products/product_f32"].BoundProduct
    return kernels


def kernels_for(dtype: np.dtype[Any]) -> SimpleNamespace | ModuleType:
    """The kernels for arrays of floats: the compiled ones for float32, else their specification in reference/."""
    return active if dtype == np.float32 else reference


@contextmanager
def _short_spin() -> Iterator[None]:
    """While this is entered, OpenMP is loaded so that its waiting threads spin for a millisecond or two at most, then
    sleep.

    By default libgomp spins for some 15 ms. On a machine that other processes use too, waiting threads then take the time
    that the others need: a training step took 20 times as long beside two test suites. A tenth of these 1 or 2 ms is better
    there, but on an idle machine a thread that sleeps so soon may wake on the core of the other one: decoding on two
    threads was then 1.6 times as fast as on one in some runs, and a third as fast in others. Afterwards the environment is
    as it was before. A GOMP_SPINCOUNT or OMP_WAIT_POLICY that the user has set is respected.
    """
    if "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ:
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = "30000"
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]


with _short_spin():
    from . import cpu

    active = load(choose())

_SMALL = 1_000_000  # work for which starting threads costs more than it gains: multiply-adds, or 16 for each element
MOST_THREADS = max(64, 4 * (os.cpu_count() or 1))   # more threads only take memory from each other
_threads = min(cpu.threads(), MOST_THREADS)
_forked = False


class _Team(threading.local):
    """The OpenMP threads of one Python thread: the most that were asked for, and how many of them the system let start."""

    asked = started = 1

    def start(self, n: int) -> int:
        """Start `n` threads, or as many as the system allows. Returns how many."""
        if self.asked < n:
            self.asked, self.started = n, cpu.team(n)
        return min(n, self.started)


_team = _Team()


def set_num_threads(n: int) -> None:
    """Set how many threads kernels use for large work. Results do not depend on it.

    At first it is OMP_NUM_THREADS, or one for each CPU that the process may use. Where the system does not let the kernels
    of a Python thread start so many, they use fewer.

    Args:
        n: at least 1 and at most four per CPU of the machine, or 64 if that is more.

    Raises:
        ShapeError: n is another number, or the system does not let this process start so many threads.
    """
    global _threads
    if not isinstance(n, (int, np.integer)) or isinstance(n, bool) or not 1 <= n <= MOST_THREADS:
        raise ShapeError(f"set_num_threads: expected a whole number of at least 1 and at most {MOST_THREADS}, got "
                         f"{n!r:.80}")
    n = int(n)
    started = 1 if _forked else _team.start(n)
    if started < n and not _forked:
        raise ShapeError(f"set_num_threads: the system lets this process start {started} of {n} threads (ulimit -u, ulimit "
                         "-v or the limits of its container): use so many, or raise the limit")
    _threads = n


def get_num_threads() -> int:
    """How many threads kernels use for large work."""
    return 1 if _forked else _threads


def threads_for(work: int) -> int:
    """How many threads a kernel uses that does `work` multiply-adds: one where that is little, or in a forked child."""
    if _forked or work < _SMALL:
        return 1
    return _threads if _threads <= _team.started else _team.start(_threads)


def _in_child() -> None:
    # libgomp's threads do not survive a fork, and starting new ones in the child hangs
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def config() -> dict[str, Any]:
    """What the kernels run on: instruction set, those available, threads, whether OpenMP is used, machine."""
    return {"isa": active.isa, "available": available(), "threads": get_num_threads(), "openmp": cpu.openmp(),
            "machine": platform.machine()}


def show_config() -> None:
    """Print what the kernels run on."""
    c = config()
    print(f"tinyml kernels: {c['isa']} (of {', '.join(c['available'])}) on {c['machine']}, {c['threads']} threads"
          f"{'' if c['openmp'] else ', built without OpenMP'}")
