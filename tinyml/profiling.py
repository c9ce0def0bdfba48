"""Where the time of a model goes: what each op took, forward and backward, and at what share of the machine's peak."""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np

from . import checks
from ._kernels.dispatch import active, threads_for
from .errors import FileError, TinymlError
from .nn.module import Module
from .ops import Op
from .tables import layout
from .tape import Context, Node, state
from .timing import least_time

Event = tuple[str, str, float, float]       # name, category, start, seconds


@dataclass
class Row:
    """What all calls of one op took in one phase.

    Attributes:
        op: the name of the op.
        phase: "forward", "backward", or "int8" for an op's integer rule.
        peak: the operations per second that the machine can do at most.
        calls: the number of calls.
        seconds: the time of all calls, without that of ops that ran within them.
        bytes: the bytes of operands and results, and in backward of the saved arrays.
        flops: the number of operations, two per multiply-add; None if the op counts none (`Op.flops`).
    """

    op: str
    phase: str
    peak: float
    calls: int = 0
    seconds: float = 0.0
    bytes: int = 0
    flops: float | None = None

    @property
    def gflops(self) -> float | None:
        """10^9 operations per second."""
        return None if self.flops is None else self.flops / max(self.seconds, 1e-12) / 1e9

    @property
    def share(self) -> float | None:
        """The share of the peak that was reached, 0 to 1."""
        return None if self.gflops is None else 1e9 * self.gflops / self.peak


