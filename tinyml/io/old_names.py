"""Names, arguments and defaults that earlier versions wrote into files, and the present ones."""

from __future__ import annotations

from typing import Any

from ..errors import FileError
from ..nn.activations import Softmax
from ..nn.module import Module
from ..nn.norms import RMSNorm

NAMES = 2       # which names a file has: 1 are those of version 0.1, 2 PyTorch's
# A file names a class with its Python module, so a class that moves or is renamed gets a row here.
CLASSES = {
    "tinyml.nn.module.Sequential": "tinyml.nn.containers.Sequential",
    "tinyml.nn.module.ModuleList": "tinyml.nn.containers.ModuleList",
    "tinyml.nn.attention.MultiHeadAttention": "tinyml.nn.attention.SelfAttention",
    "tinyml.models.gpt.TinyGPT": "tinyml.models.gpt.model.TinyGPT",
    "tinyml.models.gpt.Block": "tinyml.models.gpt.network.Block",
}
# The arguments of constructors in the order of version 0.1, under their present names.
ARGUMENTS = {"tinyml.nn.norms.LayerNorm": ("normalized_shape", "eps", "bias"),
             "tinyml.nn.losses.CrossEntropyLoss": ("ignore_index", "label_smoothing")}
# Attributes of layers that were renamed.
ATTRIBUTES = {"Softmax": {"axis": "dim"}, "MaxPool2d": {"size": "kernel_size"}, "AvgPool2d": {"size": "kernel_size"},
              "AdaptiveAvgPool2d": {"outputs": "output_size"}, "Flatten": {"start": "start_dim"}}


def update(about: dict[str, Any]) -> bool:
    """Give the description of a module the present names, in place; whether it had those of version 0.1.

    Raises:
        FileError: a later version wrote it.
    """
    names = about.get("names", 1)
    if type(names) is not int or not 1 <= names <= NAMES:
        raise FileError(f"expected names of version 1 to {NAMES}, got {names!r:.80}: a newer tinyml wrote it, upgrade "
                        "to read it")
    if names == NAMES:
        return False
    _update_recipe(about["recipe"])
    kinds = {}
    for row in about["layout"]:
        row[1] = row[1].replace("MultiHeadAttention(", "SelfAttention(", 1)
        kinds[row[0]] = row[1].partition("(")[0]
    for name, own in about.get("attributes", {}).items():
        for old, new in ATTRIBUTES.get(kinds.get(name, ""), {}).items():
            if old in own:
                own[new] = own.pop(old)
    return True


def _update_recipe(value: Any) -> None:
    """Update the recipes in a recipe, in its arguments too."""
    if isinstance(value, list):
        for v in value:
            _update_recipe(v)
    elif isinstance(value, dict):
        if order := ARGUMENTS.get(value.get("class", ""), ()):
            value["kwargs"] |= dict(zip(order, value["args"]))
            value["args"] = value["args"][len(order):]
        for v in value.values():
            _update_recipe(v)


def restore_defaults(model: Module) -> None:
    """Give layers that were built without an argument its default in version 0.1."""
    for m in model.modules():
        if isinstance(m, RMSNorm) and m.eps is None:
            m.eps = 1e-5
        elif isinstance(m, Softmax) and m.dim is None:
            m.dim = -1
