"""The steps of a Plan: each reads values (unsigned codes or floats), computes one, and can be written to a file.

Here are those between floats and codes, products by weights, and ops that run as they are; the others are in code_steps.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, ClassVar

import numpy as np

from .._kernels.products import fixed_point, integer_layer
from .._kernels.products.convolution import FloatLayer
from .._kernels.products.windows import Window, spans
from .._kernels.rows import pooling
from .._kernels.rows.codes import dequantize, quantize
from ..errors import ShapeError
from ..graph import Batch, Constant, resolve, resolve_constant
from ..options import ROUNDINGS
from ..tape import no_grad
from ..tensor import OPS, Tensor, apply
from .arena import empty, in_memory, standard
from .writers import WRITERS

STEPS: dict[str, type[Step]] = {}


def _check(step: Step, **claims: bool) -> None:
    """Raise ShapeError unless all claims hold: kernels trust sizes, and a file may hold anything."""
    wrong = [name for name, holds in claims.items() if not holds]
    if wrong:
        raise ShapeError(f"{called(step)}: {', '.join(wrong)} out of range or of another shape than the step needs")


def called(step: Step) -> str:
    """A step as errors name it."""
    return f"{step.kind}{' in ' + step.name if step.name else ''}"


def _codes(*values: Any) -> bool:
    """Whether all are int8 codes."""
    return all(isinstance(v, int) and -128 <= v <= 127 for v in values)


class Step:
    """One step: `inputs` and `output` are value numbers, `attrs` plain data, `arrays` what it owns, `name` its layer."""

    kind: ClassVar[str] = ""
    any_memory: ClassVar[bool] = False      # whether `bind` takes operands that are not in standard memory

    def __init_subclass__(cls) -> None:
        if cls.kind:
            STEPS[cls.kind] = cls

    def __init__(self, inputs: list[int], output: int, name: str, attrs: dict[str, Any], arrays: dict[str, np.ndarray]):
        self.inputs, self.output, self.name, self.attrs, self._arrays = inputs, output, name, attrs, arrays
        self.prepare()

    def prepare(self) -> None:
        """Make once what every call needs."""

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that a file stores."""
        return self._arrays

    @property
    def nbytes(self) -> int:
        """Bytes the step keeps in memory."""
        return sum(a.nbytes for a in self._arrays.values())

    def run(self, values: list[np.ndarray], batch: int) -> np.ndarray:
        """The step's result, in memory of its own or a view of what it reads."""
        raise NotImplementedError

    def bind(self, values: list[np.ndarray], batch: int, out: np.ndarray) -> Callable[[], object]:
        """A function that computes the step from what `values` hold when it is called, and writes the result to `out`.

        All are in standard memory, of the shapes that `run` took and gave.
        """
        return lambda: np.copyto(out, self.run(values, batch))

    def by_sample(self, ndims: list[int]) -> int | None:
        """Dimensions of the result for operands of so many, the batch first in each, where each sample of the result
        comes of the same sample of the operands alone; None where that is not known."""
        return None


class Kernel(Step):
    """Base of steps that write their result where they are told."""

    dtype: ClassVar[type] = np.uint8

    def shape(self, values: list[np.ndarray], batch: int) -> tuple[int, ...]:
        """Shape of the result, once the operands are checked; theirs by default."""
        return values[0].shape

    def run(self, values, batch):
        y = empty(self.shape(values, batch), self.dtype)
        self.bind(values if self.any_memory else [standard(v) for v in values], batch, y)()
        return y

    def by_sample(self, ndims):
        return ndims[0]


class _Edge(Kernel):
    """Base of the steps between floats and codes."""

    def prepare(self):
        fixed_point.check_scale(self.attrs["scale"], self.kind)
        _check(self, zero_point=_codes(self.attrs["zero_point"]))


