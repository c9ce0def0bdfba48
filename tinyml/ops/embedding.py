"""Rows of a table, picked by id."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .._kernels import memory
from .._kernels.rows.codes import quantize, to_signed
from .._kernels.rows.columns import scatter_rows
from ..errors import DtypeError, QuantizationError, ShapeError
from ..quantized import Quantized, dequantize_codes
from ..tape import Context
from ..tensors import INTEGERS, Tensor
from .op import Gradients, IntegerStep, Op, Operand, Sample, Target, normal, sample


def check_ids(ids: np.ndarray, weight: np.ndarray) -> None:
    """Raise DtypeError or ShapeError unless each of `ids` is a row of `weight` (V, D)."""
    if ids.dtype not in INTEGERS or ids.dtype == np.bool_:
        raise DtypeError(f"embedding: expected integer ids, got {ids.dtype}")
    if weight.ndim != 2:
        raise ShapeError(f"embedding: expected weight (rows, dim), got {weight.shape}")
    if ids.size and (ids.min() < 0 or ids.max() >= len(weight)):
        raise ShapeError(f"embedding: expected ids in [0, {len(weight)}), got {ids.min()} to {ids.max()}")


class Embedding(Op):
    """Rows of a table: y (..., D) = weight[ids], of ids (...), integers from 0 to V - 1, and weight (V, D).

    A row that is picked more than once gets the sum of the gradients. A table in float16 or int8 gives float32 rows.

    Raises:
        ShapeError: an id is not that of a row; DtypeError: ids that are no integers.
    """

    name = "embedding"
    integer_operands = (0,)
    stored = (1,)
    int8 = "lower"
    own_codes = True

    @staticmethod
    def forward(ctx: Context, ids: np.ndarray, weight: np.ndarray) -> np.ndarray:
        check_ids(ids, weight)
        if ctx.needs[1]:
            # a copy: the kernel of backward trusts ids, and the caller may change its array by then
            ctx.ids, ctx.count = np.array(ids, np.int64), len(weight)
        # "clip" takes no copy of the result to check ids a second time
        rows = np.take(weight, ids, axis=0, out=memory.empty((*ids.shape, weight.shape[1]), weight.dtype), mode="clip")
        return rows.astype(np.float32) if rows.dtype == np.float16 else rows

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        ids = ctx.ids.reshape(-1)
        return None, scatter_rows(grad.reshape(ids.size, grad.shape[-1]), ids, ctx.count)

    @classmethod
    def run_int8(cls, ids: Tensor, weight: Tensor) -> Tensor:
        q = weight.quantized
        if ids.quantized is not None or q is None:
            raise DtypeError("embedding: expected integer ids and an int8 table, got int8 ids")
        check_ids(ids.array, weight.array)
        if q.axis == 1:
            raise DtypeError("embedding: expected scales per tensor or per row (axis 0), got axis 1")
        picked, scale = weight.array[ids.array], q.scale
        if q.group is not None:
            return Tensor._of(dequantize_codes(picked.reshape(-1, weight.shape[1]), Quantized(
                scale[ids.array].reshape(-1, scale.shape[1]), 0, 0, (ids.numel(), weight.shape[1]),
                q.group)).reshape(picked.shape))
        zero = q.zero_point.astype(np.int16)
        if q.axis == 0:
            scale, zero = scale[ids.array][..., None], zero[ids.array][..., None]
        if zero.any():
            picked = np.subtract(picked, zero, dtype=np.int16)      # NumPy 1 would take int8 for a zero of no dimension
        return Tensor._of(np.multiply(picked, scale, out=memory.empty(picked.shape, np.float32)))

    @staticmethod
    def elements(ids: tuple[int, ...], weight: tuple[int, ...]) -> int:
        return math.prod(ids) * math.prod(weight[1:])

    @classmethod
    def lower(cls, operands: list[Operand], target: Target, attrs: dict[str, Any]) -> IntegerStep | None:
        """The table in the codes of the result, one byte per element. Rows beyond the calibrated range are clamped."""
        ids, weight = operands
        if ids.value is not None or weight.value is None:
            return None
        if not np.isfinite(weight.value).all():
            raise QuantizationError("embedding: expected a table of finite values, got NaN or infinity")
        codec = target.codec
        table, _ = quantize(weight.value, codec.scale, codec.zero_point)
        return IntegerStep("embedding", {"scale": float(codec.scale), "zero_point": codec.zero_point},
                           {"table": to_signed(table)})

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(np.array([[0, 3, 3], [1, 0, 3]]), normal(rng, 4, 5))
        yield sample(np.zeros((2, 0), np.int64), normal(rng, 4, 5))
