"""Batches: the forms that they may have, how they are read, and how their inputs go to a model's forward.

A batch is (inputs, targets), or inputs alone where nothing needs targets. Inputs are an array, a tuple or list of arrays
for a model of several inputs, or a dict from the names of forward's arguments to arrays. Targets may be nested in the same
way. Where an array is expected, a Tensor, a number or a list of numbers will do.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from .errors import DtypeError, ShapeError
from .nests import NUMBERS, is_array, map_arrays
from .nn.module import Module
from .tensors import Tensor, as_tensor

Arrays = tuple[np.ndarray, ...]
INPUTS = "an array, a tuple of arrays, or a dict from the names of forward's arguments to arrays"


def read_batches(what: str, data: Any, paired: bool = False) -> Iterator[tuple[Any, Any]]:
    """Each batch of `data` as `read_batch` reads it.

    Args:
        what: Who asks, which error messages begin with.
        data: An iterable of batches; or an array, a Tensor or a dict, which is one batch of inputs.
        paired: Whether each batch must have targets.

    Raises:
        ShapeError: `data` or a batch has another form.
    """
    if isinstance(data, (np.ndarray, Tensor, Mapping)):
        data = [data]
    if not isinstance(data, Iterable) or isinstance(data, (str, bytes)):
        raise ShapeError(f"{what}: expected an iterable of batches, each (inputs, targets) or inputs, which are {INPUTS}; "
                         f"got {type(data).__name__}")
    for batch in data:
        yield read_batch(what, batch, paired)


def read_batch(what: str, batch: Any, paired: bool = False) -> tuple[Any, Any]:
    """The inputs and targets of a batch x, (x,) or (x, y) as nests of Tensors; targets are None where there are none.

    Args:
        what: Who asks, which error messages begin with.
        paired: Whether the batch must be (x, y).

    Raises:
        ShapeError: The batch has another form; the message says which forms there are.
    """
    if paired and (not isinstance(batch, (tuple, list)) or len(batch) != 2):
        raise ShapeError(f"{what}: expected batches (inputs, targets), got {type(batch).__name__}"
                         + (f" of {len(batch)}" if isinstance(batch, (tuple, list, Mapping)) else "")
                         + f"; inputs are {INPUTS}")
    parts = tuple(batch) if paired or not (is_array(batch) or isinstance(batch, Mapping)) else (batch,)
    if not 1 <= len(parts) <= 2:
        raise ShapeError(f"{what}: expected batches of inputs or (inputs, targets), several inputs as one tuple, "
                         f"((x1, x2), targets); got a {type(batch).__name__} of {len(parts)}")
    x, y = parts if len(parts) == 2 else (parts[0], None)
    if paired and (x is None or y is None):
        raise ShapeError(f"{what}: expected batches (inputs, targets), got None as one of them")
    if x is None or isinstance(batch, NUMBERS):
        raise ShapeError(f"{what}: expected batches of inputs or (inputs, targets), got {batch!r:.80}; inputs are {INPUTS}")
    return _to_tensors(what, x), None if y is None else _to_tensors(what, y)


def _to_tensors(what: str, nest: Any) -> Any:
    def tensor(value: Any) -> Tensor | None:
        if value is None:       # an argument that is left out
            return None
        if not (isinstance(value, (Tensor, np.ndarray, list, *NUMBERS)) or hasattr(value, "__array__")):
            raise ShapeError(f"{what}: expected batches (inputs, targets) or inputs, which are {INPUTS}; got a "
                             f"{type(value).__name__}")
        return as_tensor(value)

    return map_arrays(tensor, nest)


def keep_batches(what: str, data: Any) -> list[tuple[Any, Any]]:
    """All batches of `data` in memory, for what goes over them more than once.

    One pass is all that is taken of a loader: the next one may be shuffled or augmented in another way, or there may be
    none. The arrays of a loader are copied, as it may fill the same ones again.
    """
    batches = read_batches(what, data)
    if isinstance(data, (list, tuple, np.ndarray, Tensor, Mapping)):
        return list(batches)
    return [map_arrays(_copy, batch) for batch in batches]


def _copy(x: Tensor | None) -> Tensor | None:
    if x is None:
        return None
    own = x.detach()
    own.array = x.array.copy()
    return own


def read_inputs(what: str, data: Any, model: Any) -> Iterator[Arrays]:
    """The inputs of each batch of `data` as `order_arrays` gives them."""
    for inputs, _ in read_batches(what, data):
        yield order_arrays(what, model, inputs)


def order_arrays(what: str, model: Module, inputs: Any) -> Arrays:
    """The inputs of a batch as ndarrays in the order of forward's arguments; float64, NumPy's default, becomes float32.

    Raises:
        ShapeError: An input is no array, or a name is none of forward's; the message begins with `what`.
    """
    found = arguments(what, model, inputs)
    for x in found:
        if not isinstance(x, Tensor):
            raise ShapeError(f"{what}: expected an array for each input of the model, got a {type(x).__name__}")
    return tuple(x.array.astype(np.float32) if x.dtype == np.float64 else x.array for x in found)


def call(model: Module, inputs: Any) -> Any:
    """model(x), model(x1, x2) or model(ids=x1, mask=x2) for inputs that are an array, a tuple or list, or a dict.

    A dict whose names are not those of forward's arguments is passed as it is, to a forward that takes one.

    Raises:
        ShapeError: A dict fits neither way.
    """
    if isinstance(inputs, Mapping):
        bound = _bind(model, inputs)
        if bound is not None:
            return model(*bound.args, **bound.kwargs)
        return _call_with_dict(model, inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def arguments(what: str, model: Module, inputs: Any) -> tuple[Any, ...]:
    """The inputs in the order of forward's arguments.

    Raises:
        ShapeError: A dict does not fit, or has arguments that only go by name; the message begins with `what`.
    """
    if not isinstance(inputs, Mapping):
        return tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    bound = _bind(model, inputs)
    if bound is None or bound.kwargs:
        raise ShapeError(f"{what}: expected inputs that {type(model).__name__} takes in order, {_show_arguments(model)}, "
                         f"none left out before another; got a dict of {_show_keys(inputs)}")
    return bound.args


def in_order(what: str, names: list[str], inputs: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
    """`inputs` and `named` in the order of `names`, which are those of forward's arguments.

    Raises:
        ShapeError: They do not fit the names; the message begins with `what`.
    """
    try:
        return _signature_of(names).bind(*inputs, **named).args
    except TypeError as error:
        raise ShapeError(f"{what}: expected the inputs {', '.join(names) or 'in order, without names'}: {error}") from None


def argument_names(model: Module) -> list[str]:
    """The names of forward's arguments in order; empty if it takes any number of them."""
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


def _bind(model: Module, inputs: Mapping[str, Any]) -> inspect.BoundArguments | None:
    """The inputs bound to forward's arguments by name, or None if the names are not forward's."""
    try:
        return _signature(model).bind(**inputs)
    except TypeError:
        return None


def _call_with_dict(model: Module, inputs: Mapping[str, Any]) -> Any:
    hint = (f"a dict of inputs goes to forward by name, but {type(model).__name__} takes {_show_arguments(model)}, got "
            f"{_show_keys(inputs)}")
    try:
        _signature(model).bind(inputs)
    except TypeError:
        raise ShapeError(f"expected inputs that fit the model: {hint}") from None
    try:
        return model(inputs)
    except DtypeError as error:     # most likely it takes an array
        raise ShapeError(f"{hint}; as a whole it was refused: {error}") from error


def _show_arguments(model: Module) -> str:
    parameters = [p.replace(annotation=p.empty) for p in _signature(model).parameters.values()]
    return ", ".join(map(str, parameters)) or "arguments of no known name"


def _show_keys(inputs: Mapping[str, Any]) -> str:
    return ", ".join(map(str, inputs)) or "nothing"