class Quantize(_Edge):
    """Float32 to codes; equation (7). A NaN has no code and is an error."""

    kind = "quantize"
    any_memory = True

    def bind(self, values, batch, out):
        return partial(self._call, in_memory(values[0]), in_memory(out))

    def _call(self, x: np.ndarray, y: np.ndarray) -> None:
        _, nans = quantize(x, self.attrs["scale"], self.attrs["zero_point"], y)
        if nans:
            raise ShapeError(f"plan: {nans} of {x.size} values to quantize{' in ' + self.name if self.name else ''} are "
                             "NaN, which int8 cannot represent")


class Dequantize(_Edge):
    """Codes to float32; equation (1)."""

    kind = "dequantize"
    dtype = np.float32

    def bind(self, values, batch, out):
        a = self.attrs
        return partial(dequantize, in_memory(values[0]), a["scale"], a["zero_point"], in_memory(out))


class Product(Kernel):
    """A linear layer or convolution; equations (4) and (5). Weights live packed, and are unpacked to be saved."""

    kind = "product"

    def prepare(self):
        a = self.attrs
        own = self._arrays
        weight, scale, bias = own.pop("weight"), own["scale"], own["bias"]
        window = window_of(self, a["size"])
        _check(self, weight=weight.dtype == np.int8 and weight.ndim == (4 if a["spatial"] else 2) and weight.size > 0,
               bias=bias.dtype == np.int32 and bias.shape == weight.shape[:1], scale=scale.shape == weight.shape[:1],
               groups=len(weight) % window.groups == 0, zero_point=_codes(a["zero_in"], a["zero_point"], a["lo"], a["hi"]),
               size=window.size == (weight.shape[2:] or (1, 1)), linear=a["spatial"] or is_plain(window),
               rounding=a["rounding"] in ROUNDINGS, doubled=type(a["doubled"]) is int and 0 <= a["doubled"] <= len(weight),
               spatial=type(a["spatial"]) is bool)
        for what, numbers in (("weights", scale), ("input and output", [a["scale_in"], a["scale_out"]])):
            fixed_point.check_scale(numbers, what)
        # the certificate of equation (4), a bound a channel: what the file says of it must hold
        self.bound = fixed_point.accumulator_bound(weight, bias, a["zero_in"])
        _check(self, bound=a["bound"] == self.bound.max(initial=0) <= fixed_point.INT32_MAX)
        real = np.float64(np.float32(a["scale_in"])) * scale.astype(np.float64) / np.float64(np.float32(a["scale_out"]))
        requant = integer_layer.Requant(real, a["zero_point"], a["lo"], a["hi"], a["rounding"])
        codes = weight if a["spatial"] else weight[:, :, None, None]
        self.layer = integer_layer.IntegerLayer(codes, bias.astype(np.int64), a["zero_in"], window, requant)
        self.channels, self.filters = weight.shape[1] * window.groups, len(weight)

    @property
    def arrays(self):
        weight = self.layer.unpacked()
        return {**self._arrays, "weight": weight if self.attrs["spatial"] else weight[:, :, 0, 0]}

    @property
    def nbytes(self):
        return super().nbytes + self.layer.nbytes

    def shape(self, values, batch):
        x, window = values[0], self.layer.window
        if self.attrs["spatial"]:
            _check(self, input=x.ndim == 4 and x.shape[1] == self.channels and min(window.output(*x.shape[2:])) > 0)
            return (len(x), self.filters, *window.output(*x.shape[2:]))
        _check(self, input=x.ndim > 0 and x.shape[-1] == self.channels)
        return (*x.shape[:-1], self.filters)

    def bind(self, values, batch, out):
        return bind_layer(self.layer, self.attrs["spatial"], values[0], out)

    def by_sample(self, ndims):
        return ndims[0] if ndims[0] > 1 else None


def window_of(step: Step, size: Any) -> Window:
    """The window that the step's attributes describe, of the given size."""
    return Window(size, *(step.attrs[k] for k in ("stride", "padding", "dilation", "groups")), op=called(step))


def is_plain(window: Window) -> bool:
    """Whether it is that of a linear layer: one pixel to one pixel."""
    return window == Window(window.size)


