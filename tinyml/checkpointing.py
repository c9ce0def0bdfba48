"""Activation checkpointing (Chen et al. 2016): less memory for a second forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import checks, random
from .engine import RECOMPUTED, Node
from .errors import DtypeError, GradError
from .nn.module import Module, Parameter
from .state import Context, GradMode, Recorder, state
from .tape import Continued
from .tensors import Tensor

_NOTHING = np.zeros(())     # what goes along an edge that only says: this output has its gradient


def checkpoint(fn: Callable[..., Any], *inputs: Any) -> Any:
    """fn(*inputs), of which nothing is kept but inputs and outputs; backward runs `fn` again for the rest.

    Gradients are those of fn(*inputs) to the bit: the second run draws the same random numbers and meets the buffers of
    layers (running moments, ranges) as the first did, and leaves them as they are. Checkpoints may be nested (Chen et al.
    2016).

    Args:
        fn: returns a Tensor or a tuple of Tensors, and may use parameters.
        inputs: its arguments.

    Returns:
        What `fn` returns.

    Raises:
        DtypeError: `fn` is no function, or returned something else.
        GradError: in backward, if the second run gave other shapes or dtypes than the first.

    Example:
        >>> x = Tensor([1.0, 2.0], requires_grad=True)
        >>> tinyml.checkpoint(lambda t: (t * t).exp(), x).sum().backward()
        >>> x.grad.shape
        (2,)
    """
    checks.function("checkpoint", "fn", fn)
    if state.grad is not GradMode.ON:      # nothing is kept in any case
        return fn(*inputs)
    run = _Run(fn, inputs)
    outputs = run.first()
    if run.marked:
        context = Context((True,))
        context.run, context.inputs = run, run.inputs
        gather = Node(_Recompute, context, [], _NOTHING)
        gather.made_at = run.began
        for i, output in enumerate(run.marked):
            context = Context((True,))
            context.run, context.i = run, i
            output.node = Node(_Output, context, [gather], output.array)
        run.marked = [(t.shape, t.dtype) for t in run.marked]       # outputs may die before the tape does
    return outputs


class _Run:
    """What the second run of `fn` needs to be the first: inputs, random numbers, layers, and their buffers as they were."""

    def __init__(self, fn: Callable[..., Any], inputs: tuple[Any, ...]):
        self.fn, self.given = fn, inputs
        # what `fn` changes in place is another Tensor then
        self.inputs = tuple(_alias(t) if isinstance(t, Tensor) and t.node is not None else t for t in inputs)
        self.began = Node(_Recompute, None, [], _NOTHING).made_at
        self.random, self.modules = random.get_state(), list(state.modules)
        self.buffers: list[tuple[Tensor, np.ndarray]] = []
        self.marked: list[Any] = []     # the outputs that depend on a gradient
        self.grads: dict[int, np.ndarray] = {}

    def first(self) -> Any:
        """Run `fn`, keeping nothing."""
        watched = _Watched(state.modules, self.buffers)
        with _state(GradMode.RECOMPUTE, watched, state.recorder):
            outputs = self.fn(*self.given)
        del self.given
        self.marked = _marked(outputs, lambda t: t.node is RECOMPUTED)
        return outputs

    def again(self) -> list[Tensor]:
        """Run `fn` on the tape; the outputs that depend on a gradient."""
        generator, now = random.get_state(), [t.array.copy() for t, _ in self.buffers]
        random.set_state(self.random)
        _write(self.buffers)
        try:
            # what was computed before this run has a lower number on the tape than all that it makes
            first = Node(_Recompute, None, [], _NOTHING).number
            with _state(GradMode.ON, list(self.modules), None):
                outputs = self.fn(*self.inputs)
        finally:
            random.set_state(generator)
            _write([(t, values) for (t, _), values in zip(self.buffers, now)])
        found = _marked(outputs, lambda t: t.node is not None and t.node.number > first)
        if [(t.shape, t.dtype) for t in found] != self.marked:
            raise GradError(f"checkpoint: expected the second run of {_name(self.fn)} to give what the first gave, "
                            f"{_shapes(self.marked)}, got {_shapes([(t.shape, t.dtype) for t in found])}")
        self.backdate([t.node for t in found if t.node is not None], first)
        return found

    def backdate(self, nodes: list[Node], first: int) -> None:
        """Let the nodes of the second run count changes of what they read from the first run on: it read the same."""
        seen: set[Node] = set()
        while nodes:
            node = nodes.pop()
            if type(node) is Node and node.number > first and node not in seen:
                seen.add(node)
                node.made_at = self.began
                if isinstance(getattr(node.context, "run", None), _Run):
                    node.context.run.began = self.began
                nodes += node.edges


class _Output:
    """The op of an output: its gradient waits until all that come have come."""

    name = "checkpoint"

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> tuple[np.ndarray]:
        ctx.run.grads[ctx.i] = grad
        return (_NOTHING,)


class _Recompute:
    """The op below all outputs, visited after them: backward goes on along the tape of a second run."""

    name = "checkpoint"

    @staticmethod
    def backward(ctx: Context, _: np.ndarray) -> Continued:
        run = ctx.run
        grads, run.grads = run.grads, {}
        outputs = run.again()
        return Continued([outputs[i].node for i in grads], list(grads.values()))


class _Watched(list[Module]):
    """The stack of running layers, which notes the buffers of a layer and of all below it before it runs."""

    def __init__(self, modules: list[Module], buffers: list[tuple[Tensor, np.ndarray]]):
        super().__init__(modules)
        self.buffers = buffers
        self.seen: set[int] = set()
        for module in modules:
            self.note(module)

    def append(self, module: Module) -> None:
        super().append(module)
        for m in module.modules() if id(module) not in self.seen else ():
            self.note(m)

    def note(self, module: Module) -> None:
        if id(module) not in self.seen:
            self.seen.add(id(module))
            self.buffers += [(t, t.array.copy()) for _, t in module.own_tensors() if not isinstance(t, Parameter)]


def _alias(t: Tensor) -> Tensor:
    """Another Tensor of the same elements and place on the tape."""
    same = Tensor._of(t.array)
    same.place(t.node, t.requires_grad)
    return same


@contextmanager
def _state(grad: GradMode, modules: list[Any], recorder: Recorder | None) -> Iterator[None]:
    before = state.grad, state.modules, state.recorder
    state.grad, state.modules, state.recorder = grad, modules, recorder
    try:
        yield
    finally:
        state.grad, state.modules, state.recorder = before


def _write(buffers: list[tuple[Tensor, np.ndarray]]) -> None:
    for t, values in buffers:
        t.array[...] = values


def _marked(outputs: Any, chosen: Callable[[Tensor], bool]) -> list[Tensor]:
    """The distinct outputs that are `chosen`: not the inputs or parameters among them, which have a tape of their own."""
    several = outputs if isinstance(outputs, tuple) else (outputs,)
    for t in several:
        if not isinstance(t, Tensor):
            raise DtypeError("checkpoint: expected the function to return a Tensor or a tuple of Tensors, got "
                             + (f"a tuple with a {type(t).__name__}" if several is outputs else f"a {type(t).__name__}"))
    return [t for t in {id(t): t for t in several}.values() if chosen(t)]


def _name(fn: Callable[..., Any]) -> str:
    return getattr(fn, "__name__", type(fn).__name__)


def _shapes(found: list[tuple[Any, ...]]) -> str:
    return ", ".join(f"{shape} of {dtype}" for shape, dtype in found) or "nothing that depends on a gradient"
