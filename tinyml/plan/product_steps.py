"""Steps that multiply by packed weights: linear layers and convolutions, in integers and in float32."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, ClassVar

import numpy as np

from .._kernels.products import fixed_point, integer_layer
from .._kernels.products.convolution import FloatLayer
from .._kernels.products.windows import Window
from ..ops.integer import count_elements
from ..ops.op import in_memory
from ..options import ROUNDINGS
from .steps import Kernel, Step, are_codes, describe_step, require


def make_window(step: Step, size: Any) -> Window:
    """The window that the step's attributes describe, of the given size."""
    a = step.attrs
    return Window(size, a["stride"], a["padding"], a["dilation"], a["groups"], describe_step(step))


def is_plain(window: Window) -> bool:
    """Whether the window is that of a linear layer, which maps one pixel to one pixel."""
    return window == Window(window.size)


def bind_layer(layer: integer_layer.IntegerLayer | FloatLayer, spatial: bool, x: np.ndarray,
               out: np.ndarray) -> Callable[[], object]:
    """layer.bind with x and out as kernels read them: (images, height, width, channels), with one pixel for linear layers.
    """
    if spatial:
        return layer.bind(in_memory(x), in_memory(out))
    rows, made = (np.ascontiguousarray(v).reshape(prod(v.shape[:-1]), 1, 1, v.shape[-1]) for v in (x, out))
    bound = layer.bind(rows, made)
    if x.ndim != 4:
        return bound

    def call() -> None:     # in channels-last memory a row is not contiguous
        np.copyto(rows.reshape(x.shape), x)
        bound()
        np.copyto(out, made.reshape(out.shape))

    return call


class PackedProduct(Kernel):
    """Base of a linear layer or convolution. Its weights are kept packed, in `layer`, and are unpacked to be saved.

    Attributes:
        reads: the dtype of the activations.
        layer: the packed weights.
        channels, filters: the number of channels that it reads, and that it makes.
    """

    reads: ClassVar[type]
    layer: integer_layer.IntegerLayer | FloatLayer
    channels: int
    filters: int

    def shape(self, values: list[np.ndarray], batch: int) -> tuple[int, ...]:
        x, window = values[0], self.layer.window
        if self.attrs["spatial"]:
            require(self, input=x.ndim == 4 and x.dtype == self.reads and x.shape[1] == self.channels
                    and min(window.output(*x.shape[2:])) > 0)
            return (len(x), self.filters, *window.output(*x.shape[2:]))
        require(self, input=x.ndim > 0 and x.dtype == self.reads and x.shape[-1] == self.channels)
        return (*x.shape[:-1], self.filters)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        weight = self.layer.unpacked()
        return {**self._arrays, "weight": weight if self.attrs["spatial"] else weight[:, :, 0, 0]}

    def bind(self, values: list[np.ndarray], batch: int, out: np.ndarray) -> Callable[[], object]:
        return bind_layer(self.layer, self.attrs["spatial"], values[0], out)

    def by_sample(self, ndims: list[int]) -> int | None:
        return ndims[0] if ndims[0] > 1 else None

    def elements(self, shapes: list[tuple[int, ...]], batch: int) -> int:
        x, = shapes
        if self.attrs["spatial"]:
            return count_elements(x, self.layer.window, self.filters)
        return prod(x[:-1]) * self.filters


class Product(PackedProduct):
    """A linear layer or convolution in integers; equations (4) and (5)."""

    kind = "product"
    reads = np.uint8
    layer: integer_layer.IntegerLayer

    def prepare(self) -> None:
        a = self.attrs
        own = self._arrays
        weight, scale, bias = own.pop("weight"), own["scale"], own["bias"]
        window = make_window(self, a["size"])
        require(self, weight=weight.dtype == np.int8 and weight.ndim == (4 if a["spatial"] else 2) and weight.size > 0,
                bias=bias.dtype == np.int32 and bias.shape == weight.shape[:1], scale=scale.shape == weight.shape[:1],
                groups=len(weight) % window.groups == 0, size=window.size == (weight.shape[2:] or (1, 1)),
                zero_point=are_codes(a["zero_in"], a["zero_point"], a["lo"], a["hi"]),
                linear=a["spatial"] or is_plain(window),
                rounding=a["rounding"] in ROUNDINGS, doubled=type(a["doubled"]) is int and 0 <= a["doubled"] <= len(weight),
                spatial=type(a["spatial"]) is bool)
        for what, numbers in (("weights", scale), ("input and output", [a["scale_in"], a["scale_out"]])):
            fixed_point.check_scale(numbers, what)
        # the certificate of equation (4), one bound per output channel: it must agree with the one in the file
        self.bound = fixed_point.accumulator_bound(weight, bias, a["zero_in"])
        require(self, bound=a["bound"] == self.bound.max(initial=0) <= fixed_point.INT32_MAX)
        real = np.float64(np.float32(a["scale_in"])) * scale.astype(np.float64) / np.float64(np.float32(a["scale_out"]))
        requant = integer_layer.Requant(real, a["zero_point"], a["lo"], a["hi"], a["rounding"])
        codes = weight if a["spatial"] else weight[:, :, None, None]
        self.layer = integer_layer.IntegerLayer(codes, bias.astype(np.int64), a["zero_in"], window, requant)
        self.channels, self.filters = weight.shape[1] * window.groups, len(weight)

    @property
    def nbytes(self) -> int:
        return super().nbytes + self.layer.nbytes


class FloatProduct(PackedProduct):
    """A linear layer or convolution in float32, whose result is clamped to [lo, hi]."""

    kind = "float_product"
    reads = dtype = np.float32
    any_memory = True

    def prepare(self) -> None:
        a, own = self.attrs, self._arrays
        weight, bias = own.pop("weight"), own.get("bias")
        require(self, weight=weight.dtype == np.float32 and weight.ndim == (4 if a["spatial"] else 2) and weight.size > 0,
                bias=bias is None or (bias.dtype == np.float32 and bias.shape == weight.shape[:1]))
        window = make_window(self, weight.shape[2:] or (1, 1))
        require(self, groups=len(weight) % window.groups == 0, linear=a["spatial"] or is_plain(window),
                clamp=a["lo"] <= a["hi"], op=isinstance(a["op"], str), spatial=type(a["spatial"]) is bool)
        filters = weight if a["spatial"] else weight[:, :, None, None]
        self.layer = FloatLayer(filters, bias, window, a["lo"], a["hi"])
        self.channels, self.filters = weight.shape[1] * window.groups, len(weight)

    @property
    def nbytes(self) -> int:
        return self.layer.nbytes
