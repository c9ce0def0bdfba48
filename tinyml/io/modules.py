"""A Module in a file: the constructor calls that build it, its tensors, their scales, and which tensors are tied."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import numpy as np

from .. import random
from ..errors import DtypeError, FileError, ShapeError
from ..nn import init
from ..nn.module import MODULES, Module, Opaque, Parameter, Recipe, as_parameter
from ..tensors import INT8, Tensor
from .attributes import changed_attributes, set_attributes
from .encoding import decode, encode
from .old_names import CLASSES, NAMES, restore_defaults, update

ATTRIBUTES = "attributes."      # the prefix of the names of arrays in attributes; no layer has this name
# How many parameters a constructor may make, so that a damaged file cannot ask for all memory: MOST times as many as the
# file has, because tied ones are made and dropped, and SPARE for sizes of other things, such as pooling windows.
MOST, SPARE = 4, 2**16


def write_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON.

    Raises:
        FileError: an argument is neither plain data nor a Module.
    """
    def one(value: Any) -> Any:
        if isinstance(value, Recipe):
            return {"module": write_recipe(value)}
        if isinstance(value, list):
            return [one(v) for v in value]
        if isinstance(value, tuple):
            return {"tuple": [one(v) for v in value]}
        if isinstance(value, (Opaque, dict)):
            kind = value.kind if isinstance(value, Opaque) else "dict"
            raise FileError(f"save: {recipe.name} was built with an argument of type {kind}, which a file cannot hold; "
                            "save its state_dict() instead")
        return encode(value, {})

    return {"class": recipe.name, "args": [one(a) for a in recipe.args],
            "kwargs": {k: one(v) for k, v in recipe.kwargs.items()}}


def build(recipe: dict[str, Any], arrays: dict[str, np.ndarray]) -> Module:
    """The module that a recipe describes, with parameters of zeros: at most a few times as many as `arrays` has elements.

    Raises:
        FileError: a class is not known here, or sizes do not fit. Other errors of constructors are not caught.
    """
    limit = SPARE + MOST * sum(a.size + init.OVERHEAD for a in arrays.values())
    try:
        with init.at_most(limit):
            return _built(recipe)
    except (DtypeError, ShapeError) as error:
        raise FileError(f"{error}; the file holds {sum(a.size for a in arrays.values())} elements. If the model is right, "
                        "pass an instance: load(path, model=...)") from error


def _built(recipe: dict[str, Any]) -> Module:
    """The module that a recipe describes, with parameters of zeros."""
    def one(value: Any) -> Any:
        if isinstance(value, dict) and "module" in value:
            return module(value["module"])
        if isinstance(value, dict) and "tuple" in value:
            return tuple(one(v) for v in value["tuple"])
        if isinstance(value, list):
            return [one(v) for v in value]
        return decode(value, {})

    def module(about: dict[str, Any]) -> Module:
        name = CLASSES.get(about["class"], about["class"])
        if name not in MODULES:
            raise FileError(f"class {name} is not known here; import the module that defines it first, or pass an "
                            "instance: load(path, model=...)")
        return MODULES[name](*[one(a) for a in about["args"]], **{k: one(v) for k, v in about["kwargs"].items()})

    with init.blank():      # the values come from the file
        return module(recipe)


def _layout(module: Module) -> list[list[str]]:
    """The name, the class and the numbers (stride, eps, ...) of every layer, which tensors alone do not tell."""
    return [[name, f"{type(m).__name__}({m.describe()})"] for name, m in module.named_modules()]


