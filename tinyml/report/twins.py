"""The float32 twin of an integer step: the same layer, as a compiled float32 plan would run it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._kernels.products.convolution import FloatLayer
from .._kernels.rows import pooling
from ..ops import Codec
from ..plan.arena import empty, standard
from ..plan.code_steps import AvgPool, Mean
from ..plan.product_steps import Product, bind_layer
from ..plan.steps import Step


def codecs(steps: list[Step]) -> dict[int, Codec]:
    """The scale and the zero point of every value of a plan that is codes, from the attributes of the steps."""
    found: dict[int, Codec] = {}

    def note(value: int, scale: float, zero_point: int) -> None:
        found[value] = Codec(np.float32(scale), zero_point)

    for step in steps:
        a = step.attrs
        if step.kind in ("quantize", "embedding"):
            note(step.output, a["scale"], a["zero_point"])
        elif step.kind == "dequantize":
            note(step.inputs[0], a["scale"], a["zero_point"])
        elif step.kind == "product":
            note(step.inputs[0], a["scale_in"], a["zero_in"])
            note(step.output, a["scale_out"], a["zero_point"])
        elif "scale_out" in a:
            note(step.output, a["scale_out"], a["zero_point"])
            places = [where == "value" for where in a.get("operands", ["value"] * len(step.inputs))]
            given = iter(step.inputs)
            for is_value, scale, zero_point in zip(places, a["scales"], a["zero_points"]):
                if is_value:
                    note(next(given), scale, zero_point)
    for step in [*steps, *reversed(steps)]:     # steps that pass codes through have no scale of their own
        if step.kind == "codes":
            for one, other in ((step.inputs[0], step.output), (step.output, step.inputs[0])):
                if one in found:
                    found.setdefault(other, found[one])
    return found


def numbers(u: np.ndarray, codec: Codec) -> np.ndarray:
    """The floats that unsigned codes represent, equation (1), in standard memory."""
    return standard((u.astype(np.float32) - (codec.zero_point + 128)) * codec.scale)


def twin(step: Step, values: list[np.ndarray], out: np.ndarray, batch: int,
         known: dict[int, Codec]) -> Callable[[], object] | None:
    """A function that computes an integer step in float32, bound to its operands.

    It is None if the step does not hold the attributes of its op, because a constant is part of its table. Clamps of sums,
    which are a step of their own in float32, are left out.
    """
    plain = Codec(np.float32(1), 0)
    xs = [numbers(v, known.get(i, plain)) if v.dtype == np.uint8 else v for i, v in zip(step.inputs, values)]
    y = empty(out.shape, np.float32)
    if isinstance(step, Product):
        return bind_layer(float_layer(step), step.attrs["spatial"], xs[0], y)
    if isinstance(step, AvgPool) and not isinstance(step, Mean):
        rows, columns = step.rows, step.columns
        heights, widths = (np.diff(spans).ravel().astype(np.float64) for spans in (rows, columns))
        return lambda: pooling.avg_pool(xs[0], rows, columns, np.outer(heights, widths))
    island = step.as_island()
    return None if island is None else island.bind(xs, batch, y)


def float_layer(step: Product) -> FloatLayer:
    """The layer with the numbers that its codes represent as weights."""
    a, weight, scale = step.attrs, step.layer.unpacked(), step.arrays["scale"].astype(np.float64)
    real = weight * scale[:, None, None, None]
    bias = step.arrays["bias"] * (a["scale_in"] * scale.astype(np.float64))
    lo, hi = ((a[k] - a["zero_point"]) * a["scale_out"] for k in ("lo", "hi"))
    return FloatLayer(real.astype(np.float32), bias.astype(np.float32), step.layer.window, lo, hi)
