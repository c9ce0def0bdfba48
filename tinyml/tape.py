"""The tape: what is noted while ops run, and the walk back over it.

One node per op result, numbered as they are made; backward visits nodes by falling number from a heap, so it needs no
recursion however long the chain is.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from inspect import isgeneratorfunction
from typing import Any, TypeVar, cast

import numpy as np

from ._kernels import memory
from ._kernels.rows.elementwise import elementwise
from ._kernels.rows.sums import total
from .engine import RECOMPUTED, Node
from .errors import DtypeError, GradError
from .state import Context, GradMode, Record, Recorder, state

__all__ = ["Context", "Continued", "GradMode", "Node", "Record", "Recorder", "no_grad", "record", "run_backward", "state",
           "unbroadcast"]

F = TypeVar("F", bound=Callable[..., Any])


class no_grad:
    """Within it no gradients are noted: `with no_grad():`, or @no_grad above a function or generator.

    Args:
        function: what is decorated, where it is no `with`.

    Raises:
        DtypeError: it decorates what is no function.

    Example:
        >>> x = Tensor([1.0], requires_grad=True)
        >>> with tinyml.no_grad():
        ...     (x * 2).requires_grad
        False
    """

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        self = super().__new__(cls)
        return self if function is None else self(function)     # @no_grad without parentheses

    def __enter__(self) -> None:
        self.before, state.grad = state.grad, GradMode.OFF

    def __exit__(self, *error: Any) -> None:
        state.grad = self.before

    def __call__(self, function: F) -> F:
        if not callable(function):
            raise DtypeError(f"no_grad: expected a function to decorate, got {type(function).__name__}")

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with no_grad():
                return function(*args, **kwargs)

        @wraps(function)
        def generate(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            inner = function(*args, **kwargs)
            resume = partial(next, inner)
            while True:     # not around the yield: what runs between two items is the caller's
                try:
                    with no_grad():
                        item = resume()
                except StopIteration as end:
                    return end.value
                try:
                    resume = partial(inner.send, (yield item))
                except BaseException as error:      # thrown in by the caller, GeneratorExit by close()
                    resume = partial(inner.throw, error)

        return cast(F, generate if isgeneratorfunction(function) else call)


@contextmanager
def record(into: Recorder | None = None) -> Iterator[Recorder]:
    """Collect every op that runs within, whether or not gradients are noted, in a new Recorder or in `into`."""
    recorder = Recorder() if into is None else into
    before, state.recorder = state.recorder, recorder
    try:
        yield recorder
    finally:
        state.recorder = before


class Continued:
    """What a backward may return in place of gradients: edges and the gradients to send along them."""

    def __init__(self, edges: list[Any], grads: list[np.ndarray]):
        self.edges, self.grads = edges, grads


def unbroadcast(grad: np.ndarray, shape: tuple[int, ...], name: str = "unbroadcast") -> np.ndarray:
    """Sum `grad` over the dimensions that broadcasting added or stretched.

    Raises:
        GradError: naming the op `name`, if `shape` does not broadcast to that of `grad`.
    """
    if grad.shape == shape:
        return grad
    extra = grad.ndim - len(shape)
    if extra < 0 or any(n not in (1, m) for n, m in zip(shape, grad.shape[extra:])):
        raise GradError(f"{name}: got a gradient of shape {grad.shape} for an operand of shape {shape}; expected that "
                        "shape, or one that it broadcasts to")
    axes = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(shape) if n == 1 and grad.shape[i + extra] != 1)
    return total(grad, axes, True).reshape(shape)


def run_backward(root: Any, grad: np.ndarray, retain_graph: bool) -> None:
    """Propagate `grad` from `root` to the leaves.

    What a node saved is released as soon as its backward ran, each gradient as soon as it was used.
    """
    pending: dict[Node, np.ndarray] = {}
    heap: list[Node] = []
    _send(root.node or root, [grad], 0, pending, heap)
    del grad
    while heap:
        node = heapq.heappop(heap)
        if node is RECOMPUTED:
            raise GradError("backward: a Tensor from inside a checkpoint has no tape; return it from the function that is "
                            "checkpointed")
        if node.context is None:
            raise GradError(f"backward: the tape below {node.op.name} was already used and released; "
                            "call backward(retain_graph=True) the first time to use it again")
        found = _backward(node, pending)
        edges = node.edges
        if not retain_graph:
            node.context = node.edges = None
        if type(found) is Continued:
            edges, found = found.edges, found.grads
        elif not isinstance(found, tuple) or len(found) != len(edges):
            got = f"a tuple of {len(found)}" if isinstance(found, tuple) else f"a {type(found).__name__}"
            raise GradError(f"{node.op.name}: backward returned {got}, expected a tuple of {len(edges)} gradients, "
                            "one per operand, None where there is none")
        grads = list(found)
        del found       # a tuple that the op keeps shows in the count of references to what is in it
        for i, edge in enumerate(edges):
            if edge is None or grads[i] is None:
                continue
            if grads[i].shape != edge.shape:
                grads[i] = unbroadcast(grads[i], edge.shape, node.op.name)
            _send(edge, grads, i, pending, heap)
            grads[i] = None


def _backward(node: Node, pending: dict[Node, np.ndarray]) -> Any:
    """What the op's backward returns for the gradient that is complete; nothing here refers to that afterwards."""
    node.check_unchanged()
    grad = pending.pop(node)
    if grad.dtype is not node.dtype:
        grad = grad.astype(node.dtype, copy=False)
    if state.profiler is not None:
        return state.profiler.backward(node, grad)
    return node.op.backward(node.context, grad)


def _send(edge: Any, grads: list[np.ndarray], i: int, pending: dict[Node, np.ndarray], heap: list[Node]) -> None:
    """Add the gradient grads[i] to the sum of those that came to the same edge before, in place where nothing else sees the
    memory of one of the two."""
    if type(edge) is not Node:
        if edge.requires_grad:
            edge._accumulate(grads, i)
    elif edge not in pending:
        pending[edge] = grads[i]
        heapq.heappush(heap, edge)
    else:
        pending[edge] = _sum(pending, edge, grads, i)


def _sum(pending: dict[Node, np.ndarray], edge: Node, grads: list[np.ndarray], i: int) -> np.ndarray:
    if pending[edge].dtype is grads[i].dtype:
        places: tuple[tuple[Any, Any], ...] = (pending, edge), (grads, i)
        for holder, key in places:
            if memory.sole(holder, key):
                np.add(pending[edge], grads[i], out=holder[key])
                return holder[key]      # type: ignore[no-any-return]
    return elementwise(np.add, pending[edge], grads[i])