def describe_module(model: Module) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The description and the arrays. Tied tensors are stored once, and int8 tensors with their scales."""
    arrays: dict[str, np.ndarray] = {}
    first: dict[int, str] = {}
    ties, axes, groups = {}, {}, {}
    for name, t in model.named_tensors():
        if id(t) in first:
            ties[name] = first[id(t)]
            continue
        first[id(t)] = name
        arrays[name] = t.array
        if (q := t.quantized) is not None:
            axes[name] = q.axis
            if q.group is not None:
                groups[name] = q.group
            arrays[f"{name}.scale"] = q.scale
            if q.zero_point.any():
                arrays[f"{name}.zero_point"] = q.zero_point
    recipe = write_recipe(model._recipe)
    own: dict[str, np.ndarray] = {}
    attributes = changed_attributes(model, _fresh(model, recipe), own)
    about = {"kind": "module", "names": NAMES, "recipe": recipe, "layout": _layout(model), "ties": ties, "axes": axes}
    if groups:
        about["groups"] = groups
    if attributes:
        about["attributes"] = attributes
        arrays |= {f"{ATTRIBUTES}{key}": a for key, a in own.items()}
    return about, arrays


def _fresh(model: Module, recipe: dict[str, Any]) -> Module:
    """The model as its constructor makes it, with parameters of zeros.

    Raises:
        FileError: the constructor fails this time.
    """
    generator = random.get_state()
    try:
        return _built(recipe)
    except Exception as error:      # a user's constructor can raise any exception
        raise FileError(f"save: a file holds how a model is built, but building {type(model).__name__} again failed with "
                        f"{type(error).__name__}: {error}; save its state_dict() instead") from error
    finally:
        random.set_state(generator)


def load_module(about: dict[str, Any], arrays: dict[str, np.ndarray], model: Module | None = None) -> Module:
    """The module that `describe_module` described: `model`, or one that is built.

    Raises:
        FileError: it cannot be built, or its layers and tensors are not those of the file.
    """
    before = update(about)
    model = build(about["recipe"], arrays) if model is None else model
    if before:
        restore_defaults(model)
    return load_tensors(model, about, arrays)


def load_tensors(model: Module, about: dict[str, Any], arrays: dict[str, np.ndarray]) -> Module:
    """Replace the model's tensors by those of the file.

    Raises:
        FileError: the layers of the model differ from those in the file, or tensors are missing, of another shape, or left
            over.
    """
    own_arrays = {key: arrays.pop(key) for key in [k for k in arrays if k.startswith(ATTRIBUTES)]}
    set_attributes(model, about.get("attributes", {}), {k.removeprefix(ATTRIBUTES): a for k, a in own_arrays.items()})
    if _layout(model) != about["layout"]:
        pairs = zip_longest(about["layout"], _layout(model), fillvalue=("", "no layer"))
        (name, wanted), (_, got) = next(pair for pair in pairs if list(pair[0]) != list(pair[1]))
        raise FileError(f"expected a model with {wanted} as layer {name!r}, got {got}: it was changed after it was built; "
                        "pass the same model to load(path, model=...)")
    axes, ties, groups = about["axes"], about["ties"], about.get("groups", {})
    if not isinstance(groups, dict):
        raise FileError(f"expected groups by the name of a tensor, got {groups!r:.80}")
    own = dict(model.named_tensors())
    left = set(arrays)
    loaded: dict[str, Tensor] = {}
    for name, t in own.items():
        if name in ties:
            origin = own.get(ties[name])
            if origin is None or ties[name] in ties or origin.shape != t.shape:
                raise FileError(f"{name} cannot share the elements of {ties[name]}")
            continue
        if name not in arrays or arrays[name].shape != t.shape:
            raise FileError(f"expected tensor {name} {t.shape}, got "
                            f"{arrays[name].shape if name in arrays else 'none'}")
        used = {name, f"{name}.scale", f"{name}.zero_point"} if name in axes else {name}
        left -= used
        if name in axes:
            if f"{name}.scale" not in arrays or arrays[name].dtype != INT8:
                raise FileError(f"expected int8 codes and a scale for {name}, got {arrays[name].dtype}")
            if not (axes[name] is None or type(axes[name]) is int) or (axes[name] and isinstance(t, Parameter)):
                raise FileError(f"expected one scale, or scales along axis 0, for {name}, got axis {axes[name]!r:.80}")
            arrays[name].flags.writeable = False
            loaded[name] = Tensor(arrays[name], scale=arrays[f"{name}.scale"], axis=axes[name], group=groups.get(name),
                                  zero_point=arrays.get(f"{name}.zero_point", np.int8(0)))
        else:
            if arrays[name].dtype.kind != t.dtype.kind:
                raise FileError(f"expected {t.dtype} for {name}, got {arrays[name].dtype}")
            loaded[name] = Tensor(arrays[name])
    if left:
        raise FileError(f"tensors that no layer has: {', '.join(sorted(left)[:5])}")
    # a conversion stored weights as int8 or float16, and a converted model cannot be trained
    frozen = any(isinstance(own[name], Parameter) and own[name].dtype != t.dtype for name, t in loaded.items())

    def stored(name: str, t: Tensor) -> Tensor:
        name = ties.get(name, name)
        if isinstance(t, Parameter) and not isinstance(loaded[name], Parameter):    # only once, for all tied names
            loaded[name] = as_parameter(loaded[name], t.requires_grad and not frozen)
        return loaded[name]

    model.replace_tensors(stored)
    return model.eval()
