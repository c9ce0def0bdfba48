"""The tape: what is noted while ops run, and the walk back over it.

One node per op result, numbered as they are made; backward visits nodes by falling number from a heap, so it needs no
recursion however long the chain is.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ._kernels import memory
from ._kernels.rows.elementwise import elementwise
from ._kernels.rows.sums import total
from .engine import RECOMPUTED, Node, TensorBase
from .errors import GradError
from .grad_mode import no_grad
from .state import Context, GradMode, Record, Recorder, state

__all__ = ["Context", "Continued", "GradMode", "Node", "Record", "Recorder", "Wanted", "no_grad", "place_of", "record",
           "run_backward", "state", "unbroadcast"]


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


class Wanted:
    """The gradients to some places on the tape, which a walk finds in place of those to all leaves.

    Attributes:
        found: the gradient to each place, None where there is none (yet).
        leading: the nodes from which the tape leads to one of them. The walk visits no others.
    """

    def __init__(self, places: Iterable[Any]):
        self.found: dict[Any, np.ndarray | None] = dict.fromkeys(places)
        self.leading: set[Node] = set()

    def lead(self, edges: Iterable[Any]) -> None:
        """Find the leading nodes below `edges`."""
        rest, seen = [e for e in edges if type(e) is Node], set()
        while rest:
            node = rest.pop()
            if node not in seen:
                seen.add(node)
                rest += [e for e in node.edges or () if type(e) is Node]
        for node in sorted(seen, key=lambda n: n.number):       # operands come first
            # below a checkpoint nothing is known before it ran again; a released tape is an error where it is met
            if not node.edges or any(e in self.found or e in self.leading for e in node.edges if e is not None):
                self.leading.add(node)

    def __contains__(self, edge: Any) -> bool:
        return edge in self.found or edge in self.leading


def place_of(t: TensorBase) -> Any:
    """Where the gradient to `t` goes: its node, or itself."""
    return t if t.node is None else t.node


def run_backward(roots: Sequence[TensorBase], grads: list[Any], retain_graph: bool, wanted: Wanted | None = None) -> None:
    """Propagate the gradients, which leave the list, from `roots` to the leaves, or to what is `wanted`.

    What a node saved is released as soon as its backward ran, each gradient as soon as it was used. Gradients to leaves
    with hooks, and those that are wanted, are complete when the walk has ended: until then they are pending.
    """
    pending: dict[Any, np.ndarray] = {}
    heap: list[Node] = []
    edges = [place_of(t) for t in roots]
    del roots
    if wanted is not None:
        wanted.lead(edges)
    _send("backward", edges, grads, pending, heap, wanted)
    del edges, grads
    while heap:
        node = heapq.heappop(heap)
        if node.hooks is not None:
            pending[node] = node.hooks(pending[node].astype(node.dtype, copy=False))
        if wanted is not None and node in wanted.found:
            wanted.found[node] = pending[node]
            if node not in wanted.leading:
                del pending[node]
                continue
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
            if wanted is not None:
                wanted.lead(edges)
        elif not isinstance(found, tuple) or len(found) != len(edges):
            got = f"a tuple of {len(found)}" if isinstance(found, tuple) else f"a {type(found).__name__}"
            raise GradError(f"{node.op.name}: backward returned {got}, expected a tuple of {len(edges)} gradients, "
                            "one per operand, None where there is none")
        grads = list(found)
        del found       # a tuple that the op keeps shows in the count of references to what is in it
        _send(node.op.name, edges, grads, pending, heap, wanted)
    for leaf in pending:
        if leaf.hooks is not None:
            pending[leaf] = leaf.hooks(pending[leaf].astype(leaf.dtype, copy=False))
        if wanted is not None:
            wanted.found[leaf] = pending[leaf]
        else:
            leaf._accumulate(pending, leaf)


def _backward(node: Node, pending: dict[Any, np.ndarray]) -> Any:
    """What the op's backward returns for the gradient that is complete; nothing here refers to that afterwards."""
    node.check_unchanged()
    grad = pending.pop(node)
    if grad.dtype is not node.dtype:
        grad = grad.astype(node.dtype, copy=False)
    if state.profiler is not None:
        return state.profiler.backward(node, grad)
    return node.op.backward(node.context, grad)


def _send(name: str, edges: list[Any], grads: list[Any], pending: dict[Any, np.ndarray], heap: list[Node],
          wanted: Wanted | None) -> None:
    """Add each gradient, which leaves the list, to the sum of those that came to the same edge before, in place where
    nothing else sees the memory of one of the two."""
    for i, edge in enumerate(edges):
        if edge is None or grads[i] is None or (wanted is not None and edge not in wanted):
            continue
        inner = type(edge) is Node
        if not inner and not edge.requires_grad:
            continue
        if grads[i].shape != edge.shape and edge is not RECOMPUTED:
            grads[i] = unbroadcast(grads[i], edge.shape, name)
        if not inner and wanted is None and edge.hooks is None:
            edge._accumulate(grads, i)
        elif edge in pending:
            pending[edge] = _sum(pending, edge, grads, i)
        else:
            pending[edge] = grads[i]
            if inner:
                heapq.heappush(heap, edge)
        grads[i] = None


def _sum(pending: dict[Any, np.ndarray], edge: Any, grads: list[Any], i: int) -> np.ndarray:
    if pending[edge].dtype is grads[i].dtype:
        places: tuple[tuple[Any, Any], ...] = (pending, edge), (grads, i)
        for holder, key in places:
            if memory.sole(holder, key):
                np.add(pending[edge], grads[i], out=holder[key])
                return holder[key]      # type: ignore[no-any-return]
    return elementwise(np.add, pending[edge], grads[i])
