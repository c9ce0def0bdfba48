"""Whether ops are noted on the tape: switched for a while by `with`, or above a function."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial, wraps
from inspect import isgeneratorfunction
from typing import Any, TypeVar, cast

from . import checks
from .errors import DtypeError
from .state import GradMode, state

__all__ = ["enable_grad", "inference_mode", "is_grad_enabled", "no_grad", "set_grad_enabled"]

F = TypeVar("F", bound=Callable[..., Any])


class Switch:
    """Base of the context managers and decorators: within it gradients are noted as `noted` says."""

    noted: bool

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        self = super().__new__(cls)
        return self if function is None else self(function)     # @no_grad without parentheses

    def __enter__(self) -> None:
        self.before = state.grad
        # where a checkpoint's function runs for the first time, it keeps nothing in any case
        state.grad = (state.grad or GradMode.ON) if self.noted else GradMode.OFF

    def __exit__(self, *error: Any) -> None:
        state.grad = self.before

    def again(self) -> Switch:
        """Another that does the same: one call of a function may run within another of it."""
        same: Switch = object.__new__(Switch)
        same.noted = self.noted
        return same

    def __call__(self, function: F) -> F:
        if not callable(function):
            raise DtypeError(f"{type(self).__name__}: expected a function to decorate, got {type(function).__name__}")

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.again():
                return function(*args, **kwargs)

        @wraps(function)
        def generate(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            inner = function(*args, **kwargs)
            resume = partial(next, inner)
            while True:     # not around the yield: what runs between two items is the caller's
                try:
                    with self.again():
                        item = resume()
                except StopIteration as end:
                    return end.value
                try:
                    resume = partial(inner.send, (yield item))
                except BaseException as error:      # thrown in by the caller, GeneratorExit by close()
                    resume = partial(inner.throw, error)

        return cast(F, generate if isgeneratorfunction(function) else call)


class no_grad(Switch):
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

    noted = False


class enable_grad(Switch):
    """Within it gradients are noted again, in a part of what runs within `no_grad`; used as that is.

    Args:
        function: what is decorated, where it is no `with`.

    Raises:
        DtypeError: it decorates what is no function.

    Example:
        >>> x = Tensor([1.0], requires_grad=True)
        >>> with tinyml.no_grad(), tinyml.enable_grad():
        ...     (x * 2).requires_grad
        True
    """

    noted = True


class inference_mode(Switch):
    """Within it no gradients are noted, as within `no_grad`: results are plain Tensors here, which may be used on the tape
    later.

    Args:
        mode: False to note gradients; or the function that is decorated.

    Raises:
        DtypeError: `mode` is neither a bool nor a function.

    Example:
        >>> @tinyml.inference_mode()
        ... def double(x):
        ...     return x * 2
        >>> double(Tensor([1.0], requires_grad=True)).requires_grad
        False
    """

    def __new__(cls, mode: Any = True) -> Any:
        self = super().__new__(cls)
        self.noted = False if callable(mode) else not checks.flag("inference_mode", "mode", mode)
        return self(mode) if callable(mode) else self


class set_grad_enabled(Switch):
    """Note gradients from now on, or note none; with `with`, or above a function, only within it.

    Args:
        mode: whether gradients are noted.

    Raises:
        DtypeError: `mode` is no bool.

    Example:
        >>> x = Tensor([1.0], requires_grad=True)
        >>> with tinyml.set_grad_enabled(False):
        ...     (x * 2).requires_grad
        False
        >>> tinyml.is_grad_enabled()
        True
    """

    def __new__(cls, mode: bool) -> Any:
        self = super().__new__(cls)
        self.noted = checks.flag("set_grad_enabled", "mode", mode)
        Switch.__enter__(self)      # a plain call is enough
        return self

    def __enter__(self) -> None:
        """It is on already, and `before` is what was before the call."""
        state.grad = (state.grad or GradMode.ON) if self.noted else GradMode.OFF

    def __call__(self, function: F) -> F:
        state.grad = self.before
        return super().__call__(function)


def is_grad_enabled() -> bool:
    """Whether gradients are noted here.

    Returns:
        False within `no_grad`.

    Example:
        >>> with tinyml.no_grad():
        ...     tinyml.is_grad_enabled()
        False
    """
    return bool(state.grad)
