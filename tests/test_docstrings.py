"""Docstrings of the public API: what help() answers, and that their examples run."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tinyml
from tinyml import data, errors, graph, io, models, nn, optim, precision, report, testing
from tinyml.nn import functional, init

PUBLIC = [tinyml, data, errors, graph, io, models, nn, functional, init, optim, precision, report, testing]
# The names that an example may use without an import.
NAMES = {"tinyml": tinyml, "np": np, "Tensor": tinyml.Tensor, "nn": nn, "F": functional, "optim": optim, "models": models,
         "data": data}
# Modules whose docstrings do not have the sections yet.
UNFINISHED = ("tinyml._kernels",)
ROOT = Path(tinyml.__file__).parent
SHOWN = sorted(path for path in ROOT.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))
SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Example")
# Methods that all classes of a kind have: the class, or the first definition, documents their arguments.
INHERITED = {"forward", "describe", "fused_with", "update", "lr_at", "batch", "observe"}
# Abstract bases, which no line of code shows by themselves.
NO_EXAMPLE = {"tinyml.optim.Optimizer", "tinyml.optim.Schedule"}


def things() -> Iterator[tuple[str, Any]]:
    """Every public class and function with its name."""
    seen: set[int] = set()
    for module in PUBLIC:
        for name in getattr(module, "__all__", None) or [n for n in vars(module) if n[0] != "_"]:
            thing = getattr(module, name)
            where = getattr(thing, "__module__", None) or ""
            if not callable(thing) or isinstance(thing, ModuleType) or id(thing) in seen or not where.startswith("tinyml"):
                continue
            seen.add(id(thing))
            if not where.startswith(UNFINISHED):
                yield f"{module.__name__}.{name}", thing


def methods(name: str, thing: Any) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that a class defines itself."""
    for part, value in vars(thing).items() if isinstance(thing, type) else ():
        if part[0] != "_" and (callable(value) or isinstance(value, (property, classmethod, staticmethod))):
            yield f"{name}.{part}", getattr(thing, part)


THINGS = dict(things())
ALL = THINGS | {name: part for whole, thing in THINGS.items() for name, part in methods(whole, thing)}


def sections(doc: str) -> dict[str, str]:
    """The text of each section of a docstring."""
    parts = re.split(rf"^({'|'.join(SECTIONS)}):\n", doc, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def parameters(thing: Any) -> list[str]:
    """The names of what a call of it takes; none for errors, protocols, and layers without a constructor of their own."""
    if isinstance(thing, type) and (issubclass(thing, Exception) or getattr(thing, "_is_protocol", False)
                                    or getattr(thing, "__init__", None) is nn.Module.__init__):
        return []
    try:
        found = inspect.signature(thing).parameters
    except (TypeError, ValueError):
        return []
    return [name for name in found if name not in ("self", "cls")]


def source(thing: Any) -> str:
    """The code of a function, or of a class's constructor."""
    if isinstance(thing, type):
        thing = next((vars(thing)[name] for name in ("__init__", "__post_init__") if name in vars(thing)), None)
    try:
        return inspect.getsource(thing)
    except (TypeError, OSError):
        return ""


def faults(name: str, thing: Any) -> Iterator[str]:
    """What is missing in its docstring."""
    doc = inspect.getdoc(thing) or ""
    if not doc.split("\n\n")[0].rstrip().endswith("."):
        yield f"its first paragraph is no sentence: {doc[:80]!r}"
    if name.rsplit(".", 1)[-1] in INHERITED or isinstance(thing, property):
        return
    found, given, code = sections(doc), parameters(thing), source(thing)
    described = re.findall(r"^    (\w+):", found.get("Args", ""), flags=re.MULTILINE)
    if dataclasses.is_dataclass(thing) and "Args" not in found:     # functions make it: its fields, then any properties
        described = re.findall(r"^    (\w+):", found.get("Attributes", ""), flags=re.MULTILINE)[:len(given)]
    if "input" not in described and "input" in given[:1]:       # the Tensor whose method it is, said once for all
        given = given[1:]
    if described != given:
        yield f"it takes {given}, and Args describes {described}"
    if ("raise " in code or "checks." in code) and "Raises" not in found and not isinstance(thing, type):
        yield "no Raises"
    if given and not isinstance(thing, type) and "Returns" not in found and (
            inspect.signature(thing).return_annotation != "None" and "@contextmanager" not in code):
        yield "no Returns"


@pytest.mark.parametrize("name", ALL)
def test_sections_are_complete(name):
    assert not list(faults(name, ALL[name]))


@pytest.mark.parametrize("path", SHOWN, ids=lambda p: str(p.relative_to(ROOT)))
def test_examples_print_what_they_show(path, tmp_path, monkeypatch, capsys):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    module = importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    monkeypatch.chdir(tmp_path)
    tinyml.manual_seed(0)
    failed, tried = doctest.testmod(module, extraglobs=NAMES, optionflags=doctest.REPORT_NDIFF)
    assert tried and not failed, capsys.readouterr().out


def test_classes_and_functions_have_examples():
    without = {name for name, thing in THINGS.items() if ">>> " not in (inspect.getdoc(thing) or "") and not (
        isinstance(thing, type) and issubclass(thing, Exception))}
    assert without <= NO_EXAMPLE


@pytest.mark.parametrize("method", ["to_int8", "to_fp16", "compile", "save", "report"])
def test_conversions_take_what_modules_say(method):
    """nn cannot see the packages that convert: their functions take the same arguments, with the same defaults."""
    def taken(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
        return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()][1:]

    function = {"save": lambda self, path: None}.get(method) or nn.module.conversions[method]
    assert taken(getattr(nn.Module, method)) == taken(function)
