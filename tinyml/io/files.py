"""model.save(path) and tinyml.load(path): safetensors, with what is needed to build the model again in its metadata.

Nothing in a file is executed: a class is looked up among the Module classes that are already imported, never imported.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from .. import random
from ..errors import FileError, TinymlError
from ..nn.module import MODULES, Module, conversions
from ..precision.plan import Plan
from .atomic import write_whole
from .modules import build, describe_module, load_tensors
from .plans import describe_plan, load_plan

VERSION = 1


def serialize(model: Module) -> bytes:
    """The bytes that `save` writes."""
    about, tensors = describe_plan(model) if isinstance(model, Plan) else describe_module(model)
    about["version"] = VERSION
    metadata = {"tinyml": json.dumps(about, separators=(",", ":"))}
    return to_bytes({k: np.asarray(v, order="C") for k, v in tensors.items()}, metadata)


def save(model: Module, path: Any) -> None:
    """Write a float or int8 model; the file is complete or not there.

    Raises:
        FileError: an attribute that cannot be written, or the file cannot.
    """
    write_whole(Path(path), serialize(model))


def read(path: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a tinyml file says of itself, and its arrays.

    Raises:
        FileError: missing, damaged, or not written by tinyml.
    """
    path = Path(path)
    if not path.is_file():
        raise FileError(f"{path}: no such file")
    try:
        with safe_open(str(path), "np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open has no __iter__)
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FileError(f"{path}: not a readable safetensors file: {error}") from error
    try:
        about = json.loads(metadata["tinyml"])
    except KeyError:
        raise FileError(f"{path}: a safetensors file without tinyml's description; load its arrays with safetensors and "
                        "load_state_dict") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise FileError(f"{path}: damaged description: {error}") from error
    if not isinstance(about, dict) or about.get("version") != VERSION:
        found = about.get("version") if isinstance(about, dict) else type(about).__name__
        raise FileError(f"{path}: expected version {VERSION} of the format, got {found}")
    return about, arrays


def load(path: Any, model: Module | None = None) -> Module:
    """The model that `save` wrote, in evaluation mode, its outputs equal bit for bit.

    Args:
        model: an instance to load into, for a class that cannot be built from the file (unusual constructor arguments).

    Raises:
        FileError: missing, damaged or foreign file, or a class that is not imported; naming the file.
    """
    about, arrays = read(path)
    state = random.get_state()
    try:
        if about.get("kind") == "plan":
            return load_plan(about, arrays)
        if about.get("kind") != "module":
            raise FileError(f"expected a module or a plan, got {about.get('kind')!r}")
        return load_tensors(build(about["recipe"], MODULES) if model is None else model, about, arrays)
    except TinymlError as error:
        raise FileError(f"{path}: {error}") from error
    except Exception as error:      # constructors and steps raise anything when given anything
        raise FileError(f"{path}: damaged description: {type(error).__name__}: {error}") from error
    finally:
        random.set_state(state)     # building a model draws initial values that the file replaces


conversions.update(save=save, serialize=serialize)
