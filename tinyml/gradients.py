"""Gradients as users ask for them: those of all leaves or of chosen Tensors, added to `grad` or returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import checks
from ._kernels import memory
from .apply import apply
from .engine import TensorBase, wrap
from .errors import DtypeError, GradError, ShapeError
from .tape import Wanted, place_of, run_backward


def add_gradients(roots: Sequence[Any], seeds: list[Any], retain_graph: Any, create_graph: Any, inputs: Any) -> None:
    """What `Tensor.backward` does, of several Tensors: add gradients to the `grad` of all leaves, or of `inputs`."""
    retain = _retains("backward", retain_graph, create_graph)
    if inputs is None:
        run_backward(roots, seeds, retain)
        return
    places = {place_of(t): t for t in tensors("backward", "inputs", inputs)}
    wanted = Wanted(places)
    run_backward(roots, seeds, retain, wanted)
    for place, t in places.items():
        if wanted.found[place] is not None:
            t._accumulate(wanted.found, place)


def backward(tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
             inputs: Any = None) -> None:
    """Add the gradients of the sum of several Tensors to the `grad` of every leaf that requires one.

    Args:
        tensors: a Tensor, or several.
        grad_tensors: the cotangent of each, of its shape; None, or None among them, for 1 of a single element.
        retain_graph: keep the tape for another backward.
        create_graph: gradients of gradients, which tinyml does not have: False.
        inputs: the Tensors whose `grad` is added to; None for all leaves.

    Raises:
        GradError: a Tensor requires no gradient, or its cotangent is missing; ShapeError: a cotangent does not fit.

    Example:
        >>> w = Tensor([2.0], requires_grad=True)
        >>> tinyml.autograd.backward([w * 2, w * w])
        >>> w.grad
        tensor([6.])
    """
    roots, seeds = _seeded("backward", "tensors", tensors, grad_tensors)
    add_gradients(roots, seeds, retain_graph, create_graph, inputs)


def grad(outputs: Any, inputs: Any, grad_outputs: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
         allow_unused: bool | None = None, is_grads_batched: bool = False,
         materialize_grads: bool = False) -> tuple[Any, ...]:
    """The gradients of the sum of `outputs` with respect to `inputs`; the `grad` of no Tensor changes.

    Args:
        outputs: a Tensor, or several.
        inputs: a Tensor, or several: leaves or results of ops.
        grad_outputs: the cotangent of each output, of its shape; None, or None among them, for 1 of a single element.
        retain_graph: keep the tape for another backward.
        create_graph: gradients of gradients, which tinyml does not have: False.
        allow_unused: give None for an input that the outputs do not depend on, which else is an error.
        is_grads_batched: several cotangents at once, which tinyml does not take: False.
        materialize_grads: give zeros for such an input.

    Returns:
        A tuple with a Tensor for each input, of its shape.

    Raises:
        GradError: an output or input requires no gradient, an input is not used, or what tinyml does not have.

    Example:
        >>> x = Tensor([1.0, 2.0], requires_grad=True)
        >>> y = x * x
        >>> tinyml.autograd.grad((y * 3).sum(), [x, y])
        (tensor([ 6., 12.]), tensor([3., 3.]))
    """
    if checks.flag("grad", "is_grads_batched", is_grads_batched):
        raise GradError("grad: is_grads_batched=True is not there; call grad() for each cotangent, with retain_graph=True")
    retain = _retains("grad", retain_graph, create_graph)
    zeros = checks.flag("grad", "materialize_grads", materialize_grads)
    unused = zeros if allow_unused is None else checks.flag("grad", "allow_unused", allow_unused)
    roots, seeds = _seeded("grad", "outputs", outputs, grad_outputs)
    targets = tensors("grad", "inputs", inputs)
    wanted = Wanted(place_of(t) for t in targets)
    run_backward(roots, seeds, retain, wanted)
    found = wanted.found
    for i, t in enumerate(targets):
        if found[place_of(t)] is None and not unused:
            raise GradError(f"grad: the outputs do not depend on input {i}, of shape {t.shape}; allow_unused=True gives "
                            "None for it, materialize_grads=True zeros")
    return tuple(_result(t, found[place_of(t)], zeros) for t in targets)


def _result(t: Any, found: np.ndarray | None, zeros: bool) -> Any:
    if found is None:
        return wrap(apply.tensor, np.zeros(t.shape, t.dtype)) if zeros else None
    array = memory.empty(t.shape, t.dtype)
    array[...] = found      # which others may see: where it went on along the tape it was not copied
    return wrap(apply.tensor, array)


def tensors(who: str, name: str, value: Any) -> Sequence[Any]:
    """One Tensor, or several in a sequence, as a sequence.

    Raises:
        DtypeError: something else; GradError: one that requires no gradient, or there is none.
    """
    several = [value] if isinstance(value, TensorBase) else list(checks.rows(who, name, value, "Tensors"))
    for i, t in enumerate(several):
        if not isinstance(t, TensorBase):
            raise DtypeError(f"{who}: expected {name} to be Tensors, got {checks.described(t)} at position {i}")
        if not t.requires_grad:
            raise GradError(f"{who}: {name}[{i}], of shape {t.shape}, does not require a gradient")
    if not several:
        raise GradError(f"{who}: expected at least one Tensor in {name}")
    return several


def cotangent(who: str, t: TensorBase, grad: Any) -> np.ndarray:
    """The gradient that a walk begins with: `grad`, or 1 for a single element.

    Raises:
        GradError: `t` depends on nothing that requires a gradient, or `grad` is missing; ShapeError: `grad` has another
            shape.
    """
    if not t.requires_grad:
        raise GradError(f"{who}: this Tensor does not depend on anything with requires_grad=True "
                        "(or was computed within no_grad())")
    if grad is None:
        if t.array.size != 1:
            raise GradError(f"{who}: a Tensor of shape {t.shape} needs a cotangent, {who}(grad); "
                            "only a single element has the default 1")
        return np.ones(t.shape, t.dtype)
    seed = checks.array(who, "grad", grad).astype(t.dtype, copy=False)
    if seed.shape != t.shape:
        raise ShapeError(f"{who}: expected a cotangent of shape {t.shape}, got {seed.shape}")
    return seed


def _seeded(who: str, name: str, value: Any, grads: Any) -> tuple[Sequence[Any], list[Any]]:
    """The roots of a walk and their cotangents."""
    roots = [value] if isinstance(value, TensorBase) else list(checks.rows(who, name, value, "Tensors"))
    seeds: list[Any] = [grads] if isinstance(grads, (TensorBase, np.ndarray)) else [None] * len(roots)
    if not isinstance(grads, (TensorBase, np.ndarray, type(None))):
        seeds = list(checks.rows(who, "cotangents", grads, "Tensors"))
    if len(seeds) != len(roots):
        raise GradError(f"{who}: expected {len(roots)} cotangents, one for each of {name}, got {len(seeds)}")
    return roots, [cotangent(who, checks.instance(who, name, t, TensorBase), g) for t, g in zip(roots, seeds)]


def _retains(who: str, retain_graph: Any, create_graph: Any) -> bool:
    if checks.flag(who, "create_graph", create_graph):
        raise GradError(f"{who}: create_graph=True asks for gradients of gradients, which tinyml does not have; "
                        "retain_graph=True keeps the tape")
    return retain_graph is not None and checks.flag(who, "retain_graph", retain_graph)
