"""Einstein's summation: products and sums along named dimensions, as matrix products."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from .. import checks
from ..errors import DtypeError, ShapeError
from .types import OPS, Tensor, apply

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"      # in the order of sublists' numbers


def einsum(*args: Any) -> Tensor:
    """Multiply Tensors along the dimensions that have the same name, and sum over the names that the result does not have.

    Args:
        args: an equation and the Tensors (or a list of them): "bij,bjk->bik" names the dimensions of each by a letter, and
            those of the result; without "->" these are the letters that occur once, in alphabetical order. A letter twice
            in one Tensor takes its diagonal, "..." stands for dimensions that broadcast. Or each Tensor followed by a list
            of numbers from 0 to 51 in place of letters, and, at the end, that of the result.

    Returns:
        A Tensor with the dimensions of the result.

    Raises:
        ShapeError: an equation that does not fit the shapes; DtypeError: arguments of neither form.

    Example:
        >>> x = Tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> tinyml.einsum("ij,kj->ik", x, x)
        tensor([[ 5., 11.],
                [11., 25.]])
        >>> tinyml.einsum(x, [0, 0])
        tensor(5.)
    """
    equation, operands = _arguments(args)
    values, (steps, last) = dict(enumerate(operands)), _program(equation, tuple(t.shape for t in operands))
    for n, (op, places, attrs) in enumerate(steps, len(operands)):
        values[n] = apply(OPS[op], *(values.pop(i) for i in places), **attrs)
    return values[last]


def _arguments(args: tuple[Any, ...]) -> tuple[str, list[Tensor]]:
    """The equation and the Tensors of either form of a call."""
    operands: list[Tensor] = []
    equation = ""
    if args and isinstance(args[0], str):
        equation = args[0]
        operands = list(args[1]) if len(args) == 2 and isinstance(args[1], (list, tuple)) else list(args[1:])
    elif len(args) > 1:
        lists = [_letters(part) for part in args[1::2]] + ([_letters(args[-1])] if len(args) % 2 else [])
        operands, n = list(args[: len(args) - len(args) % 2 : 2]), len(args) // 2
        equation = ",".join(lists[:n]) + ("->" + lists[n] if len(lists) > n else "")
    if not operands or not all(isinstance(t, Tensor) for t in operands):
        raise DtypeError("einsum: expected an equation and Tensors, or Tensors each followed by a list of numbers")
    return equation.replace(" ", ""), operands


def _letters(numbers: Any) -> str:
    several = checks.rows("einsum", "a list of dimensions", numbers, "numbers")
    return "".join("..." if i is Ellipsis else LETTERS[checks.whole("einsum", "a dimension", i, 0, 51)] for i in several)


@dataclass(frozen=True)
class _Term:
    """An operand, or the result of a step: its number, a character for each dimension, and the sizes of these."""

    place: int
    names: str
    shape: tuple[int, ...]

    def sizes(self) -> dict[str, int]:
        """The size of each name."""
        return dict(zip(self.names, self.shape))


@lru_cache(maxsize=512)
def _program(equation: str, shapes: tuple[tuple[int, ...], ...]) -> tuple[list[tuple[str, tuple[int, ...], Any]], int]:
    """The steps of a sum, (op, the numbers of its operands, attributes), each of which makes the next number; and the
    number of the result."""
    inputs, output = _parsed(equation, shapes)
    build = _Builder(len(shapes))
    terms = [build.diagonals(_Term(i, names, shape)) for i, (names, shape) in enumerate(zip(inputs, shapes))]
    for pick in _path(terms, output):
        picked = [terms.pop(i) for i in sorted(pick, reverse=True)][::-1]
        while len(picked) > 1:
            kept = set(output).union(*(t.names for t in (*terms, *picked[2:])))
            picked[:2] = [build.multiplied(picked[0], picked[1], kept)]
        terms += picked
    result = build.permuted(build.summed(terms[0], set(output)), output)
    if not build.steps:     # "ij->ij": a Tensor of its own, which shares the memory
        result = build.reshaped(result, result.names, result.shape)
    return build.steps, result.place


class _Builder:
    """Collects the steps."""

    def __init__(self, operands: int):
        self.steps: list[tuple[str, tuple[int, ...], Any]] = []
        self.operands = operands

    def add(self, op: str, terms: tuple[_Term, ...], names: str, sizes: Iterable[int], **attrs: Any) -> _Term:
        """A step, whose result has these names and sizes."""
        self.steps.append((op, tuple(t.place for t in terms), attrs))
        return _Term(self.operands + len(self.steps) - 1, names, tuple(sizes))

    def permuted(self, t: _Term, names: str) -> _Term:
        """The dimensions in another order."""
        order = tuple(t.names.index(c) for c in names)
        return t if t.names == names else self.add("permute", (t,), names, (t.shape[d] for d in order), order=order)

    def reshaped(self, t: _Term, names: str, shape: Iterable[int]) -> _Term:
        """The same elements under other names."""
        shape = tuple(shape)
        return self.add("reshape", (t,), names, shape, shape=shape)

    def diagonals(self, t: _Term) -> _Term:
        """Each name once: of two dimensions with the same name, the elements whose indices there are the same."""
        while len(set(t.names)) < len(t.names):
            name = next(c for c in t.names if t.names.count(c) > 1)
            at = [i for i, c in enumerate(t.names) if c == name][:2]
            order = (*at, *(i for i in range(len(t.names)) if i not in at))
            names, sizes = "".join(t.names[i] for i in order[1:]), [t.shape[i] for i in order]
            t = self.add("permute", (t,), name + names, sizes, order=order)
            places = np.arange(sizes[0])
            t = self.add("getitem", (t,), names, sizes[1:], index=(places, places))
        return t

    def summed(self, t: _Term, kept: set[str]) -> _Term:
        """Without the dimensions that nothing needs any more."""
        gone = tuple(i for i, c in enumerate(t.names) if c not in kept)
        if not gone:
            return t
        left = [i for i in range(len(t.names)) if i not in gone]
        names, shape = "".join(t.names[i] for i in left), [t.shape[i] for i in left]
        return self.add("sum", (t,), names, shape, axis=gone, keepdims=False)

    def unstretched(self, t: _Term, other: dict[str, int]) -> _Term:
        """Without dimensions of 1 that are larger in the other factor: the product is the same."""
        left = [i for i, c in enumerate(t.names) if not (t.shape[i] == 1 and other.get(c, 1) != 1)]
        if len(left) == len(t.names):
            return t
        return self.reshaped(t, "".join(t.names[i] for i in left), (t.shape[i] for i in left))

    def merged(self, t: _Term, batch: str, rows: str, columns: str) -> _Term:
        """(batch..., rows..., columns...) as a batch of matrices, whose names do not matter."""
        sizes, t = t.sizes(), self.permuted(t, batch + rows + columns)
        if len(rows) == len(columns) == 1:
            return t
        shape = [*(sizes[c] for c in batch), prod(sizes[c] for c in rows), prod(sizes[c] for c in columns)]
        return self.reshaped(t, t.names, shape)

    def multiplied(self, x: _Term, y: _Term, kept: set[str]) -> _Term:
        """The product of two factors, summed over the names that are not kept."""
        x, y = self.unstretched(x, y.sizes()), self.unstretched(y, x.sizes())
        x, y = self.summed(x, kept | set(y.names)), self.summed(y, kept | set(x.names))
        batch = "".join(c for c in x.names if c in y.names and c in kept)
        common = "".join(c for c in x.names if c in y.names and c not in kept)
        rows, columns = ("".join(c for c in t.names if c not in batch + common) for t in (x, y))
        sizes = x.sizes() | y.sizes()
        names, b = batch + rows + columns, [sizes[c] for c in batch]
        r, c = [sizes[c] for c in rows], [sizes[c] for c in columns]
        if not common:
            x, y = self.permuted(x, batch + rows), self.permuted(y, batch + columns)
            x = self.reshaped(x, x.names, (*b, *r, *[1] * len(c))) if c else x
            y = self.reshaped(y, y.names, (*b, *[1] * len(r), *c)) if r and b else y
            return self.add("mul", (x, y), names, (*b, *r, *c))
        x, y = self.merged(x, batch, rows, common), self.merged(y, batch, common, columns)
        product = self.add("matmul", (x, y), names, (*b, *r, *c))
        return product if len(r) == len(c) == 1 else self.reshaped(product, names, product.shape)


def _parsed(equation: str, shapes: tuple[tuple[int, ...], ...]) -> tuple[list[str], str]:
    """A character for each dimension of each operand and of the result; those that "..." stands for become digits, counted
    from the end, past "9" further characters.

    Raises:
        ShapeError: the equation is none, or does not fit the shapes.
    """
    left, arrow, right = equation.partition("->")
    for c in left + right:
        if c not in LETTERS + ",.":
            raise ShapeError(f"einsum: expected letters in {equation!r}, got {c!r}")
    parts = left.split(",")
    if len(parts) != len(shapes):
        raise ShapeError(f"einsum: {equation!r} names {len(parts)} operands, got {len(shapes)}")
    most, sizes, inputs = 0, dict[str, int](), []
    for part, shape in zip(parts, shapes):
        dots = len(shape) - len(part.replace("...", "", 1)) if "..." in part else 0
        most = max(most, dots)
        names = part.replace("...", _digits(dots), 1) if dots >= 0 else part
        if len(names) != len(shape) or "." in names:
            raise ShapeError(f"einsum: {part!r} in {equation!r} does not fit the shape {shape}")
        if any(shape[names.index(c)] != n for c, n in zip(names, shape)):
            raise ShapeError(f"einsum: {part!r} in {equation!r} asks for a diagonal, which the shape {shape} does not have")
        for name, n in zip(names, shape):
            if sizes.setdefault(name, n) != n and 1 not in (n, sizes[name]):
                raise ShapeError(f"einsum: {name!r} in {equation!r} is of size {sizes[name]} and of size {n}")
            sizes[name] = max(sizes[name], n) if n else 0
        inputs.append(names)
    if arrow:
        output = right.replace("...", _digits(most), 1)
    else:
        once = Counter("".join(p.replace("...", "") for p in parts))
        output = _digits(most) + "".join(sorted(c for c, n in once.items() if n == 1))
    if len(set(output)) < len(output) or not set(output) <= set(sizes):
        raise ShapeError(f"einsum: the result of {equation!r} names a dimension twice, or one that no operand has")
    return inputs, output


def _digits(n: int) -> str:
    return "".join(chr(ord("0") + i) if i < 10 else chr(0x100 + i) for i in reversed(range(n)))


def _path(terms: list[_Term], output: str) -> list[tuple[int, ...]]:
    """Which factors are multiplied first, of three and more; each product is appended to the others."""
    if len(terms) < 3:
        return [(0, 1)] if len(terms) == 2 else []
    letters = dict(zip(dict.fromkeys("".join(t.names for t in terms)), LETTERS))
    parts = ["".join(letters[c] for c in names) for names in (*(t.names for t in terms), output)]
    equation = ",".join(parts[:-1]) + "->" + parts[-1]
    found: list[tuple[int, ...]] = np.einsum_path(equation, *(np.broadcast_to(0, t.shape) for t in terms))[0][1:]
    return found
