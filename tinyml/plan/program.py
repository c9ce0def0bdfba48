"""Program: the steps of a plan bound to memory for inputs of given shapes, so that a call computes and does little else.

`observe` runs steps one by one and notes the shapes of their values. From those a Program places all values in one arena,
where values that do not live at the same time share memory, and binds each step to its operands there.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from .._kernels import memory
from ..errors import OutOfMemoryError, ShapeError, TinymlError
from .arena import Life, empty, is_standard, most_alive, place, shaped, standard
from .steps import Step, describe_step


@dataclass(frozen=True)
class Layout:
    """What a run of steps showed of their values, all for one batch size.

    `given` come from the caller, `wanted` go back to it; `views` has, for what a step did not copy, the value it views.
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
        """Where the values lie; computed once.

        Without functools.cached_property, which up to Python 3.11 holds a lock meanwhile: a child that is forked by another
        thread would wait for ever.
        """
        found = self.__dict__.get("_memory")
        if found is None:
            found = self.__dict__["_memory"] = Memory(self)
        return found

    def at(self, batch: int) -> Layout:
        """The same of steps that work sample by sample, for another batch size."""
        shapes = {v: (batch, *shape[1:]) for v, shape in self.shapes.items()}
        return self if batch == self.batch else replace(self, batch=batch, shapes=shapes)


def observe(steps: list[Step], given: dict[int, np.ndarray], wanted: tuple[int, ...],
            batch: int) -> tuple[list[np.ndarray], Layout]:
    """Run the steps that `wanted` values need, one by one; those values, in their own memory, and the Layout."""
    needed, ran = set(wanted), []
    for step in reversed(steps):
        if step.output in needed and step.output not in given:
            ran.append(step)
            needed.update(step.inputs)
    ran.reverse()
    last = {i: at for at, step in enumerate(ran) for i in step.inputs}
    values = {v: standard(x) for v, x in given.items()}
    shapes, dtypes, views = {v: x.shape for v, x in values.items()}, {v: x.dtype for v, x in values.items()}, {}
    for at, step in enumerate(ran):
        y = ran_once(step, [values[i] for i in step.inputs], batch)
        views.update((step.output, i) for i in step.inputs if np.may_share_memory(y, values[i]))
        values[step.output] = y = standard(y)
        shapes[step.output], dtypes[step.output] = y.shape, y.dtype
        for i in set(step.inputs).difference(wanted):
            if last[i] == at:
                del values[i]
    results = [values[w] for w in wanted]
    results = [y.copy("K") if any(np.may_share_memory(y, x) for x in given.values()) else y for y in results]
    return results, Layout(ran, tuple(given), wanted, batch, shapes, dtypes, views)


def ran_once(step: Step, operands: list[np.ndarray], batch: int) -> np.ndarray:
    """step.run(operands, batch). A plan whose file says that it is too large to be run was never tried before it is called.

    Raises:
        ShapeError, OutOfMemoryError: naming the step, whatever it raises that is not tinyml's.
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
    """Where the values of a Layout lie.

    Attributes:
        nbytes: bytes of the arena that holds what steps compute; `least` of them are needed at one time, and `total`
            would be without sharing.
        begins: where in the arena each value begins that has a place of its own there.
        outside: values in the caller's memory; `fixed`: values that depend on no input.
    """

    def __init__(self, layout: Layout):
        self.batch = layout.batch
        self.outside, self.fixed = set(layout.given), set()
        owners: dict[int, int] = {}         # value -> the one whose memory it lies in
        # arrays that nobody fills: whether a step copies depends on shapes alone
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


class Program:
    """A Layout's steps bound to an arena; runs one call at a time."""

    def __init__(self, layout: Layout):
        self._layout, places = layout, layout.memory
        arena = memory.empty((places.nbytes,), np.uint8)
        self._values: dict[int, np.ndarray] = {}
        self._calls: list[Callable[[], object] | None] = []
        self._edges: list[tuple[int | None, Step]] = []     # steps that read the caller's memory, and the calls they are
        for step in layout.steps:
            out, operands = step.output, [self._values.get(i) for i in step.inputs]
            if out in places.outside:
                self._edges.append((None, step))
                continue
            if out not in places.begins:
                self._values[out] = standard(step.run(operands, layout.batch))
                continue
            shape, dtype, begin = layout.shapes[out], layout.dtypes[out], places.begins[out]
            self._values[out] = shaped(arena[begin : begin + prod(shape) * dtype.itemsize].view(dtype), shape)
            if places.outside.isdisjoint(step.inputs):
                self._calls.append(step.bind(operands, layout.batch, self._values[out]))
            else:
                self._edges.append((len(self._calls), step))
                self._calls.append(None)

    def run(self, given: list[np.ndarray], outputs: list[np.ndarray]) -> None:
        """Compute the wanted values of the given ones, into `outputs`."""
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
    """The layouts and idle programs of one plan: of the few shapes it was called with last, a few programs each.

    Threads may share it: each takes a program for itself, or makes one. All that touches the dictionaries is one operation
    of the interpreter. A copy of a plan starts with none.
    """

    SHAPES, IDLE = 8, 4

    def __init__(self) -> None:
        self.layouts: dict[Hashable, Layout] = {}
        self.ready: dict[Hashable, tuple[Hashable, Layout]] = {}        # calls that need no more checks, see Plan._run
        self._idle: dict[Hashable, list[Program]] = {}

    def __reduce__(self):
        return Programs, ()

    def keep(self, key: Hashable, layout: Layout) -> None:
        """Keep the layout of a kind of call."""
        self._forget_oldest(self.layouts)
        self.layouts[key] = layout

    def expect(self, call: Hashable, key: Hashable, layout: Layout) -> None:
        """Remember that a call runs a program of the layout that is `key`'s, all samples at once."""
        self._forget_oldest(self.ready)
        self.ready[call] = key, layout

    def run(self, key: Hashable, layout: Layout, given: list[np.ndarray], outputs: list[np.ndarray]) -> None:
        """Run a program of the layout that is `key`'s."""
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

    def _forget_oldest(self, kept: dict) -> None:
        for key in list(kept)[: max(len(kept) + 1 - self.SHAPES, 0)]:
            kept.pop(key, None)
