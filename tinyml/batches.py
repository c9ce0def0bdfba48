"""The forms that a batch of data may have. Training, evaluation, calibration and comparison all read batches here.

A batch is (inputs, targets), or inputs alone where nothing needs targets. Inputs are an array, a tuple or list of them for
a model of several inputs, or a dict from the names of forward's arguments. Targets may be nested in the same way. Where
arrays are expected, a Tensor, a number or a list of numbers will do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from .errors import DtypeError, ShapeError
from .nn.module import Module
from .tensor import Tensor, as_tensor

INPUTS = "an array, a tuple of arrays, or a dict from the names of forward's arguments to arrays"
NUMBERS = (bool, int, float, np.generic)


def is_array(value: Any) -> bool:
    """Whether `value` is one array, and no nest of them: a list is one where it holds numbers, or lists of them."""
    if isinstance(value, list):
        return all(isinstance(v, NUMBERS) or (isinstance(v, list) and is_array(v)) for v in value)
    return not isinstance(value, (tuple, Mapping))


def mapped(function: Callable[[Any], Any], nest: Any) -> Any:
    """`nest` (an array, or tuples, lists and dicts of them) with each array replaced by function(array)."""
    if is_array(nest):
        return function(nest)
    if isinstance(nest, Mapping):
        return {name: mapped(function, value) for name, value in nest.items()}
    parts = [mapped(function, value) for value in nest]
    return type(nest)(*parts) if hasattr(nest, "_fields") else type(nest)(parts)


def leaves(nest: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each array of a nest, and where it is: "[0]" or "['mask']", "" for an array by itself."""
    if is_array(nest):
        yield path, nest
        return
    for key, value in nest.items() if isinstance(nest, Mapping) else enumerate(nest):
        yield from leaves(value, f"{path}[{key!r}]")


def joined(what: str, nests: list) -> Any:
    """Nests of ndarrays as one, each array that of all nests one after the other.

    Raises:
        ShapeError: nests of different forms, or arrays that do not fit; names `what`.
    """
    paths = [[path for path, _ in leaves(nest)] for nest in nests]
    for other in paths:
        if other != paths[0]:
            raise ShapeError(f"{what}: expected outputs of one form in all batches, got {paths[0]} and {other}")
    columns = zip(*([a for _, a in leaves(nest)] for nest in nests))
    try:
        whole = [np.concatenate([np.atleast_1d(a) for a in column]) for column in columns]
    except ValueError as error:
        raise ShapeError(f"{what}: expected outputs that differ in the number of samples only: {error}") from error
    each = iter(whole)
    return mapped(lambda _: next(each), nests[0])


def samples(nest: Any) -> int:
    """How many samples a nest of Tensors or ndarrays has: the length of the first."""
    return next((a.shape[0] if a.ndim else 1 for _, a in leaves(nest) if isinstance(a, (Tensor, np.ndarray))), 0)


def batches_of(what: str, data: Any) -> Iterable:
    """`data`, or a list of it where it is one batch of inputs: an array, a Tensor or a dict.

    Raises:
        ShapeError: neither; names `what`.
    """
    if isinstance(data, (np.ndarray, Tensor, Mapping)):
        return [data]
    if not isinstance(data, Iterable) or isinstance(data, (str, bytes)):
        raise ShapeError(f"{what}: expected an iterable of batches, each (inputs, targets) or inputs, which are {INPUTS}; "
                         f"got {type(data).__name__}")
    return data


def unpack(what: str, batch: Any) -> tuple[Any, Any]:
    """Inputs and targets of a batch as nests of Tensors: x, (x,) or (x, y). Targets are None where there are none.

    Raises:
        ShapeError: all else; names `what`, and says which forms there are.
    """
    parts = (batch,) if is_array(batch) or isinstance(batch, Mapping) else tuple(batch)
    if not 1 <= len(parts) <= 2:
        raise ShapeError(f"{what}: expected batches of inputs or (inputs, targets), several inputs as one tuple, "
                         f"((x1, x2), targets); got a {type(batch).__name__} of {len(parts)}")
    x, y = parts if len(parts) == 2 else (parts[0], None)
    if x is None or isinstance(batch, NUMBERS):
        raise ShapeError(f"{what}: expected batches of inputs or (inputs, targets), got {batch!r:.80}; inputs are {INPUTS}")
    return _tensors(what, x), None if y is None else _tensors(what, y)


