"""Program: the steps of a plan, bound to memory for inputs of given shapes, so that a call does little else than compute.

`observe` runs the steps one by one and notes the shapes of their values. From these a Program places all values in one
arena, where values that are not needed at the same time share memory, and binds each step to its operands there.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from .._kernels import memory
from ..errors import OutOfMemoryError, ShapeError, TinymlError
from .arena import Life, empty, is_standard, most_alive, place, reshape_value, standard
from .steps import Step, describe_step


@dataclass(frozen=True)
class Layout:
    """The shapes, dtypes and views of the values of a run, for one batch size.

    Attributes:
        steps: the steps that ran.
        given, wanted: the values that come from the caller, and those that go back to it.
        batch: the batch size.
        shapes, dtypes: those of all values.
        views: for each result that is a view, the value that it views.
    """

    steps: list[Step]
    given: tuple[int, ...]
    wanted: tuple[int, ...]
    batch: int
    shapes: dict[int, tuple[int, ...]]
    dtypes: dict[int, np.dtype]
    views: dict[int, int]

    @property
    def memory(self) -> Memory:
        """The place of each value in memory; it is computed once.

        functools.cached_property is not used: up to Python 3.11 it holds a lock while it computes, and a process that
        another thread forks in that time would wait for the lock for ever.
        """
        found = self.__dict__.get("_memory")
        if found is None:
            found = self.__dict__["_memory"] = Memory(self)
        return found

    def at(self, batch: int) -> Layout:
        """The layout for another batch size, of steps that work sample by sample."""
        shapes = {v: (batch, *shape[1:]) for v, shape in self.shapes.items()}
        return self if batch == self.batch else replace(self, batch=batch, shapes=shapes)


def observe(steps: list[Step], given: dict[int, np.ndarray], wanted: tuple[int, ...],
            batch: int) -> tuple[list[np.ndarray], Layout]:
    """Run the steps that the wanted values need, one by one.

    Args:
        given: the values that come from the caller.
        wanted: the values to return.
        batch: the batch size.

    Returns:
        The wanted values, in memory of their own, and the Layout.
    """
    needed = set(wanted)
    ran: list[Step] = []
    for step in reversed(steps):
        if step.output in needed and step.output not in given:
            ran.append(step)
            needed.update(step.inputs)
    ran.reverse()
    last = {i: at for at, step in enumerate(ran) for i in step.inputs}
    values = {v: standard(x) for v, x in given.items()}
    shapes, dtypes = {v: x.shape for v, x in values.items()}, {v: x.dtype for v, x in values.items()}
    views: dict[int, int] = {}
    for at, step in enumerate(ran):
        y = run_step(step, [values[i] for i in step.inputs], batch)
        views.update((step.output, i) for i in step.inputs if np.may_share_memory(y, values[i]))
        values[step.output] = y = standard(y)
        shapes[step.output], dtypes[step.output] = y.shape, y.dtype
        for i in set(step.inputs).difference(wanted):
            if last[i] == at:
                del values[i]
    results = [values[w] for w in wanted]
    results = [y.copy("K") if any(np.may_share_memory(y, x) for x in given.values()) else y for y in results]
    return results, Layout(ran, tuple(given), wanted, batch, shapes, dtypes, views)


def run_step(step: Step, operands: list[np.ndarray], batch: int) -> np.ndarray:
    """The result of step.run(operands, batch).

    Loading a plan runs it once, unless its values are too large for that. A step of such a large plan may fail here for the
    first time.

    Raises:
        ShapeError, OutOfMemoryError: the step raised an error that is not tinyml's; the message names the step.
    """
    try:
        return step.run(operands, batch)
    except TinymlError:
        raise
    except Exception as error:
        kind = OutOfMemoryError if isinstance(error, MemoryError) else ShapeError
        raise kind(f"plan: {describe_step(step)} does not run on {', '.join(str(v.shape) for v in operands)}: "
                   f"{type(error).__name__}: {error}") from error


class Memory:
    """The place of each value of a Layout in memory.

    Attributes:
        batch: the batch size.
        nbytes: the bytes of the arena, which holds the results of the steps.
        least: the most bytes that are needed at one time; no arena can be smaller.
        total: the bytes that the results would take without sharing.
        begins: the offset in the arena of each value that has a place of its own there.
        outside: the values in the memory of the caller.
        fixed: the values that depend on no input.
    """

    def __init__(self, layout: Layout):
        self.batch = layout.batch
        self.outside = set(layout.given)
        self.fixed: set[int] = set()
        owners: dict[int, int] = {}         # value -> the value whose memory it lies in
        # these arrays stay empty: whether a step copies depends on shapes alone
        stand_ins = {v: empty(layout.shapes[v], layout.dtypes[v]) for v in layout.shapes}
        for step in layout.steps:
            out, source = step.output, layout.views.get(step.output)
            if self.fixed.issuperset(step.inputs):
                self.fixed.add(out)
            elif source is not None and self.outside.issuperset(step.inputs):
                self.outside.add(out)
            else:
                owners[out] = out
                if source in owners:
                    y = step.run([stand_ins[i] for i in step.inputs], layout.batch)
                    if is_standard(y) and np.may_share_memory(y, stand_ins[source]):
                        owners[out], stand_ins[out] = owners[source], y
        lives: dict[int, Life] = {}
        last = {i: at for at, step in enumerate(layout.steps) for i in step.inputs}
        last.update((w, len(layout.steps)) for w in layout.wanted)
        for at, step in enumerate(layout.steps):
            if step.output in owners:
                life = lives.setdefault(owners[step.output], Life(stand_ins[step.output].nbytes, at, at))
                life.last = max(life.last, last[step.output])
        self.begins, self.nbytes = place(lives)
        self.least, self.total = most_alive(lives), sum(life.nbytes for life in lives.values())

    def __str__(self) -> str:
        return (f"batch {self.batch}: values share {self.nbytes:,} bytes, of which {self.least:,} are needed at one time "
                f"and {self.total:,} would be without sharing")


def _unbound() -> None:
    """It stands for the call of a step that each run binds anew."""
    raise AssertionError("a step that reads the caller's memory was not bound")


class Program:
    """The steps of a Layout, bound to an arena of their own. A Program runs one call at a time."""

    def __init__(self, layout: Layout):
        self._layout, places = layout, layout.memory
        arena = memory.empty((places.nbytes,), np.uint8)
        self._values: dict[int, np.ndarray] = {}
        self._calls: list[Callable[[], object]] = []
        # the steps that read the caller's memory, with their place among the calls; None if their result stays outside too
        self._edges: list[tuple[int | None, Step]] = []
        for step in layout.steps:
            out = step.output
            if out in places.outside:
                self._edges.append((None, step))
                continue
            at_edge = not places.outside.isdisjoint(step.inputs)
            operands = [] if at_edge else [self._values[i] for i in step.inputs]
            if out not in places.begins:
                self._values[out] = standard(step.run(operands, layout.batch))
                continue
            shape, dtype, begin = layout.shapes[out], layout.dtypes[out], places.begins[out]
            self._values[out] = reshape_value(arena[begin : begin + prod(shape) * dtype.itemsize].view(dtype), shape)
            if at_edge:
                self._edges.append((len(self._calls), step))
                self._calls.append(_unbound)
            else:
                self._calls.append(step.bind(operands, layout.batch, self._values[out]))

    def run(self, given: list[np.ndarray], outputs: list[np.ndarray]) -> None:
        """Compute the wanted values from the given ones, and write them to `outputs`."""
        batch, calls = self._layout.batch, self._calls.copy()
        outside = dict(zip(self._layout.given, given))
        for at, step in self._edges:
            operands = [self._values[i] if i in self._values else outside[i] for i in step.inputs]
            if not step.any_memory:
                operands = [standard(x) for x in operands]
            if at is None:
                outside[step.output] = standard(step.run(operands, batch))
            else:
                calls[at] = step.bind(operands, batch, self._values[step.output])
        for call in calls:
            call()
        for w, y in zip(self._layout.wanted, outputs):
            np.copyto(y, self._values[w] if w in self._values else outside[w])


class Programs:
    """The layouts of one plan, and its programs that are not running.

    It keeps those of the last SHAPES kinds of calls, and at most IDLE programs for each kind. Threads may share it: each
    thread takes a program for itself, or makes one, and every change of a dictionary is a single operation of the
    interpreter. A copy of a plan starts without layouts and programs.
    """

    SHAPES, IDLE = 8, 4

    def __init__(self) -> None:
        self.layouts: dict[Hashable, Layout] = {}
        self.ready: dict[Hashable, tuple[Hashable, Layout]] = {}        # calls whose like was checked, see Plan._run
        self._idle: dict[Hashable, list[Program]] = {}

    def __reduce__(self) -> tuple[type[Programs], tuple[()]]:
        return Programs, ()

    def keep(self, key: Hashable, layout: Layout) -> None:
        """Keep the layout of a kind of call."""
        self._forget_oldest(self.layouts)
        self.layouts[key] = layout

    def expect(self, call: Hashable, key: Hashable, layout: Layout) -> None:
        """Remember that calls like this one run a program of the layout kept under `key`, with all samples at once."""
        self._forget_oldest(self.ready)
        self.ready[call] = key, layout

    def run(self, key: Hashable, layout: Layout, given: list[np.ndarray], outputs: list[np.ndarray]) -> None:
        """Run a program of the layout kept under `key`."""
        idle = self._idle.get(key)
        if idle is None:
            self._forget_oldest(self._idle)
            idle = self._idle.setdefault(key, [])
        try:
            program = idle.pop()
        except IndexError:
            program = Program(layout)
        try:
            program.run(given, outputs)
        finally:
            if len(idle) < self.IDLE:
                idle.append(program)

    def _forget_oldest(self, kept: dict[Hashable, Any]) -> None:
        for key in list(kept)[: max(len(kept) + 1 - self.SHAPES, 0)]:
            kept.pop(key, None)