class profile:
    """Measure the ops that this Python thread runs within a `with` block, and print them at its end, the longest first.

    Args:
        trace: a file to write the events to, which chrome://tracing shows; None for none.

    Raises:
        TinymlError: it is entered within another profile of this thread, or a second time.

    Attributes:
        rows: the figures of each op, a list of `Row`.
        seconds: the time of the whole block.
        outside: the part of it that was spent outside ops.

    Example:
        >>> import tinyml
        >>> with tinyml.profile() as p:     # doctest: +ELLIPSIS
        ...     y = tinyml.Tensor([1.0, 2.0]).exp()
        op           phase    calls ...
        >>> [(row.op, row.phase, row.calls) for row in p.rows]
        [('exp', 'forward', 1)]
    """

    def __init__(self, trace: Any = None):
        self.trace = None if trace is None else checks.path("profile", trace, "trace")
        if self.trace is not None and os.path.isdir(self.trace or "."):
            raise FileError(f"profile: expected trace to be a file, got the folder {self.trace!r}")
        self.rows: list[Row] = []
        self.seconds = self.outside = 0.0
        self._found: dict[tuple[str, str], Row] = {}
        self._events: list[Event] = []
        self._inner = 0.0       # seconds of the ops that ran within the one that runs
        self._start = 0.0
        self._used = False

    def __enter__(self) -> profile:
        if state.profiler is not None:
            raise TinymlError("profile: this thread is being profiled already; a profile cannot be within another")
        if self._used:
            raise TinymlError("profile: this one was used already; make a new one")
        self._peak = _peak(threads_for(10**9))
        state.profiler, state.modules = self, _Layers(state.modules, self._events)
        self._used, self._start = True, time.perf_counter()
        return self

    def __exit__(self, kind: Any, *error: Any) -> None:
        self.seconds = time.perf_counter() - self._start
        state.profiler, state.modules = None, list(state.modules)
        self._events.append(("profile", "profile", self._start, self.seconds))
        self.rows = sorted(self._found.values(), key=lambda row: -row.seconds)
        self.outside = self.seconds - sum(row.seconds for row in self.rows)
        if self.trace is not None:
            self.chrome_trace(self.trace)
        if kind is None:
            print(self)

    # -- called by apply and backward ---------------------------------------------------------------------------------
    def forward(self, op: type[Op], context: Context, arrays: list[Any], attrs: dict[str, Any]) -> np.ndarray:
        """Run and measure the forward of an op.

        Args:
            op: the class of the op.
            context: where its forward saves what its backward needs.
            arrays: its operands.
            attrs: its attributes.

        Returns:
            The result of op.forward.
        """
        result: np.ndarray
        result, row = self._time(op.name, "forward", lambda: op.forward(context, *arrays, **attrs))
        row.bytes += _nbytes([*arrays, result])
        flops = op.flops(result, *arrays, **attrs)
        if flops is not None:
            context.flops = flops
            row.flops = (row.flops or 0) + flops
        return result

    def run_int8(self, op: type[Op], inputs: tuple[Any, ...], attrs: dict[str, Any]) -> Any:
        """Run and measure the integer rule of an op.

        Args:
            op: the class of the op.
            inputs: its operands, as Tensors.
            attrs: its attributes.

        Returns:
            The result of op.quantized.
        """
        result, row = self._time(op.name, "int8", lambda: op.run_int8(*inputs, **attrs))
        row.bytes += sum(t.nbytes for t in (*inputs, result) if t is not None)
        return result

    def backward(self, node: Node, grad: np.ndarray) -> Any:
        """Run and measure the backward of an op.

        Args:
            node: the node of the tape whose op is differentiated.
            grad: the gradient of the node's result.

        Returns:
            The gradients of the operands, as op.backward returns them.
        """
        saved = [v for v in vars(node.context).values() if isinstance(v, np.ndarray)]
        result, row = self._time(node.op.name, "backward", lambda: node.op.backward(node.context, grad))
        row.bytes += _nbytes([grad, *saved, *(result if isinstance(result, tuple) else ())])
        flops = getattr(node.context, "flops", None)
        if flops is not None:
            row.flops = (row.flops or 0) + node.op.backward_flops(node.context.needs) * flops
        return result

    def _time(self, name: str, phase: str, call: Callable[[], Any]) -> tuple[Any, Row]:
        outer, self._inner = self._inner, 0.0
        start = time.perf_counter()
        result = call()
        seconds = time.perf_counter() - start
        row = self._found.setdefault((name, phase), Row(name, phase, self._peak))
        row.calls += 1
        row.seconds += seconds - self._inner
        self._inner = outer + seconds
        self._events.append((f"{name} backward" if phase == "backward" else name, phase, start, seconds))
        return result, row

    # -- what it found ------------------------------------------------------------------------------------------------
    def chrome_trace(self, path: Any) -> None:
        """Write the events to a JSON file that chrome://tracing shows: ops within layers within the profile.

        Args:
            path: the file to write.
        """
        events = [{"name": name, "cat": category, "ph": "X", "ts": 1e6 * (start - self._start), "dur": 1e6 * seconds,
                   "pid": 0, "tid": threading.get_ident()} for name, category, start, seconds in self._events]
        Path(path).write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}), encoding="utf-8")

    def __str__(self) -> str:
        def row(name: str, seconds: float, phase: str = "", calls: str = "", *rest: str) -> list[str]:
            cells = [name, phase, calls, f"{1e3 * seconds:.2f}", f"{seconds / max(self.seconds, 1e-12):.1%}", *rest]
            return cells + [""] * (len(head) - len(cells))

        head = ["op", "phase", "calls", "ms", "time", "MB", "GB/s", "GFLOPS", "peak"]
        rows = [row(r.op, r.seconds, r.phase, str(r.calls), f"{r.bytes / 1e6:.1f}",
                    f"{r.bytes / max(r.seconds, 1e-12) / 1e9:.1f}",
                    *([] if r.flops is None else [f"{r.gflops:.1f}", f"{r.share:.0%}"])) for r in self.rows]
        return layout([head, *rows, row("outside ops", self.outside), row("total", self.seconds)], (0, 1), rules=())


class _Layers(list[Module]):
    """The stack of running layers, which notes when each began and ended."""

    def __init__(self, modules: list[Module], events: list[Event]):
        super().__init__(modules)
        self.events = events
        self.starts: list[float] = []

    def append(self, module: Module) -> None:
        super().append(module)
        self.starts.append(time.perf_counter())

    def pop(self, at: SupportsIndex = -1) -> Module:
        module = super().pop(at)
        if self.starts:     # else it began before the profile
            start = self.starts.pop()
            kind = type(module).__name__
            self.events.append((f"{module._name}: {kind}" if module._name else kind, "layer", start,
                                time.perf_counter() - start))
        return module


def _nbytes(arrays: list[Any]) -> int:
    """Bytes of the distinct arrays among these."""
    return sum(a.nbytes for a in {id(a): a for a in arrays if a is not None}.values())


@functools.cache
def _peak(threads: int) -> float:
    """float32 operations per second that the machine can do at most: the best of some runs of the probe kernel."""
    rows, columns, rounds = 96 * threads, 64, 2000      # whole tiles of every instruction set
    start, w = np.zeros((rows, columns), np.float32), np.full(columns, 0.5, np.float32)
    y = np.empty_like(start)
    least = least_time(lambda: active.probe_fma_f32(start, 0.5, w, y, rounds, threads), calls=40)
    return 2 * rows * columns * rounds / least
