"""The bytes of each layer of a model, in its file and in memory."""

from __future__ import annotations

from collections.abc import Iterable

from ..io import container
from ..io.files import serialize
from ..nn.module import Module
from ..plan.plan import Plan


def on_disk(model: Module) -> tuple[dict[str, dict[str, int]], int, int]:
    """The bytes of each tensor in the file that `save` writes, by layer ("" for none), of its header, and of all of it.

    They are read from the header of the file; tensors fill the rest of it.

    Raises:
        FileError: the model cannot be saved.
    """
    content = serialize(model)
    first = 8 + int.from_bytes(content[:8], "little")
    header = container.parse(content[8:first], "header")
    modules = [name for name, _ in model.named_modules()]
    found: dict[str, dict[str, int]] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        if isinstance(model, Plan):
            at, _, array = name.partition(".")      # as io/plans.py names them
            step = model.steps[int(at)]
            layer, label = step.name, f"{step.attrs.get('op', step.kind)} {at}: {array}"
        else:
            layer = owner(name, modules)
            label = name.removeprefix(f"{layer}.")
        found.setdefault(layer, {})[label] = end - begin
    return found, first, len(content)


def owner(tensor: str, modules: Iterable[str]) -> str:
    """The name of the innermost module that has the tensor."""
    return max((name for name in modules if not name or tensor.startswith(f"{name}.")), key=len)


def in_memory(model: Module) -> dict[str, int]:
    """The bytes of each layer in memory ("" for no layer). A tied tensor counts in the first layer that has it."""
    found: dict[str, int] = {}
    if isinstance(model, Plan):
        for step in model.steps:
            found[step.name] = found.get(step.name, 0) + step.nbytes
        return found
    modules, seen = [name for name, _ in model.named_modules()], set()
    for name, t in model.named_tensors():
        if id(t) not in seen:
            seen.add(id(t))
            layer = owner(name, modules)
            found[layer] = found.get(layer, 0) + t.nbytes
    return found
