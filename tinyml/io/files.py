"""model.save(path), tinyml.save(obj, path) and tinyml.load(path): a safetensors file, whose metadata say how to build the
model, or what the arrays are part of. tinyml.load also reads PyTorch's state dicts.

Nothing in a file is executed: a class is looked up among the Module classes that are already imported, never imported.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np

from .. import checks, random
from ..arguments import check_device
from ..atomic import write_whole
from ..errors import FileError, TinymlError
from ..nn.module import Module, conversions
from ..plan.plan import Plan
from ..precision.training.model import QATModel
from .container import opened, pack, unpack
from .modules import describe_module, load_module
from .nested import describe_nested, load_nested
from .plans import describe_plan, load_plan
from .torch_files import LEGACY, is_torch_file, read_state_dict, without_prefix

M = TypeVar("M", bound=Module)


def serialize(model: Module) -> bytes:
    """The bytes that `save` writes.

    Args:
        model: a float or int8 model, or a Plan.

    Returns:
        A safetensors file.

    Raises:
        FileError: a file cannot hold an attribute of the model, or the model is prepared for quantization-aware training.

    Example:
        >>> tinyml.io.serialize(nn.Linear(2, 3))[8:24]
        b'{"__metadata__":'
    """
    if isinstance(model, QATModel):
        raise FileError("save: a model prepared for quantization-aware training has no file of its own; save its "
                        "to_int8(), or its state_dict() to train on")
    return pack(*(describe_plan(model) if isinstance(model, Plan) else describe_module(model)))


def save(obj: Any, path: str | PathLike[str]) -> None:
    """Write a model, or what training goes on from, to a safetensors file. If that fails, no part of a file is left.

    Args:
        obj: a Module or a Plan, float or int8; or dicts, lists and tuples of Tensors, arrays, numbers, strings and None,
            such as {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}.
        path: the file; an existing one is replaced.

    Raises:
        FileError: a file cannot hold an attribute of the model or a part of `obj`, which the message names, or the path
            cannot be written.

    Example:
        >>> tinyml.save(nn.Linear(2, 3), "linear.safetensors")
        >>> tinyml.load("linear.safetensors")
        Linear(2, 3, bias=True, float32)
        >>> tinyml.save({"weights": [Tensor([1.0, 2.0])], "epoch": 3}, "state.safetensors")
        >>> tinyml.load("state.safetensors")
        {'weights': [tensor([1., 2.])], 'epoch': 3}
    """
    path = Path(checks.path("save", path))
    write_whole(path, serialize(obj) if isinstance(obj, Module) else pack(*describe_nested(obj)))


@overload
def load(path: str | PathLike[str], model: None = None, *, map_location: Any = None, weights_only: bool = True) -> Any: ...


@overload
def load(path: str | PathLike[str], model: M, *, map_location: Any = None, weights_only: bool = True) -> M: ...


def load(path: str | PathLike[str], model: Module | None = None, *, map_location: Any = None,
         weights_only: bool = True) -> Any:
    """Load what `save` wrote, models with outputs equal bit for bit, or a state dict that PyTorch or a Trainer wrote.

    Nothing in a file is executed, and PyTorch is not needed. Every bit of a file is checked against its digest. A plan
    without float islands is also run, on an input made from the seed in its file, and must give the bytes it gave when it
    was saved. Float layers differ in their last bits between instruction sets, so models with them have no such check.

    Args:
        path: a file of `save`, a .pt or .pth of torch.save (state dicts only), or the best.safetensors of a Trainer. The
            first bytes of the file tell which.
        model: an instance to load into, for a class that cannot be built from the file (unusual constructor arguments), or
            for a state dict (the prefix "module." of DataParallel is removed from names).
        map_location: "cpu" or None, as there is no other device.
        weights_only: taken for PyTorch's sake; nothing in a file is executed in any case.

    Returns:
        The model in evaluation mode, or what else was saved; for a state dict without `model`, a dict from names to arrays.

    Raises:
        FileError: the file is missing, damaged or of another kind, a class is not imported, or tensors do not fit the
            model; the message names the file.
        DtypeError: `model` is not a Module, or `map_location` is another device.

    Example:
        >>> nn.Linear(2, 3).save("linear.safetensors")
        >>> tinyml.load("linear.safetensors")
        Linear(2, 3, bias=True, float32)
    """
    path, state = Path(checks.path("load", path)), random.get_state()
    if model is not None:
        checks.instance("load", "model", model, Module)
    check_device("load", map_location)
    checks.flag("load", "weights_only", weights_only)
    try:
        with opened(path) as (file, _):
            foreign = is_torch_file(file.read(len(LEGACY)))
        if foreign:
            arrays = read_state_dict(path)
            return arrays if model is None else _filled(model, arrays)
        about, arrays = unpack(path)
        if about.get("kind") == "state_dict":
            return arrays if model is None else _filled(model, arrays)
        if about.get("kind") == "nested":
            content = load_nested(about, arrays)
            return content if model is None else _filled(model, checks.instance("load", "the content", content, dict))
        with np.errstate(all="ignore"):     # numbers that are refused later may be divided by first
            if about.get("kind") == "plan":
                return load_plan(about, arrays)
            if about.get("kind") != "module":
                raise FileError(f"expected a module or a plan, got {about.get('kind')!r:.80}")
            return load_module(about, arrays, model)
    except TinymlError as error:
        raise FileError(f"{path}: {error}") from error
    except Exception as error:      # given damaged values, constructors and steps can raise any exception
        raise FileError(f"{path}: damaged description: {type(error).__name__}: {error}") from error
    finally:
        random.set_state(state)     # building a model draws initial values that the file replaces


def _filled(model: Module, arrays: dict[str, Any]) -> Module:
    """The model with the arrays of a state dict, in evaluation mode. Counters of batches may be missing, as before
    PyTorch 0.4.1."""
    own = dict(model.named_tensors())
    arrays = without_prefix(arrays) if own.keys().isdisjoint(arrays) else arrays
    counters = {name: t for name, t in own.items() if name.endswith("num_batches_tracked")}
    model.load_state_dict({**counters, **arrays})
    return model.eval()


conversions.update(save=save, serialize=serialize)