def bind_layer(layer: integer_layer.IntegerLayer | FloatLayer, spatial: bool, x: np.ndarray,
               out: np.ndarray) -> Callable[[], object]:
    """layer.bind as kernels read x and out: (images, height, width, channels), of one pixel each where it is linear."""
    if spatial:
        return layer.bind(in_memory(x), in_memory(out))
    rows, made = (np.ascontiguousarray(v).reshape(prod(v.shape[:-1]), 1, 1, v.shape[-1]) for v in (x, out))
    bound = layer.bind(rows, made)
    if x.ndim != 4:
        return bound

    def call() -> None:     # rows are no rows in channels-last memory
        np.copyto(rows.reshape(x.shape), x)
        bound()
        np.copyto(out, made.reshape(out.shape))

    return call


class Codes(Step):
    """An op that works on codes as they are: shape ops, max-pool."""

    kind = "codes"

    def run(self, values, batch):
        return OPS[self.attrs["op"]].codes(values[0], **resolve(self.attrs["attrs"], batch))

    def bind(self, values, batch, out):
        if self.attrs["op"] != "max_pool2d":
            return super().bind(values, batch, out)
        x, a = values[0], self.attrs["attrs"]
        rows, columns = (spans(*of) for of in zip(x.shape[2:], a["size"], a["stride"], a["padding"]))
        return pooling.bind_max_pool_codes(in_memory(x), rows, columns, in_memory(out))

    def by_sample(self, ndims):
        return _by_sample(self, ndims)


def _by_sample(step: Step, ndims: list[int]) -> int | None:
    """What `by_sample` says of a pooling, pointwise or shape op."""
    match step.attrs["op"]:
        case "relu" | "clip":
            return ndims[0]
        case "max_pool2d" | "avg_pool2d" | "adaptive_avg_pool2d":
            return 4
        case "reshape":
            shape = step.attrs["attrs"]["shape"]
            return len(shape) if tuple(shape[:1]) == (Batch(),) else None
    return None


def pair_by_sample(ndims: list[int], constants: list[np.ndarray]) -> int | None:
    """What `by_sample` says of operands that broadcast, some of which are constants."""
    rows = [c.ndim < ndims[0] or (c.ndim == ndims[0] and len(c) == 1) for c in constants]
    return ndims[0] if len(set(ndims)) == 1 and all(rows) else None


class Island(Step):
    """An op in float32, for want of an integer rule; constants are operands of their own, stretched to the batch."""

    kind = "island"

    def prepare(self):
        pairs = zip(self.attrs["operands"], self.attrs["batch_axes"], strict=True)
        self.constants = {where: Constant(Tensor(self._arrays[where]), batch_axes=tuple(axes))
                          for where, axes in pairs if where not in (None, "value")}

    def _operands(self, values: list[np.ndarray], batch: int) -> list[Tensor | None]:
        given = iter(values)
        return [None if where is None else Tensor(next(given)) if where == "value"
                else resolve_constant(self.constants[where], batch) for where in self.attrs["operands"]]

    def run(self, values, batch):
        with no_grad():
            return apply(OPS[self.attrs["op"]], *self._operands(values, batch), **resolve(self.attrs["attrs"], batch)).data

    def bind(self, values, batch, out):
        operands = [None if t is None else t.data for t in self._operands(values, batch)]
        if self.attrs["op"] not in WRITERS or any(a is None or a.dtype != np.float32 for a in [*operands, out]):
            return super().bind(values, batch, out)
        return WRITERS[self.attrs["op"]](*operands, out, **resolve(self.attrs["attrs"], batch))

    def by_sample(self, ndims):
        if self.attrs["op"] not in ("add", "sub", "mul"):
            return _by_sample(self, ndims)
        constants = list(self.constants.values())
        if any(c.batch_axes for c in constants):
            return None
        return pair_by_sample(ndims, [c.tensor.data for c in constants])
