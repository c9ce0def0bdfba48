"""Gradient checking, public: test your own op with one call (examples/add_an_op.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import checks
from .errors import ShapeError
from .tensors import OPS, Tensor, apply

__all__ = ["check_op", "gradcheck", "numeric_gradient"]


def numeric_gradient(function: Callable[..., Tensor], inputs: list[Any], which: int, cotangent: np.ndarray,
                     eps: float = 1e-6) -> np.ndarray:
    """Central differences of sum(function(*inputs) * cotangent) by inputs[which], in float64.

    Args:
        function: of Tensors, returns a Tensor.
        inputs: its arguments, as arrays.
        which: the position of the one to differentiate by.
        cotangent: of the result's shape.
        eps: half of the distance between the two values of an element.

    Returns:
        A float64 array of the shape of inputs[which].

    Raises:
        ShapeError, DtypeError: arguments that do not fit.

    Example:
        >>> tinyml.testing.numeric_gradient(lambda x: x * x, [np.array([3.0])], 0, np.ones(1)).round(6)
        array([6.])
    """
    who = "numeric_gradient"
    checks.function(who, "function", function)
    inputs = list(checks.rows(who, "inputs", inputs, "operands"))
    which, eps = checks.whole(who, "which", which, 0, len(inputs) - 1), checks.number(who, "eps", eps, above=0)
    cotangent = checks.array(who, "cotangent", cotangent)
    x = checks.array(who, f"inputs[{which}]", inputs[which]).astype(np.float64)
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        values = []
        for step in (eps, -eps):
            moved = x.copy()
            moved[i] += step
            out = function(*[Tensor(moved) if j == which else v for j, v in enumerate(inputs)])
            if checks.instance(who, "what the function returns", out, Tensor).shape != cotangent.shape:
                raise ShapeError(f"{who}: expected a cotangent of shape {out.shape}, got {cotangent.shape}")
            values.append(float((out.numpy() * cotangent).sum()))
        gradient[i] = (values[0] - values[1]) / (2 * eps)
    return gradient


def gradcheck(function: Callable[..., Tensor], inputs: list[Any], rtol: float = 1e-5, atol: float = 1e-7,
              seed: int = 0, eps: float = 1e-6) -> None:
    """Compare backward with central differences in float64, for a random cotangent.

    A random cotangent, because a plain sum() cannot see errors that cancel: a softmax whose backward returned zeros would
    pass.

    Args:
        function: of Tensors, returns a Tensor.
        inputs: its arguments. float64 arrays among them are differentiated; everything else is passed as it is.
        rtol: tolerance relative to the gradient.
        atol: absolute tolerance.
        seed: of the cotangent.
        eps: half of the distance between the two values of an element.

    Raises:
        AssertionError: naming the input and the largest difference.
        ShapeError, DtypeError: arguments that do not fit.

    Example:
        >>> tinyml.testing.gradcheck(lambda x: x.softmax(), [np.array([[0.5, -1.0, 2.0]])])
    """
    checks.function("gradcheck", "function", function)
    inputs = list(checks.rows("gradcheck", "inputs", inputs, "operands"))
    rtol, atol = checks.number("gradcheck", "rtol", rtol, 0), checks.number("gradcheck", "atol", atol, 0)
    rng = np.random.default_rng(checks.seed("gradcheck", seed))
    differentiated = [i for i, v in enumerate(inputs) if isinstance(v, np.ndarray) and v.dtype == np.float64]
    tensors: list[Any] = [Tensor(v, requires_grad=True) if i in differentiated else v for i, v in enumerate(inputs)]
    out = function(*tensors)
    cotangent = rng.standard_normal(checks.instance("gradcheck", "what the function returns", out, Tensor).shape)
    if not out.requires_grad:
        raise AssertionError(f"gradcheck: the result depends on none of the {len(differentiated)} float64 inputs")
    out.backward(cotangent)
    held = [Tensor(v) if i in differentiated else v for i, v in enumerate(inputs)]
    for i in differentiated:
        expected = numeric_gradient(function, held, i, cotangent, eps)
        got = tensors[i].grad.numpy() if tensors[i].grad is not None else np.zeros_like(expected)
        if got.shape != expected.shape:
            raise AssertionError(f"gradcheck: gradient of input {i} has shape {got.shape}, expected {expected.shape}")
        worst = np.abs(got - expected).max(initial=0)
        if not np.allclose(got, expected, rtol, atol):
            raise AssertionError(f"gradcheck: gradient of input {i} differs from central differences by up to {worst:.3g}")


def check_op(name: str) -> int:
    """gradcheck an op over all its samples.

    Args:
        name: of the op.

    Returns:
        How many samples there are.

    Raises:
        AssertionError: a gradient is wrong, or the op has no samples; ShapeError: an unknown name.

    Example:
        >>> tinyml.testing.check_op("tanh")
        3
    """
    op, count = OPS[checks.choice("check_op", "name", name, OPS)], 0
    for s in op.samples(np.random.default_rng(1)):
        gradcheck(lambda *xs, s=s: apply(op, *xs, **s.attrs), list(s.inputs))
        count += 1
    if not count:
        raise AssertionError(f"check_op: {name} has no samples; define samples(rng)")
    return count
