"""Steps from codes to codes without weights: tables, arithmetic, joining, pooling, rows of an embedding.

The attributes of arithmetic and joining hold the scales and zero points of their operands and results; the integer
multipliers follow from these by equation (5).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import ClassVar

import numpy as np

from .. import ops
from .._kernels.products import fixed_point
from .._kernels.rows import pooling
from .._kernels.rows.codes import add_codes, lookup, mul_codes, to_unsigned
from ..errors import TinymlError
from ..ops.op import Op, in_memory
from ..tensors import OPS
from .arena import empty
from .steps import Island, Kernel, Step, are_codes, make_island, misfit, require

LARGEST = 2**28     # codes that one step may make per sample: far beyond any layer, and no file can ask for all memory


def _check_size(step: Step, shape: tuple[int, ...], batch: int) -> None:
    """Raise ShapeError where a result would be absurdly large."""
    require(step, output=prod(shape) <= LARGEST * max(batch, 1))


def _check_scales(step: Step) -> np.ndarray:
    """Scales of the operands and the result, in float64, once they and the zero points are checked."""
    a = step.attrs
    require(step, scales=len(a["scales"]) == len(a["zero_points"]),
            zero_point=are_codes(*a["zero_points"], a["zero_point"]))
    return fixed_point.check_scale([*a["scales"], a["scale_out"]], step.kind).astype(np.float64)


def _tabulate_rescaling(step: Step) -> list[np.ndarray | None]:
    """For each operand, the table from its 256 codes to the codes of the result, equation (8); None where they are equal.
    """
    a, q, tables = step.attrs, np.arange(-128, 128), []
    *scales, scale_out = _check_scales(step)
    for scale, zero in zip(scales, a["zero_points"]):
        m, s = fixed_point.multiplier(scale / scale_out)
        y = a["zero_point"] + (((q - zero) * m + (np.int64(1) << (s - 1))) >> s)
        same = scale == scale_out and zero == a["zero_point"]
        tables.append(None if same else to_unsigned(y.clip(-128, 127).astype(np.int8)))
    return tables


def _lookup(x: np.ndarray, table: np.ndarray | None) -> np.ndarray:
    """table[x] in standard memory; x itself if the table is None."""
    if table is None:
        return x
    y = empty(x.shape, np.uint8)
    lookup(in_memory(x), table, in_memory(y))
    return y


class Table(Kernel):
    """A pointwise function on codes, as a table of 256 codes; equation (8)."""

    kind = "table"

    def prepare(self) -> None:
        table = self._arrays["table"]
        require(self, table=table.dtype == np.uint8 and table.shape == (256,))

    def bind(self, values: list[np.ndarray], batch: int, out: np.ndarray) -> Callable[[], object]:
        return partial(lookup, in_memory(values[0]), self._arrays["table"], in_memory(out))

    def as_island(self) -> Island | None:
        a = self.attrs      # a table that a constant is part of has no attributes
        return make_island(self, OPS[a["op"]], **a["attrs"]) if "attrs" in a else None


class _Pair(Kernel):
    """Base of steps of two operands that broadcast: two activations, or one and a constant with codes of its own.

    Attributes:
        kernel: the function that computes the step, from its `multiplier` and `shift`.
    """

    kernel: ClassVar[Callable[..., object]]
    multiplier: int | tuple[int, ...]
    shift: int

    def prepare(self) -> None:
        a, constant = self.attrs, self._arrays.get("constant")
        require(self, inputs=len(self.inputs) + (constant is not None) == len(a["scales"]) == 2,
                constant=constant is None or constant.dtype == np.int8,
                clamp=are_codes(a["lo"], a["hi"]) and a["lo"] <= a["hi"])
        self.constants = [] if constant is None else [to_unsigned(constant)]

    def shape(self, values: list[np.ndarray], batch: int) -> tuple[int, ...]:
        try:
            shape = np.broadcast_shapes(*(v.shape for v in [*values, *self.constants]))
        except ValueError:
            raise misfit(self, "input") from None
        _check_size(self, shape, batch)
        return shape

    def bind(self, values: list[np.ndarray], batch: int, out: np.ndarray) -> Callable[[], object]:
        a, b = (in_memory(v.reshape((1,) * (out.ndim - v.ndim) + v.shape)) for v in [*values, *self.constants])
        p = self.attrs
        return partial(self.kernel, a, b, tuple(p["zero_points"]), self.multiplier, self.shift, p["zero_point"], p["lo"],
                       p["hi"], in_memory(out))

    def by_sample(self, ndims: list[int]) -> int | None:
        return ops.arithmetic.count_dims_by_sample(ndims, self.constants)


class Add(_Pair):
    """The sum, or the difference if a sign is -1; equation (8)."""

    kind = "add"
    kernel = staticmethod(add_codes)

    def prepare(self) -> None:
        super().prepare()
        signs = self.attrs["signs"]
        require(self, signs=are_codes(*signs) and [abs(v) for v in signs] == [1, 1])
        *scales, scale_out = _check_scales(self)
        multipliers, self.shift = fixed_point.shared_multipliers([s / scale_out for s in scales])
        self.multiplier = tuple(sign * m for sign, m in zip(signs, multipliers))

    def as_island(self) -> Island | None:
        return make_island(self, ops.arithmetic.Add if self.attrs["signs"] == [1, 1] else ops.arithmetic.Sub, self._arrays)


class Mul(_Pair):
    """The product, with the multiplier s_a s_b / s_y; equation (8)."""

    kind = "mul"
    kernel = staticmethod(mul_codes)

    def prepare(self) -> None:
        super().prepare()
        a, b, y = _check_scales(self)
        m, s = fixed_point.multiplier(a * b / y)
        self.multiplier, self.shift = int(m), int(s)

    def as_island(self) -> Island | None:
        return make_island(self, ops.arithmetic.Mul, self._arrays)


class Concat(Kernel):
    """Concatenation: each operand is rescaled to the result's codes, equation (8). Constants are stored in them already."""

    kind = "concat"

    def prepare(self) -> None:
        a, own = self.attrs, self._arrays
        self.tables = _tabulate_rescaling(self)
        constants = [where for where in a["operands"] if where != "value"]
        require(self, operands=len(a["operands"]) == len(constants) + len(self.inputs) == len(self.tables) > 0,
                constants=sorted(constants) == sorted(own) and all(v.dtype == np.int8 for v in own.values()),
                axis=are_codes(a["axis"]))
        self.constants = {where: to_unsigned(v) for where, v in own.items()}

    def _parts(self, values: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Every operand with the table that brings it to the result's codes."""
        given = iter(values)
        return [(self.constants[where], None) if where in self.constants else (next(given), table)
                for where, table in zip(self.attrs["operands"], self.tables)]

    def shape(self, values: list[np.ndarray], batch: int) -> tuple[int, ...]:
        axis, parts = self.attrs["axis"], [p for p, _ in self._parts(values)]
        ndim = parts[0].ndim
        require(self, axis=-ndim <= axis < ndim)
        axis %= ndim
        others = {tuple(n for i, n in enumerate(p.shape) if i != axis) for p in parts}
        require(self, input=len(others) == 1 and all(p.ndim == ndim for p in parts))
        shape = list(parts[0].shape)
        shape[axis] = sum(p.shape[axis] for p in parts)
        _check_size(self, tuple(shape), batch)
        return tuple(shape)

    def bind(self, values: list[np.ndarray], batch: int, out: np.ndarray) -> Callable[[], object]:
        parts, axis = self._parts(values), self.attrs["axis"]
        return lambda: np.concatenate([_lookup(p, table) for p, table in parts], axis, out=out)

    def by_sample(self, ndims: list[int]) -> int | None:
        return ndims[0] if not self.constants and len(set(ndims)) == 1 and self.attrs["axis"] % ndims[0] else None

    def as_island(self) -> Island | None:
        return make_island(self, ops.shape.Concat, self._arrays, self.attrs["operands"], axis=self.attrs["axis"])


class Pad(Kernel):
    """An activation, rescaled to the result's codes by equation (8), with a constant around it."""

    kind = "pad"
    op: ClassVar[type[Op]] = ops.shape.Pad

    def prepare(self) -> None:
        a = self.attrs
        self.table, = _tabulate_rescaling(self)
        require(self, inputs=len(self.inputs) == 1, code=are_codes(a["code"]),
                widths=all(len(w) == 2 and all(isinstance(n, int) and n >= 0 for n in w) for w in a["widths"]))

    def shape(self, values: list[np.ndarray], batch: int) -> tuple[int, ...]:
        x, widths = values[0], self.attrs["widths"]
        require(self, widths=len(widths) == x.ndim)
        shape = tuple(n + before + after for n, (before, after) in zip(x.shape, widths))
        _check_size(self, shape, batch)
        return shape

    def bind(self, values: list[np.ndarray], batch: int, out: np.ndarray) -> Callable[[], object]:
        x, code = values[0], self.attrs["code"] + 128
        inner = out[tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, self.attrs["widths"]))]

        def call() -> None:
            out.fill(code)
            np.copyto(inner, _lookup(x, self.table))

        return call

    def by_sample(self, ndims: list[int]) -> int | None:
        return ndims[0] if [list(w) for w in self.attrs["widths"][:1]] == [[0, 0]] else None

    def elements(self, shapes: list[tuple[int, ...]], batch: int) -> int:
        return self.op.elements(*shapes, widths=self.attrs["widths"])

    def as_island(self) -> Island | None:
        return make_island(self, self.op, widths=tuple(map(tuple, self.attrs["widths"])), value=0.0)