def pair(what: str, batch: Any) -> tuple[Any, Any]:
    """Inputs and targets of a batch that has both, as nests of Tensors.

    Raises:
        ShapeError: all else; names `what`, and says which forms there are.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise ShapeError(f"{what}: expected batches (inputs, targets), got {type(batch).__name__}"
                         + (f" of {len(batch)}" if isinstance(batch, (tuple, list, Mapping)) else "")
                         + f"; inputs are {INPUTS}")
    if batch[0] is None or batch[1] is None:
        raise ShapeError(f"{what}: expected batches (inputs, targets), got None as one of them")
    return _tensors(what, batch[0]), _tensors(what, batch[1])


def _tensors(what: str, nest: Any) -> Any:
    def tensor(value: Any) -> Tensor | None:
        if value is None:       # an argument that is left out
            return None
        if not (isinstance(value, (Tensor, np.ndarray, list, *NUMBERS)) or hasattr(value, "__array__")):
            raise ShapeError(f"{what}: expected batches (inputs, targets) or inputs, which are {INPUTS}; got a "
                             f"{type(value).__name__}")
        return as_tensor(value)

    return mapped(tensor, nest)


def call(model: Module, inputs: Any) -> Any:
    """model(x), model(x1, x2) or model(ids=x1, mask=x2), as the inputs are: an array, a tuple or list, or a dict.

    A dict whose names are not those of forward's arguments is passed as it is, to a forward that takes one.

    Raises:
        ShapeError: a dict that fits neither way.
    """
    if isinstance(inputs, Mapping):
        bound = _bound(model, inputs)
        if bound is not None:
            return model(*bound.args, **bound.kwargs)
        return _call_with_dict(model, inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def arguments(what: str, model: Module, inputs: Any) -> tuple:
    """The inputs in the order of forward's arguments.

    Raises:
        ShapeError: a dict that does not fit, or has arguments that only go by name; names `what`.
    """
    if not isinstance(inputs, Mapping):
        return tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    bound = _bound(model, inputs)
    if bound is None or bound.kwargs:
        raise ShapeError(f"{what}: expected inputs that {type(model).__name__} takes in order, {_named(model)}, none left "
                         f"out before another; got a dict of {_keys(inputs)}")
    return bound.args


def in_order(what: str, names: list[str], inputs: tuple, named: Mapping) -> tuple:
    """Arguments as a forward of these names takes them.

    Raises:
        ShapeError: they do not fit; names `what`.
    """
    try:
        return _signature_of(names).bind(*inputs, **named).args
    except TypeError as error:
        raise ShapeError(f"{what}: expected the inputs {', '.join(names) or 'in order, without names'}: {error}") from None


def argument_names(model: Module) -> list[str]:
    """The names of forward's arguments in order; none where it takes any number of them."""
    names = []
    for p in _signature(model).parameters.values():
        if p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            break
        names.append(p.name)
    return names


def _signature(model: Module) -> inspect.Signature:
    names = getattr(model, "input_names", None)      # of a traced model, whose forward takes any number of arguments
    if names is None:
        return inspect.signature(model.forward)
    return _signature_of(names)


def _signature_of(names: list[str]) -> inspect.Signature:
    return inspect.Signature([inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names])


def _bound(model: Module, inputs: Mapping) -> inspect.BoundArguments | None:
    """What each argument of forward is by name; None where the names are others."""
    try:
        return _signature(model).bind(**inputs)
    except TypeError:
        return None


def _call_with_dict(model: Module, inputs: Mapping) -> Any:
    hint = (f"a dict of inputs goes to forward by name, but {type(model).__name__} takes {_named(model)}, got "
            f"{_keys(inputs)}")
    try:
        _signature(model).bind(inputs)
    except TypeError:
        raise ShapeError(f"expected inputs that fit the model: {hint}") from None
    try:
        return model(inputs)
    except DtypeError as error:     # most likely it takes an array
        raise ShapeError(f"{hint}; as a whole it was refused: {error}") from error


def _named(model: Module) -> str:
    parameters = [p.replace(annotation=p.empty) for p in _signature(model).parameters.values()]
    return ", ".join(map(str, parameters)) or "arguments of no known name"


def _keys(inputs: Mapping) -> str:
    return ", ".join(map(str, inputs)) or "nothing"
