"""gradcheck under PyTorch's name and arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import checks, testing
from ..dtypes import FLOAT64
from ..errors import DtypeError, GradError
from ..tensors import Tensor


def gradcheck(func: Callable[..., Any], inputs: Any, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
              raise_exception: bool = True) -> bool:
    """Whether the gradients of a function agree with central differences, for a random cotangent of each result.

    Args:
        func: of Tensors, returns a Tensor or a tuple of them.
        inputs: its arguments, or the only one; Tensors of float64 that require a gradient are differentiated by.
        eps: half of the distance between the two values of an element.
        atol: absolute tolerance.
        rtol: tolerance relative to the gradient.
        raise_exception: raise where they do not agree, instead of returning False.

    Returns:
        True if they agree.

    Raises:
        GradError: they do not agree, or no input requires a gradient; DtypeError: one that does is not float64.

    Example:
        >>> x = Tensor(np.array([0.5, 2.0]), requires_grad=True)
        >>> tinyml.autograd.gradcheck(lambda x: x.exp() * x, x)
        True
    """
    checks.function("gradcheck", "func", func)
    several = (inputs,) if isinstance(inputs, Tensor) else tuple(checks.rows("gradcheck", "inputs", inputs, "operands"))
    wanted = [t for t in several if isinstance(t, Tensor) and t.requires_grad]
    if not wanted:
        raise GradError("gradcheck: no input requires a gradient")
    if any(t.dtype != FLOAT64 for t in wanted):
        raise DtypeError("gradcheck: central differences need float64; make the inputs that require a gradient of it")
    # an array that takes the place of a Tensor is what `testing.gradcheck` differentiates by
    arrays = [t.array if any(t is w for w in wanted) else t for t in several]
    results = func(*several)
    for i in range(len(results) if isinstance(results, tuple) else 1):
        def one(*xs: Any, i: int = i) -> Tensor:
            found = func(*xs)
            return found[i] if isinstance(found, tuple) else found      # type: ignore[no-any-return]

        if not one(*several).requires_grad:
            continue
        try:
            testing.gradcheck(one, arrays, rtol, atol, eps=eps)
        except AssertionError as error:
            if checks.flag("gradcheck", "raise_exception", raise_exception):
                raise GradError(f"{error} (result {i})") from None
            return False
    return True
