"""An op owns its rules: no file outside ops/ compares or looks up the name of an op to know what is true of it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import tinyml
from tinyml.tensors import OPS

ROOT = Path(tinyml.__file__).parent
# _kernels sees arrays only (test_imports.py): what is called relu there is a kernel
FILES = sorted(p for p in ROOT.rglob("*.py") if p.relative_to(ROOT).parts[0] not in ("ops", "_kernels"))
NAMES = {name for name, op in OPS.items() if op.__module__.startswith("tinyml.ops.")}
MAKERS = {"tuple", "list", "set", "frozenset", "dict", "dict.fromkeys"}
COLLECTIONS = (ast.Tuple, ast.List, ast.Set, ast.Dict)
LOOKUPS = {"get", "pop", "setdefault", "index", "count", "remove"}      # methods that compare their first argument
ANYWHERE = ""

# What the name of an op may be compared with, looked up in, or be in: (file, the last word of it) -> why.
OPTION = "a word of an option or a file that happens to be that of an op: nothing is known of an op by it"
EXEMPT = {
    ("tensors.py", "OPS"): "the table of Tensor's methods: a lower layer has to find the op for a + b by its name",
    ("functions", "OPS"): "the functions that are these methods",
    ("core.py", "UFUNCS"): "what NumPy calls some functions: np.power",
    ("functions", "path"): "the op whose view a function writes to",
    ("functions", "how"): OPTION,           # quantile(interpolation="linear")
    ("functions", ""): OPTION,
    ("in_place.py", "OPS"): "the op by which the tape notes a change in place",
    (ANYWHERE, "kind"): "the kinds of steps in the file format; some do what the op of the same name does",
    (ANYWHERE, "rounding_mode"): OPTION,    # div(rounding_mode="floor")
    (ANYWHERE, "reduction"): OPTION,        # reduction="mean"
    (ANYWHERE, "weights"): OPTION,          # weights="max", how weight scales are chosen
    (ANYWHERE, "WEIGHTS"): OPTION,
    (ANYWHERE, "_ACTIVATIONS"): OPTION,     # activation="relu"
    (ANYWHERE, "GELU"): OPTION,             # how a config.json of other libraries calls it
}


class Hit(NamedTuple):
    """A name of an op in a file: its line, and the last word of what it is compared with, looked up in or kept as."""

    line: int
    name: str
    subject: str


def words(node: ast.AST) -> Iterator[ast.Constant]:
    """The strings that an expression is, or has as elements or keys: "a", ("a", "b"), {"a": 1}, {"a"} | {"b"}."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node
    elif isinstance(node, ast.BinOp):
        yield from (*words(node.left), *words(node.right))
    elif isinstance(node, ast.Starred):
        yield from words(node.value)
    elif isinstance(node, COLLECTIONS):
        for part in node.keys if isinstance(node, ast.Dict) else node.elts:
            yield from words(part) if part is not None else ()
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in MAKERS:
        for part in node.args:
            yield from words(part)


def last_word(node: ast.AST) -> str:
    """The last word of an expression: "kind" of step.kind, "NAMES" of module.NAMES."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def subjects(node: ast.AST) -> set[str]:
    """The last words of an expression that may be one or the other: "A" and "B" of A if x else B, and of A + B."""
    parts = [node.body, node.orelse] if isinstance(node, ast.IfExp) else \
        [node.left, node.right] if isinstance(node, ast.BinOp) else []
    return set().union(*map(subjects, parts)) if parts else {last_word(node)} - {""}


def compared(tree: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """(what is compared or looked up, what it is compared with or looked up in)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for a, b in zip(sides, sides[1:], strict=False):
                yield from ((a, b), (b, a))
        elif isinstance(node, ast.Match):
            for case in node.cases:
                yield from ((p.value, node.subject) for p in ast.walk(case.pattern) if isinstance(p, ast.MatchValue))
        elif isinstance(node, ast.Subscript):
            yield from ((node.slice, node.value), (node.value, node.slice))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOOKUPS:
            yield from ((a, b) for arg in node.args[:1] for a, b in ((arg, node.func.value), (node.func.value, arg)))


