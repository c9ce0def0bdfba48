"""Imports run one way: no module of tinyml imports one of a higher layer, not even inside a function."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import tinyml

ROOT = Path(tinyml.__file__).parent
# Lowest first; modules of one row do not import each other. testing is for users of ops: nothing is built on it.
LAYERS = [{"errors", "tables", "timing"}, {"checks"}, {"random", "atomic", "state", "printing", "amp"}, {"_kernels"},
          {"dtypes", "engine", "options"}, {"grad_mode"}, {"apply", "arguments", "quantized", "tape"}, {"explain", "hooks"},
          {"gradients", "in_place"}, {"core", "functions"}, {"tensors"}, {"ops"}, {"testing"}, {"autograd"},
          {"nn", "nests"}, {"batches", "metrics"}, {"optim", "data", "checkpointing", "profiling", "evaluation"},
          {"graph", "updates"}, {"plan"}, {"precision"}, {"io"}, {"trainer", "report"}, {"models"}, {"demo", "course"},
          {"cli"}]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
# What checkers of types see from below, and nothing else does: the class that has the functions as its methods.
SEEN_FROM_BELOW = ("tinyml/functions/types.py", "tinyml.tensors")
ANYTHING = {"__init__.py", "__main__.py"}       # of the package itself
MODULES = sorted(p for p in ROOT.rglob("*.py") if str(p.relative_to(ROOT)) not in ANYTHING)
BENCHMARKS = ROOT.parent / "benchmarks"
PACKAGES = ("tinyml", "benchmarks")


def imports(path: Path, source: str | None = None) -> Iterator[tuple[int, str]]:
    """(line, module) of every import of tinyml or benchmarks in a file, wherever in it, also of what only types need."""
    package = path.relative_to(ROOT.parent).parent.parts
    for node in ast.walk(ast.parse(source if source is not None else path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*base, *([node.module] if node.module else [])])
            # `from .. import tensor` names modules, `from ..tensors import x` names what is in one
            names = [f"{base}.{a.name}" if exists(f"{base}.{a.name}") or base in PACKAGES else base for a in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            names = [ast.unparse(node.args[0]).strip("f'\"")]
        yield from ((node.lineno, name) for name in names if name.split(".")[0] in PACKAGES)


def seen_from_below(path: Path, module: str) -> bool:
    """Whether it is the one import that only checkers of types follow."""
    return (str(path.relative_to(ROOT.parent)), module) == SEEN_FROM_BELOW


def exists(module: str) -> bool:
    """Whether the name is that of a module, rather than of something in one."""
    path = ROOT.parent.joinpath(*module.split("."))
    return path.with_suffix(".py").exists() or path.with_suffix(".pyx").exists() or (path / "__init__.py").exists()


def imported(path: Path, source: str | None = None) -> set[tuple[int, str]]:
    """(line, module or package right below tinyml) of every import of tinyml in a file."""
    return {(line, name.split(".")[1] if "." in name else "") for line, name in imports(path, source)}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    layer = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert layer in RANK, f"{layer} has no place in the order of layers"
    for line, name in imported(path):
        if seen_from_below(path, f"tinyml.{name}"):
            continue
        where = f"{path.name}:{line}: {layer} imports {name or 'tinyml itself'}"
        assert name in RANK, f"{where}, which has no place in the order of layers"
        assert name == layer or RANK[name] < RANK[layer], f"{where}, which is not below it"


def test_the_walk_sees_every_form_of_import():
    source = """
import numpy, tinyml.nn.layers
from .. import tensors as t, random
from ..ops.op import Op
from . import floats
from .windows import Window
from tinyml import graph
from tinyml.io.files import save
def later():
    import tinyml.cli
    importlib.import_module(f"tinyml._kernels.{isa}.x")
"""
    names = {name for _, name in imported(ROOT / "_kernels" / "made_up.py", source)}
    assert names == {"nn", "tensors", "random", "ops", "_kernels", "graph", "io", "cli"}
    assert len(MODULES) > 20


def test_kernels_see_arrays_only():
    for path in MODULES:
        if path.relative_to(ROOT).parts[0] == "_kernels":
            assert {name for _, name in imported(path)} <= {"_kernels", "checks", "errors"}, path.name


def named(path: Path) -> str:
    """A file's module."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_file_imports_itself_through_others():
    """Not even for types, but for that of Tensor, whose methods the functions are."""
    paths = [*ROOT.rglob("*.py"), *BENCHMARKS.rglob("*.py")]
    edges = {named(p): {name for _, name in imports(p) if not seen_from_below(p, name)} for p in paths}
    assert len(edges) > 150 and {"benchmarks.timing", "tinyml.plan.steps"} <= edges.keys()
    try:
        list(TopologicalSorter(edges).static_order())
    except CycleError as error:
        pytest.fail(f"{' <- '.join(error.args[1])}")
