"""What was wrong with the arguments of a function that is composed of others, said only where it failed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from . import checks
from .apply import apply
from .dtypes import FLOAT32, as_dtype
from .engine import TensorBase
from .errors import DtypeError, TinymlError

F = TypeVar("F", bound=Callable[..., Any])
OPAQUE = (AttributeError, TypeError, ValueError, OverflowError, LookupError, ArithmeticError)
# What a parameter with this annotation must be: given who asks, its name and the value, an error where it is not.
KINDS: dict[str, Callable[[str, str, Any], object]] = {
    "Tensor": lambda who, name, value: checks.instance(who, name, value, TensorBase),
    "TensorLike": lambda who, name, value: value if isinstance(value, TensorBase) else apply.as_tensor(value, FLOAT32),
    "int": lambda who, name, value: checks.whole(who, name, value, -(2**62)),
    "float": lambda who, name, value: checks.number(who, name, value, infinite=True),
    "bool": checks.flag, "str": checks.text,
    "Axes": lambda who, name, value: checks.axes(who, value),
    "DTypeLike": lambda who, name, value: as_dtype(value),
}


def explained(function: F) -> F:
    """The function, whose opaque errors become those of the argument that does not fit, if there is one.

    Functions of many others would otherwise have to check each argument before they begin, which costs every call.
    """
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except OPAQUE as error:
            if not isinstance(error, TinymlError):
                _explain(function, args, kwargs)
            raise

    return call     # type: ignore[return-value]


def _explain(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise a DtypeError or ShapeError that names an argument which does not have the type of its parameter."""
    signature = inspect.signature(function)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:       # not this signature: Python's own error says so
        return
    for name, value in bound.arguments.items():
        parameter = signature.parameters[name]
        kinds = [kind.strip() for kind in str(parameter.annotation).split("|")]
        if parameter.kind is parameter.VAR_KEYWORD or (value is None and "None" in kinds):
            continue
        values = value if parameter.kind is parameter.VAR_POSITIONAL else (value,)
        known = [KINDS[kind] for kind in kinds if kind in KINDS]
        for v in values if len(known) == len([kind for kind in kinds if kind != "None"]) else ():
            _check_one(function.__name__, name, v, known)


def _check_one(who: str, name: str, value: Any, known: list[Callable[[str, str, Any], object]]) -> None:
    """Raise the last error of the checks if the value passes none of them."""
    failed: TinymlError | None = None
    for check in known:
        try:
            check(who, name, value)
            return
        except TinymlError as error:
            failed = error
    if failed is not None:
        message = failed.message if failed.message.startswith(f"{who}:") else f"{who}: {name}: {failed.message}"
        raise type(failed)(message) if len(known) == 1 else DtypeError(message)
