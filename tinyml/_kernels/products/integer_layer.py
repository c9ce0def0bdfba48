"""Linear layers and convolutions in integers: their bias is folded and their weights are packed once, then kernels are
called.

Kernels see unsigned codes u = q + 128, because most CPUs have a dot product of unsigned by signed bytes. Both offsets, 128
and the zero point, are folded into the bias when weights are packed: bias + sum (q - z) w = [bias - (128 + z) sum w] + sum
u w. Where a CPU multiplies signed by signed bytes, kernels subtract 128 from u again (`kernels.offset`), which the folded
bias accounts for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ...errors import QuantizationError, ShapeError
from ..dispatch import active, threads_for
from ..memory import align
from . import fixed_point
from .windows import Window, sweep


def is_depthwise(shape: tuple[int, ...], groups: int) -> bool:
    """Whether weights [N][K][kh][kw] are one filter per channel."""
    return groups > 1 and shape[0] == groups and shape[1] == 1


def lane_order(n: int, lanes: int) -> np.ndarray:
    """Which channel each of n accumulators of a depthwise layer has: the order of `interleave4` in words/simd.h.

    n is a multiple of 4 * lanes.
    """
    place = np.arange(n)
    block, vector, lane = place // (4 * lanes), place // lanes % 4, place % lanes
    return 4 * lanes * block + 16 * (lane // 4) + 4 * vector + lane % 4


def pack_weight(codes: np.ndarray, window: Window, kernels: SimpleNamespace) -> np.ndarray:
    """Codes [G*N][K][kh][kw] as [G][panels][taps][K4][panel][4], with zeros beyond K and N: the order in which a tile reads
    them.

    Taps that are neighbours in memory count as one tap of kw * K channels (windows.sweep). Where there is one filter per
    channel, 4 taps take the place of 4 input channels, and the channels are in `lane_order`.
    """
    total, k, kh, kw = codes.shape
    groups, n = window.groups, total // window.groups
    if is_depthwise(codes.shape, groups):
        panel, slices = 4 * kernels.lanes, -(-kh * kw // 4)
        padded = np.zeros((-(-total // panel) * panel, 4 * slices), np.int8)
        padded[:total, : kh * kw] = codes.reshape(total, kh * kw)
        laced = padded[lane_order(len(padded), kernels.lanes)].reshape(-1, panel, slices, 4)
        return align(laced.transpose(0, 2, 1, 3)[None, :, :, None])
    taps = kh if groups == 1 and window.dilation[1] == 1 else kh * kw
    values = kh * kw // taps * k
    panel, k4 = kernels.panel_for(n), -(-values // 4)
    panels = -(-n // panel)
    padded = np.zeros((groups, panels * panel, taps, 4 * k4), np.int8)
    padded[:, :n, :, :values] = codes.transpose(0, 2, 3, 1).reshape(groups, n, taps, values)
    split = padded.reshape(groups, panels, panel, taps, k4, 4)
    return align(split.transpose(0, 1, 3, 4, 2, 5))


def _per_channel(values: np.ndarray, groups: int, columns: int) -> np.ndarray:
    """[G*N] as [G*columns], with zeros beyond N in each group."""
    out = np.zeros((groups, columns), values.dtype)
    out[:, : values.size // groups] = values.reshape(groups, -1)
    return out.reshape(-1)


def requant_block(m: np.ndarray, s: np.ndarray, zero_point: int, lanes: int) -> np.ndarray:
    """The parameters of requantization, [channels/lanes][bytes]; equation (5), with rounding and zero point in one addend.

    A row has m of all lanes (int32), then addend, s and 2^(63-s) (int64) of the even lanes, then those of the odd lanes.
    """
    s = np.maximum(s, 1)
    addend = (np.int64(1) << (s - 1)) + (np.int64(zero_point) << s)
    rows = [m.astype(np.int32).reshape(-1, lanes).view(np.uint8)]
    for parity in (0, 1):
        rows += [np.ascontiguousarray(v.reshape(-1, lanes)[:, parity::2]).view(np.uint8)
                 for v in (addend, s, np.int64(1) << (63 - s))]
    return align(np.concatenate(rows, axis=1))


@dataclass
class Requant:
    """How accumulators become codes: one real multiplier per channel, the zero point of the output, the clamp in int8."""

    multiplier: np.ndarray
    zero_point: int
    lo: int = fixed_point.QMIN
    hi: int = fixed_point.QMAX
    rounding: str = "single"


class IntegerLayer:
    """A linear layer or convolution in integers, whose codes [N][K/groups][kh][kw] are packed once, then used many times.

    A linear layer is a 1x1 window. The input `x` is always (images, height, width, channels).
    """

    def __init__(self, codes: np.ndarray, bias: np.ndarray | None, zero_point: int, window: Window | None = None,
                 requant: Requant | None = None, kernels: SimpleNamespace = active):
        self.window = window or Window()
        self.kernels, self.requant, self.zero_point = kernels, requant, zero_point
        groups, (total, k) = self.window.groups, codes.shape[:2]
        self.depthwise = is_depthwise(codes.shape, groups)
        self.k, self.n = k, total // groups
        if self.depthwise:      # it counts as one group, whose channels are neighbours
            groups, self.n = 1, total
        self.groups = groups
        self.weight = pack_weight(codes, self.window, kernels)
        folded = -(128 + zero_point - kernels.offset) * codes.sum(axis=(1, 2, 3), dtype=np.int64)
        if bias is not None:
            folded = folded + bias
        # it wraps where it leaves int32; the finished sums are exact all the same, because equation (4) bounds them
        self.bias = align(self._packed(folded.astype(np.int32)))
        if requant is not None:
            self.m, self.s = fixed_point.multiplier(np.broadcast_to(requant.multiplier, (total,)))
            plain = np.zeros(total, np.int64) if bias is None else bias.astype(np.int64)
            bound = fixed_point.accumulator_bound(codes, plain, zero_point).astype(np.float64)
            self.saturate = bool((bound * self.m / np.exp2(self.s) + 129 >= fixed_point.INT32_MAX).any())
            self.block = requant_block(self._packed(self.m), self._packed(self.s), requant.zero_point, kernels.lanes)

    def _packed(self, values: np.ndarray) -> np.ndarray:
        """One value per channel, in the order of the packed weights."""
        padded = _per_channel(values, self.groups, self.weight.shape[1] * self.weight.shape[4])
        return padded[lane_order(padded.size, self.kernels.lanes)] if self.depthwise else padded

    @property
    def nbytes(self) -> int:
        """Bytes of the packed weights, the folded bias and the requantization parameters."""
        return self.weight.nbytes + self.bias.nbytes + (0 if self.requant is None else self.block.nbytes)

    def unpacked(self) -> np.ndarray:
        """The codes [N][K/groups][kh][kw] that were packed."""
        kh, kw = self.window.size
        if self.depthwise:
            laced = self.weight[0, :, :, 0].transpose(0, 2, 1, 3).reshape(-1, 4 * self.weight.shape[2])
            natural = np.empty_like(laced)
            natural[lane_order(len(laced), self.kernels.lanes)] = laced
            return natural[: self.n, : kh * kw].reshape(self.n, 1, kh, kw)
        groups, panels, taps, k4, panel, _ = self.weight.shape
        flat = self.weight.transpose(0, 1, 4, 2, 3, 5).reshape(groups, panels * panel, taps, 4 * k4)
        taken = flat[:, : self.n, :, : kh * kw // taps * self.k]
        return np.ascontiguousarray(taken.reshape(groups * self.n, kh, kw, self.k).transpose(0, 3, 1, 2))

    def _call(self, x: np.ndarray, dtype: DTypeLike,
              out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, int]:
        shape, pixels = sweep(x.shape, self.window, None, self.depthwise, 4)
        size = (*pixels, self.n * self.groups)
        if out is not None and out.shape != size:       # kernels trust shapes
            raise ShapeError(f"codes: expected an output of shape {size} for input {x.shape}, got {out.shape}")
        y = np.empty(size, dtype) if out is None else out
        return y, shape, y.size * self.k * self.window.taps // 4

    def codes(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Unsigned codes of the output from those of the input; equations (4) and (5)."""
        r = self.requant
        if r is not None and r.rounding == "double":
            acc = self.accumulators(x)
            y = np.empty(acc.shape, np.uint8) if out is None else out
            self.kernels.requantize_double(acc.reshape(-1, acc.shape[-1]), self.m, self.s, r.zero_point + 128,
                                           r.lo + 128, r.hi + 128, y.reshape(-1, acc.shape[-1]), threads_for(y.size))
            return y
        y, shape, work = self._call(x, np.uint8, out)
        self.kernels.product_int8(*self._arguments(x, y, shape), threads_for(work))
        return y

    def bind(self, x: np.ndarray, out: np.ndarray) -> Callable[[], object]:
        """A function that computes `codes` of these two arrays, and costs hardly more than the arithmetic."""
        if self.requant is not None and self.requant.rounding == "double":
            return partial(self.codes, x, out)
        _, shape, work = self._call(x, np.uint8, out)
        bound = self.kernels.bound_int8(*self._arguments(x, out, shape))
        return lambda: bound(threads_for(work))

    def _arguments(self, x: np.ndarray, y: np.ndarray, shape: np.ndarray) -> tuple[Any, ...]:
        r = self.requant
        if r is None:
            raise QuantizationError("codes: the layer was made without a Requant, and has accumulators and floats only")
        return (x, self.weight, self.bias, self.block, y, shape, self.n, self.zero_point + 128, self.saturate, r.lo + 128,
                r.hi + 128)

    def accumulators(self, x: np.ndarray) -> np.ndarray:
        """The int32 accumulators of unsigned codes; equation (4)."""
        y, shape, work = self._call(x, np.int32)
        self.kernels.product_int8_i32(x, self.weight, self.bias, y, shape, self.n, self.zero_point + 128, threads_for(work))
        return y

    def floats(self, x: np.ndarray, row_scale: np.ndarray, column_scale: np.ndarray,
               bias: np.ndarray | None) -> np.ndarray:
        """acc * (row_scale * column_scale) + bias of unsigned codes, as float32, with one row scale per image; equation
        (9)."""
        y, shape, work = self._call(x, np.float32)
        rows = np.repeat(row_scale, y.shape[1] * y.shape[2])
        self.kernels.product_int8_f32(x, self.weight, self.bias, rows, column_scale, bias, y, shape, self.n,
                                      self.zero_point + 128, threads_for(work))
        return y
