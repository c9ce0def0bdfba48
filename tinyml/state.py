"""What differs between Python threads while ops run: whether gradients are noted, who listens, which layers are running."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar


class GradMode(IntEnum):
    """What an op notes of a result that depends on a gradient. Only OFF is false."""

    OFF = 0             # nothing, within no_grad(): the result does not depend on a gradient
    ON = 1              # a node on the tape
    RECOMPUTE = 2       # that it depends on a gradient, but no node: backward runs the op again (checkpoint)


class Context:
    """What an op's forward leaves for its backward; `needs[i]` tells whether input i wants a gradient."""

    if TYPE_CHECKING:       # forward names what it leaves as it likes
        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    def __init__(self, needs: Sequence[bool]):
        self.needs = needs


class Record:
    """One op as it ran: inputs and output are Tensors, module is the innermost layer that ran it."""

    __slots__ = ("attrs", "inputs", "module", "op", "output")

    def __init__(self, op: type[Any], inputs: tuple[Any, ...], attrs: dict[str, Any], output: Any, module: Any):
        self.op, self.inputs, self.attrs, self.output, self.module = op, inputs, attrs, output, module


class Recorder(list[Record]):
    """The ops that ran, in order. A subclass may follow what happens to Tensors outside of ops, too."""

    traces: ClassVar[bool] = False      # whether a program is made of the ops

    def note(self, op: type[Any], inputs: tuple[Any, ...], attrs: dict[str, Any], output: Any) -> None:
        """An op ran in the innermost of the layers that are running."""
        self.append(Record(op, inputs, attrs, output, state.modules[-1] if state.modules else None))

    def note_change(self, tensor: Any, result: Any) -> None:
        """`tensor` now holds the `result` of the last op: it was changed in place, so the op read it as it was before."""
        self[-1].inputs = tuple(tensor.detach() if t is tensor else t for t in self[-1].inputs)

    def note_escape(self, tensor: Any) -> None:
        """The value of `tensor` became a Python number."""


class State(threading.local):
    """What one Python thread is doing."""

    grad: GradMode = GradMode.ON
    modes: dict[int, bool] | None = None    # id of a layer -> whether it is in training mode here, whatever its own mode is
    recorder: Recorder | None = None
    profiler: Any = None                    # a `profile`, which measures the ops

    def __init__(self) -> None:
        self.modules: list[Any] = []        # the layers that are running, the innermost last


state = State()
