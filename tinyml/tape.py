"""The tape: what is noted while ops run, and the walk back over it.

One node an op result, numbered as they are made; backward visits nodes by falling number from a heap, so it needs no
recursion however long the chain is.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .errors import GradError


class _State(threading.local):
    """What differs between Python threads: whether gradients are noted, who listens, which layers are running."""

    grad = True
    recorder: list | None = None

    def __init__(self):
        self.modules: list[Any] = []


state = _State()
_numbers = itertools.count()


@contextmanager
def no_grad() -> Iterator[None]:
    """Within it no gradients are noted. Also a decorator."""
    before, state.grad = state.grad, False
    try:
        yield
    finally:
        state.grad = before


@contextmanager
def record(into: list | None = None) -> Iterator[list[Record]]:
    """Collect every op that runs within, whether or not gradients are noted, in a new list or in `into`."""
    before, state.recorder = state.recorder, [] if into is None else into
    try:
        yield state.recorder
    finally:
        state.recorder = before


class Record:
    """One op as it ran: inputs and output are Tensors, module the innermost layer that ran it."""

    __slots__ = ("attrs", "inputs", "module", "op", "output")

    def __init__(self, op, inputs, attrs, output, module):
        self.op, self.inputs, self.attrs, self.output, self.module = op, inputs, attrs, output, module


class Context:
    """What an op's forward leaves for its backward; `needs[i]` tells whether input i wants a gradient."""

    def __init__(self, needs: tuple[bool, ...]):
        self.needs = needs


class Node:
    """One op result on the tape; its gradient is computed in `dtype`, as its forward was (float32 for float16)."""

    __slots__ = ("context", "dtype", "inputs", "module", "number", "op")

    def __init__(self, op, context, inputs, module, dtype):
        self.op, self.context, self.inputs, self.module = op, context, inputs, module
        self.dtype = np.dtype(np.float32) if dtype == np.float16 else dtype
        self.number = next(_numbers)

    def __lt__(self, other: Node) -> bool:
        return self.number > other.number       # heapq gives the latest node first


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
    return grad.sum(axis=axes, keepdims=True).reshape(shape)


def run_backward(root: Any, grad: np.ndarray, retain_graph: bool) -> None:
    """Propagate `grad` from `root` to the leaves; each node is released as soon as it is done."""
    if root.node is None:
        root._accumulate(grad)
        return
    pending: dict[Node, np.ndarray] = {root.node: grad}
    heap = [root.node]
    while heap:
        node = heapq.heappop(heap)
        g = pending.pop(node)
        if node.context is None:
            raise GradError(f"backward: the tape below {node.op.name} was already used and released; "
                            "call backward(retain_graph=True) the first time to use it again")
        grads = node.op.backward(node.context, g.astype(node.dtype, copy=False))
        if not isinstance(grads, tuple) or len(grads) != len(node.inputs):
            got = f"a tuple of {len(grads)}" if isinstance(grads, tuple) else f"a {type(grads).__name__}"
            raise GradError(f"{node.op.name}: backward returned {got}, expected a tuple of {len(node.inputs)} gradients, "
                            "one an operand, None where there is none")
        for tensor, d in zip(node.inputs, grads):
            if d is None or tensor is None or not tensor.requires_grad:
                continue
            d = unbroadcast(d, tensor.data.shape, node.op.name)
            if tensor.node is None:
                tensor._accumulate(d)
            elif tensor.node in pending:
                pending[tensor.node] = pending[tensor.node] + d
            else:
                pending[tensor.node] = d
                heapq.heappush(heap, tensor.node)
        if not retain_graph:
            node.context = node.inputs = None