class Embedding(Step):
    """Rows of a table of codes, chosen by id. The attributes hold the scale and the zero point of the codes."""

    kind = "embedding"
    op: ClassVar[type[Op]] = ops.embedding.Embedding

    def prepare(self) -> None:
        a, table = self.attrs, self._arrays["table"]
        fixed_point.check_scale(a["scale"], "embedding")
        require(self, table=table.dtype == np.int8 and table.ndim == 2, zero_point=are_codes(a["zero_point"]),
                inputs=len(self.inputs) == 1)

    def run(self, values: list[np.ndarray], batch: int) -> np.ndarray:
        ids, table = values[0], self._arrays["table"]
        try:
            ops.embedding.check_ids(ids, table)
        except TinymlError as error:
            error.passing(self.name)
            raise
        _check_size(self, (*ids.shape, table.shape[1]), batch)
        return to_unsigned(table[ids])

    def by_sample(self, ndims: list[int]) -> int | None:
        return ndims[0] + 1

    def elements(self, shapes: list[tuple[int, ...]], batch: int) -> int:
        return self.op.elements(*shapes, self._arrays["table"].shape)

    def as_island(self) -> Island | None:
        return make_island(self, self.op, self._arrays)


def _is_spans(spans: np.ndarray) -> bool:
    """Whether each row is the first index of a window and the index after its last."""
    return spans.ndim == 2 and spans.shape[1] == 2 and bool(((spans[:, 0] >= 0) & (spans[:, 0] <= spans[:, 1])).all())