def used_so(trees: Iterable[ast.AST]) -> set[str]:
    """The names of collections that something is compared with, or looked up in."""
    return {name for tree in trees for _, b in compared(tree) for name in subjects(b)}


def hits(source: str, used: set[str], names: set[str] = NAMES) -> Iterator[Hit]:
    """Where a file compares names of ops, has them as keys, or in a collection whose name is among `used`."""
    tree = ast.parse(source)
    called: dict[ast.AST, str] = {}      # values -> the names they are given
    for node in ast.walk(tree):
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            called[node.value] = last_word(node.targets[0] if isinstance(node, ast.Assign) else node.target)
    for a, b in compared(tree):
        yield from (Hit(w.lineno, w.value, last_word(b)) for w in words(a) if w.value in names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict) or (called.get(node) in used and not isinstance(node, ast.Constant)):
            yield from (Hit(w.lineno, w.value, called.get(node, "")) for w in words(node) if w.value in names)


def unexplained(path: str, found: Iterable[Hit]) -> list[Hit]:
    """Those that the table above does not exempt."""
    return [h for h in found if not {(path, h.subject), (ANYWHERE, h.subject)} & EXEMPT.keys()]


def place(path: Path) -> str:
    """What the table above calls a file: the functions by their folder, others by their name."""
    return "functions" if path.parent == ROOT / "functions" else path.name


TEXTS = {path: path.read_text(encoding="utf-8") for path in FILES}
USED = used_so(map(ast.parse, TEXTS.values()))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_knows_an_op_by_its_name(path):
    wrong = unexplained(place(path), hits(TEXTS[path], USED))
    assert not wrong, f"give the class of the op an attribute or a method for this (see tinyml.ops.Op): {wrong}"


def test_nothing_is_exempt_that_does_not_occur():
    found = {(name, h.subject) for path in FILES for h in hits(TEXTS[path], USED) for name in (place(path), ANYWHERE)}
    assert all(key in found for key, why in EXEMPT.items() if why != OPTION)
    assert len(FILES) > 100 and len(NAMES) > 50


def test_the_walk_sees_every_form_of_a_rule():
    source = '''
import numpy as np
if node.op.name == "relu": pass
if "add" != name: pass
if name in ("sub", "other"): pass
match step.attrs["op"]:
    case "mul" | "div": pass
    case ["neg", "exp"]: pass
rule = {"log": 1, "else": 2}[name]
cost = COSTS["sqrt"] + COSTS.get("abs", 0)
WRITERS: dict = {"round": np.rint}
FIRST = ("clip", "tanh")
SECOND = {"gelu"} | frozenset(["silu"])
THIRD = ("matmul", "linear")
if name in (FIRST if first else elsewhere.SECOND): pass
def pick(): return f({"conv2d": 1})
'''
    tree = ast.parse(source)
    found = {h.name for h in hits(source, used_so([tree]))}
    assert found == {"relu", "add", "sub", "mul", "div", "neg", "exp", "log", "sqrt", "abs", "round", "clip", "tanh",
                     "gelu", "silu", "conv2d"}
    innocent = '''
kind = "add"
check("relu", x)
raise ValueError("matmul")
for name, value in (("mean", mean), ("std", std)): pass
__all__ = ["conv2d", "linear"]
y = "sum" if x else "max"
'''
    assert not list(hits(innocent, used_so([ast.parse(innocent)])))


def test_an_exemption_holds_for_what_it_names_only():
    kinds = Hit(1, "add", "kind")
    lookup = Hit(2, "add", "OPS")
    assert unexplained("twins.py", [kinds, lookup, Hit(3, "add", "name")]) == [lookup, Hit(3, "add", "name")]
    assert unexplained("tensors.py", [lookup]) == []
