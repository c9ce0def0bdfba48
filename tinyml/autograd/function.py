"""Function: a user's own pair of forward and backward, on the tape as one op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ..dtypes import FLOATS
from ..engine import RECOMPUTED, Node
from ..errors import DtypeError, GradError, TraceError
from ..state import Context, GradMode, state
from ..tape import no_grad, place_of
from ..tensors import Tensor

__all__ = ["Function", "FunctionContext", "once_differentiable"]

F = TypeVar("F", bound=Callable[..., Any])
_NOTHING = np.zeros(())     # what goes along an edge that only says: this result has its gradient


class FunctionContext:
    """What a Function's forward leaves for its backward, as any attributes, and what it tells the tape.

    Attributes:
        needs_input_grad: for each argument, whether it is a Tensor that wants a gradient.

    Example:
        >>> ctx = tinyml.autograd.function.FunctionContext((True, False))
        >>> ctx.needs_input_grad
        (True, False)
    """

    def __init__(self, needs_input_grad: tuple[bool, ...]):
        self.needs_input_grad = needs_input_grad
        self._saved: tuple[Tensor | None, ...] = ()
        self._without: set[int] = set()
        self._zeros = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep Tensors for backward, which then refuses what was changed in place since.

        Args:
            tensors: arguments or results, or None.

        Raises:
            DtypeError: something else, which an attribute may hold.
        """
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise DtypeError(f"save_for_backward: expected Tensors, got {type(t).__name__}; keep it as an attribute")
        # off the tape, for a result that kept itself would never be released
        self._saved = tuple(t if t is None else t.detach() for t in tensors)

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What `save_for_backward` kept."""
        return self._saved

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Say which results have no gradient.

        Args:
            tensors: results of this forward.
        """
        self._without.update(map(id, tensors))

    def set_materialize_grads(self, value: bool) -> None:
        """Choose what backward gets for a result that nothing used.

        Args:
            value: True for zeros, as it is at first, False for None.
        """
        self._zeros = value


class Function:
    """Base of functions with a backward of their own: a subclass defines both, and is called through `apply`.

    forward runs off the tape. backward gets the gradient to each result, and returns one for each argument of forward, None
    where there is none. Both are static. As in PyTorch, forward may also leave `ctx` out and keep nothing; what backward
    needs, a static `setup_context(ctx, inputs, output)` then keeps.

    Example:
        >>> class Cube(tinyml.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         ctx.save_for_backward(x)
        ...         return x * x * x
        ...     @staticmethod
        ...     def backward(ctx, grad):
        ...         (x,) = ctx.saved_tensors
        ...         return grad * 3 * x * x
        >>> x = Tensor([2.0], requires_grad=True)
        >>> Cube.apply(x).backward()
        >>> x.grad
        tensor([12.])
    """

    setup_context: Any = None

    @staticmethod
    def forward(*args: Any) -> Any:
        """The results: a Tensor, or a tuple of Tensors and other values."""
        raise NotImplementedError("a Function defines forward(ctx, *args)")

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """The gradient to each argument of forward."""
        raise NotImplementedError("a Function defines backward(ctx, *grads)")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run forward, and note it on the tape.

        Args:
            args: what forward takes after `ctx`.

        Returns:
            What forward returns.

        Raises:
            TraceError: within a trace, which could not see what forward does.
        """
        if state.recorder is not None and state.recorder.traces:
            raise TraceError(f"{cls.__name__}: a Function of one's own has no place in a program; write its forward with "
                             "Tensor ops outside of it, or define a tinyml.ops.Op")
        ctx = FunctionContext(tuple(isinstance(a, Tensor) and a.requires_grad for a in args))
        with no_grad():
            if cls.setup_context is None:
                outputs = cls.forward(ctx, *args)
            else:
                outputs = cls.forward(*args)
                cls.setup_context(ctx, args, outputs)
        if not state.grad or not any(ctx.needs_input_grad):
            return outputs
        several = outputs if isinstance(outputs, tuple) else (outputs,)
        # an argument that comes back is another Tensor, with its own place on the tape
        results = tuple(t.detach() if any(t is a for a in args) else t for t in several)
        call = Context(ctx.needs_input_grad)
        call.ctx, call.saved, call.grads = ctx, ctx._saved, {}      # the tape asks whether `saved` was changed
        call.shapes = [(t.shape, t.dtype) if isinstance(t, Tensor) else None for t in results]
        edges = [place_of(a) if need else None for a, need in zip(args, call.needs)]
        gather = Node(_Call(cls), call, edges, _NOTHING)
        for i, (t, given) in enumerate(zip(results, several)):
            if isinstance(t, Tensor) and t.dtype in FLOATS and id(given) not in ctx._without:
                part = Context((True,))
                part.i, part.call = i, call
                t.place(Node(_Result(cls), part, [gather], t.array) if state.grad is GradMode.ON else RECOMPUTED, True)
        return results if isinstance(outputs, tuple) else results[0]


class _Call:
    """The op of a call, below its results: it is visited when all gradients to them that come have come."""

    def __init__(self, function: type[Function]):
        self.function, self.name = function, function.__name__

    def backward(self, call: Context, _: np.ndarray) -> tuple[Any, ...]:
        grads, call.grads = call.grads, {}
        given = [Tensor._of(grads[i]) if i in grads else None if shape is None or not call.ctx._zeros else
                 Tensor(np.zeros(*shape)) for i, shape in enumerate(call.shapes)]
        with no_grad():
            found = self.function.backward(call.ctx, *given)
        found, n = found if isinstance(found, tuple) else (found,), len(call.needs)
        if len(found) < n or any(g is not None for g in found[n:]):
            raise GradError(f"{self.name}: backward returned {len(found)} gradients, expected {n}, one for each argument "
                            "of forward, None where there is none")
        for g in found:
            if g is not None and not isinstance(g, Tensor):
                raise GradError(f"{self.name}: backward returned a {type(g).__name__}, expected Tensors and None")
        return tuple(g if g is None else g.array for g in found[:n])


class _Result(_Call):
    """The op of one result of a call."""

    def backward(self, part: Context, grad: np.ndarray) -> tuple[np.ndarray]:
        part.call.grads[part.i] = grad
        return (_NOTHING,)


def once_differentiable(backward: F) -> F:
    """Say that a Function's backward is not differentiated itself, as none is in tinyml.

    Args:
        backward: the function that is decorated.

    Returns:
        It.

    Example:
        >>> tinyml.autograd.once_differentiable(len)([1, 2])
        2
    """
    return backward