class AvgPool(Kernel):
    """The means of windows; equation (8)."""

    kind = "avg_pool"

    def prepare(self) -> None:
        a, own = self.attrs, self._arrays
        self.rows, self.columns = (np.ascontiguousarray(own[k], np.intp) for k in ("rows", "columns"))
        self.last = [int(s.max(initial=0)) for s in (self.rows, self.columns)]
        shape = (len(self.rows), len(self.columns))
        spans = [s for s in (self.rows, self.columns) if _is_spans(s)]
        most = prod(int((s[:, 1] - s[:, 0]).max(initial=0)) for s in spans)
        require(self, spans=len(spans) == 2, window=most <= pooling.MOST_PIXELS,
                zero_point=are_codes(a["zero_in"], a["zero_point"]), shift=all(1 <= s <= 55 for s in own["shift"].flat),
                multiplier=all(m.dtype == np.int64 and m.shape == shape for m in (own["multiplier"], own["shift"]))
                and 0 <= own["multiplier"].min(initial=0) <= own["multiplier"].max(initial=0) < 2**31)

    def shape(self, values: list[np.ndarray], batch: int) -> tuple[int, ...]:
        x = values[0]
        require(self, input=x.ndim == 4 and self.last[0] <= x.shape[2] and self.last[1] <= x.shape[3])
        return (*x.shape[:2], len(self.rows), len(self.columns))

    def bind(self, values: list[np.ndarray], batch: int, out: np.ndarray) -> Callable[[], object]:
        return partial(pooling.avg_pool_codes, in_memory(values[0]), self.rows, self.columns, self._arrays["multiplier"],
                       self._arrays["shift"], self.attrs["zero_in"], self.attrs["zero_point"], in_memory(out))

    def elements(self, shapes: list[tuple[int, ...]], batch: int) -> int:
        return prod(shapes[0][:2]) * len(self.rows) * len(self.columns)


class Mean(AvgPool):
    """The mean of each channel of an image, (B, C, H, W) to (B, C): average pooling into one pixel; equation (8)."""

    kind = "mean"

    def prepare(self) -> None:
        super().prepare()
        require(self, pixel=len(self.rows) == len(self.columns) == 1)

    def shape(self, values: list[np.ndarray], batch: int) -> tuple[int, ...]:
        return super().shape(values, batch)[:2]

    def bind(self, values: list[np.ndarray], batch: int, out: np.ndarray) -> Callable[[], object]:
        return super().bind(values, batch, out[:, :, None, None])

    def by_sample(self, ndims: list[int]) -> int | None:
        return 2
