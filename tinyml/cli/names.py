"""Models and data as a user names them on the command line."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any, overload

from .. import data, io
from ..errors import FileError, TinymlError
from ..models import TinyGPT
from ..nn import Module

MODEL = "a file, a Hugging Face folder, or module:callable that makes the model"
DATA = "shipped, fashion-mnist, bible, a .npz or .txt file, or a folder of CIFAR-10"


def add_model(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add positional arguments that name models, and the options with the arguments of module:callable."""
    for name in names or ("model",):
        parser.add_argument(name, metavar=name.upper(), help=MODEL)
    parser.add_argument("--arg", action="append", default=[], metavar="NAME=VALUE", type=_argument,
                        help="an argument of module:callable, its value as JSON; may be given more than once")
    parser.add_argument("--arch", metavar="MODULE:CALLABLE", help="what makes the model that a state dict is loaded into")


def _argument(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def model(name: str, args: argparse.Namespace) -> Module:
    """The model that a user named.

    Raises:
        FileError: There is no such file, module or callable, it makes no model, or a file cannot be read.
    """
    if ":" in name and not Path(name).exists():
        return _make(name, dict(args.arg))
    if (Path(name) / "config.json").exists():
        return TinyGPT.from_pretrained(name)
    if args.arch:
        return io.load(name, _make(args.arch, dict(args.arg)))
    loaded = io.load(name)
    if not isinstance(loaded, Module):
        raise FileError(f"{name}: holds a state dict, which needs a model: --arch module:callable")
    return loaded


def _make(name: str, arguments: dict[str, Any]) -> Module:
    where, _, what = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")      # modules in the working directory are found, as with python -m
    try:
        made: Any = importlib.import_module(where)
        for part in what.split("."):
            made = getattr(made, part)
        result = made(**arguments)
    except TinymlError:
        raise
    except Exception as error:      # the user's code can raise any exception
        raise FileError(f"{name}: {type(error).__name__}: {error}") from error
    if not isinstance(result, Module):
        raise FileError(f"{name}: expected a callable that makes a tinyml.nn.Module, got a {type(result).__name__}")
    return result


def dataset(name: str, split: str, model: Module) -> data.Dataset:
    """The part `split` of the data that a user named; a text is cut into windows as long as the model's context."""
    return data.load_dataset(name, split, model.context if isinstance(model, TinyGPT) else 64)


@overload
def batches(name: str, split: str, model: Module, size: int) -> data.DataLoader: ...


@overload
def batches(name: str, split: str, model: Module, size: int, most: int) -> list[Any]: ...


def batches(name: str, split: str, model: Module, size: int, most: int | None = None) -> data.DataLoader | list[Any]:
    """The batches of `dataset`, or of its first `most` samples."""
    whole = dataset(name, split, model)
    if most is None:
        return data.DataLoader(whole, size)
    return [whole[range(i, min(i + size, most, len(whole)))] for i in range(0, min(most, len(whole)), size)]
