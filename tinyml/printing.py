"""How Tensors print: as PyTorch prints them, with its rules for digits, columns, and what is left out of large ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import checks
from .errors import ShapeError

UNSAID = ("float32", "int64", "bool")       # the dtypes that the elements tell by how they print


@dataclass
class Options:
    """What `set_printoptions` sets."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


PROFILES: dict[str, dict[str, Any]] = {"default": {}, "short": {"precision": 2, "edgeitems": 2},
                                       "full": {"threshold": math.inf}}
options = Options()


def set_printoptions(precision: int | None = None, threshold: float | None = None, edgeitems: int | None = None,
                     linewidth: int | None = None, profile: str | None = None, sci_mode: bool | None = None) -> None:
    """Set how Tensors print. What is None stays as it is, but for `sci_mode`.

    Args:
        precision: digits after the point of floats; 4 at first.
        threshold: the number of elements beyond which only the edges print; 1000 at first.
        edgeitems: how many elements print at each end of a dimension then; 3 at first.
        linewidth: characters per line; 80 at first.
        profile: "default", "short" or "full", from which the other arguments differ.
        sci_mode: whether floats print as 1.0000e+00; None: where their sizes differ much.

    Raises:
        DtypeError, ShapeError: an argument of another kind, or below 0, or an unknown profile.

    Example:
        >>> tinyml.set_printoptions(precision=2)
        >>> Tensor([1.12345])
        tensor([1.12])
        >>> tinyml.set_printoptions(profile="default")
    """
    who = "set_printoptions"
    wanted = Options(**vars(options))
    if profile is not None:
        if profile not in PROFILES:
            raise ShapeError(f"{who}: expected profile to be one of {', '.join(PROFILES)}, got {checks.described(profile)}")
        wanted = Options(**PROFILES[profile])
    for name, value in (("precision", precision), ("edgeitems", edgeitems), ("linewidth", linewidth)):
        if value is not None:
            setattr(wanted, name, checks.whole(who, name, value))
    if threshold is not None:
        wanted.threshold = checks.number(who, "threshold", threshold, 0, infinite=True)
    wanted.sci_mode = None if sci_mode is None else checks.flag(who, "sci_mode", sci_mode)
    vars(options).update(vars(wanted))


def text(t: Any) -> str:
    """What `repr` of a Tensor gives."""
    array, said = t.array, []
    if (array.ndim != 1 and not array.size) or (array.size and not options.edgeitems):
        said.append(f"size={array.shape}")
    if str(array.dtype) not in UNSAID or (not array.size and array.dtype != np.float32):
        said.append(f"dtype={array.dtype}")
    if t.quantized:
        said.append(str(t.quantized))
    if t.node:
        said.append(f"grad_fn={t.grad_fn!r}")
    elif t.requires_grad:
        said.append("requires_grad=True")
    name = type(t).__name__
    start = "tensor(" if name in ("Tensor", "Parameter") else f"{name}("
    return _with_suffixes(start + _elements(array, len(start)), said, len(start))


def _elements(array: np.ndarray, indent: int) -> str:
    """The elements in brackets."""
    if not array.size:
        return "[]"
    shown, cut = array, array.size > options.threshold
    if cut:
        for axis, n in enumerate(array.shape):
            if n > 2 * options.edgeitems:
                edges = np.r_[:options.edgeitems, n - options.edgeitems:n]
                shown = shown.take(edges, axis)
    return _brackets(array, indent, cut, *_columns(shown))


def _brackets(array: np.ndarray, indent: int, cut: bool, write: Callable[[Any], str], width: int) -> str:
    """The elements, line by line; where they are `cut`, the edges of long dimensions only."""
    if not array.ndim:
        return write(array.item())
    edge = options.edgeitems
    cut_here = cut and (len(array) > 2 * edge or not edge)
    heads, tails = (array[:edge], array[len(array) - edge:]) if cut_here else (array, array[:0])
    if array.ndim > 1:
        parts = [[_brackets(a, indent + 1, cut, write, width) for a in rows] for rows in (heads, tails)]
        between = "," + "\n" * (array.ndim - 1) + " " * (indent + 1)
        return "[" + between.join([*parts[0], *["..."] * cut_here, *parts[1]]) + "]"
    words = [*map(write, heads.tolist()), *[" ..." if edge else "..."] * cut_here, *map(write, tails.tolist())]
    fit = max(1, (options.linewidth - indent) // (width + 2))
    lines = [", ".join(words[i:i + fit]) for i in range(0, len(words), fit)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def _columns(array: np.ndarray) -> tuple[Callable[[Any], str], int]:
    """What writes an element, and the width of a column. NaN and infinities do not count, and may be wider."""
    if array.dtype.kind != "f":
        width = max(map(len, map(str, array.ravel().tolist())), default=1)
        return lambda value: str(value).rjust(width), width
    counted = array[np.isfinite(array) & (array != 0)]
    sizes = np.abs(counted).astype(np.float64)
    whole = bool((counted == np.ceil(counted)).all())
    scientific = bool(counted.size) and options.sci_mode
    if counted.size and options.sci_mode is None:
        scientific = bool(sizes.max() / sizes.min() > 1000 or sizes.max() > 1e8 or sizes.min() < 1e-4)
    digits = f".{options.precision}e" if scientific else ".0f" if whole else f".{options.precision}f"

    def word(value: float) -> str:
        return format(value, digits) + ("." if whole and not scientific and math.isfinite(value) else "")

    width = max(map(len, map(word, counted.tolist())), default=1)
    return lambda value: word(value).rjust(width), width


def _with_suffixes(body: str, suffixes: list[str], indent: int) -> str:
    """`body` with what else is said, on new lines where a line would become too long."""
    length = len(body) - body.rfind("\n") + 1
    for suffix in suffixes:
        if length + len(suffix) + 2 > options.linewidth:
            body += ",\n" + " " * indent + suffix
            length = indent + len(suffix)
        else:
            body += ", " + suffix
            length += len(suffix) + 2
    return body + ")"
