"""Hugging Face folders, config.json and safetensors, of the families that TinyGPT has.

All that the files claim is checked by their headers first: every tensor that the config asks for is there, in its shape and
inside its file, and none is left over. Then a model is made, and the tensors are read one by one into its parameters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import FileError, TinymlError
from ...io.container import DTYPES, HEADER_LIMIT, Stored, opened, parse, read_array, stored
from ...nn import Module
from .families import FAMILIES, Place

BF16 = np.dtype("V2")       # the upper half of a float32, which NumPy has no dtype for
FLOATS = {"F32": DTYPES["F32"], "F16": DTYPES["F16"], "BF16": BF16}
FILE, INDEX = "model.safetensors", "model.safetensors.index.json"


class Checkpoint:
    """A folder whose headers fit its config.json: `config`, and `fill`, which reads the weights.

    Raises:
        FileError: naming the folder and what is missing, damaged, unknown, or does not fit.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        with naming(folder):
            if not folder.is_dir():
                raise FileError("expected a folder with config.json and model.safetensors")
            about = read_json(folder / "config.json")
            family = FAMILIES.get(about["model_type"]) if isinstance(about.get("model_type"), str) else None
            if family is None:
                raise FileError(f"config.json: expected a model_type of {', '.join(FAMILIES)}, got "
                                f"{about.get('model_type')!r:.80}")
            self.config = family.config(about)
            self.shards = {path: read_header(path) for path in shards(folder)}
            found: dict[str, Stored] = {}       # by names without the prefix that models with a head have
            self.names: dict[str, str] = {}
            for path, tensors in self.shards.items():
                for tensor in tensors:
                    name = tensor.name.removeprefix(family.prefix)
                    if name in found:
                        raise FileError(f"{path.name}: tensor {tensor.name} comes twice")
                    if not re.fullmatch(family.ignored, name):
                        found[name], self.names[tensor.name] = tensor, name
            if self.config.layers > len(found):     # before they are listed: a config may say any number
                raise FileError(f"config.json: {self.config.layers} layers, the files have {len(found)} tensors")
            self.places = family.places(self.config)
            check(found, self.places)

    def fill(self, model: Module) -> None:
        """Read the weights into the parameters of `model`, which has this config. One tensor is in memory beside them.

        Raises:
            FileError: a file that changed since, weights that are not finite, two tensors for one parameter that differ.
        """
        parameters, written = dict(model.named_tensors()), set()
        with naming(self.folder):
            for path, tensors in self.shards.items():
                with opened(path) as (file, size):
                    if stored(file, size, DTYPES | FLOATS) != tensors:
                        raise FileError(f"{path.name}: the file changed while it was read")
                    for tensor in tensors:
                        if tensor.name not in self.names:
                            file.seek(math.prod(tensor.shape) * tensor.dtype.itemsize, 1)
                            continue
                        place = self.places[self.names[tensor.name]]
                        parameter = parameters[place.parameter].array
                        target = parameter.T if place.transposed else parameter[place.first :][: place.shape[0]]
                        where = id(parameter), place.first
                        put(tensor, read_array(file, tensor), target, where in written)
                        written.add(where)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors raised within name the path."""
    try:
        yield
    except TinymlError as error:
        raise FileError(f"{path}: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of at most HEADER_LIMIT bytes."""
    with naming(Path(path.name)), opened(path) as (file, size):
        if size > HEADER_LIMIT:
            raise FileError(f"{size} bytes, the limit is {HEADER_LIMIT}")
        return parse(file.read(size), "JSON")


def read_header(path: Path) -> list[Stored]:
    """The tensors of a shard, in the order of their bytes."""
    with naming(Path(path.name)), opened(path) as (file, size):
        return stored(file, size, DTYPES | FLOATS)


def shards(folder: Path) -> list[Path]:
    """The safetensors files of a folder: the one, or those that the index names."""
    if (folder / FILE).exists():
        return [folder / FILE]
    if not (folder / INDEX).exists():
        raise FileError(f"expected {FILE} or {INDEX}, found neither")
    names = read_json(folder / INDEX).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(n, str) and re.fullmatch(r"[\w-][\w.-]*\.safetensors", n)
                                              for n in names.values()):
        raise FileError(f"{INDEX}: expected a weight_map from tensors to the names of .safetensors files in this folder")
    return [folder / name for name in sorted(set(names.values()))]


def check(found: dict[str, Stored], places: dict[str, Place]) -> None:
    """Raise FileError unless these are the tensors that the config asks for."""
    missing = [f"{name} {place.shape}" for name, place in places.items() if name not in found and not place.optional]
    problems = [f"missing {what}" for what in missing] + [f"left over {name} {t.shape}" for name, t in found.items()
                                                          if name not in places]
    problems += [f"{name} has shape {found[name].shape}, expected {place.shape}" for name, place in places.items()
                 if name in found and found[name].shape != place.shape]
    problems += [f"{name} has dtype {t.dtype}, expected F32, F16 or BF16" for name, t in found.items()
                 if t.dtype not in FLOATS.values()]
    if problems:
        raise FileError(f"{len(problems)} tensors do not fit config.json: " + "; ".join(problems[:5])
                        + (", ..." if len(problems) > 5 else ""))


def put(tensor: Stored, array: np.ndarray, target: np.ndarray, again: bool) -> None:
    """target = array as float32; again: it has that already, from a tensor that must be equal."""
    if again:
        if not np.array_equal(widened(array, np.empty(array.shape, np.float32)), target):
            raise FileError(f"tensor {tensor.name} differs from another that config.json says it is one with "
                            "(tie_word_embeddings)")
        return
    if not np.isfinite(widened(array, target)).all():
        raise FileError(f"tensor {tensor.name} has values that are not finite")


def widened(array: np.ndarray, out: np.ndarray) -> np.ndarray:
    """`array` of F32, F16 or BF16 in `out`, float32, with no other array of its size."""
    if array.dtype == BF16:
        bits = out.view(np.uint32)
        bits[...] = array.view("<u2")
        np.left_shift(bits, 16, out=bits)
    else:
        out[...] = array
    return out
