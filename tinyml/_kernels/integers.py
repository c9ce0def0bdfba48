"""Integer layers over ndarrays: folding, packing and calling the integer kernels.

Kernels see unsigned codes u = q + 128: dot products of unsigned by signed bytes are what most CPUs have. Both offsets, 128
and the zero point, fold into the bias when weights are packed: bias + sum (q - z) w = [bias - (128 + z) sum w] + sum u w.
Where a CPU multiplies signed by signed bytes, the kernel takes 128 off u again (`kernels.offset`), and the bias knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..errors import ShapeError
from . import fixed_point
from .dispatch import active, threads_for
from .memory import aligned
from .windows import Window, sweep

INT32_MAX = 2**31 - 1
MOST_PIXELS = 2**23 - 1      # of a window whose codes are summed in int32


def to_unsigned(q: np.ndarray) -> np.ndarray:
    """u = q + 128 (uint8), contiguous."""
    return np.asarray(np.asarray(q, order="C").view(np.uint8) ^ np.uint8(128))


def to_signed(u: np.ndarray) -> np.ndarray:
    """q = u - 128 (int8)."""
    return np.asarray(u ^ np.uint8(128)).view(np.int8)


def is_depthwise(shape: tuple[int, ...], groups: int) -> bool:
    """Whether weights [N][K][kh][kw] are one filter a channel."""
    return groups > 1 and shape[0] == groups and shape[1] == 1


def lane_order(n: int, lanes: int) -> np.ndarray:
    """Channel in each place of n (a multiple of 4 * lanes) accumulators of a depthwise layer: `interleave4` of simd.h."""
    place = np.arange(n)
    block, vector, lane = place // (4 * lanes), place // lanes % 4, place % lanes
    return 4 * lanes * block + 16 * (lane // 4) + 4 * vector + lane % 4


def pack_weight(codes: np.ndarray, window: Window, kernels) -> np.ndarray:
    """Codes [G*N][K][kh][kw] as [G][panels][taps][K4][panel][4], zeros beyond K and N: the order a tile reads them in.

    Taps side by side in memory count as one of kw * K channels (windows.sweep). One filter a channel: 4 taps are in the
    place of 4 channels, channels in `lane_order`.
    """
    total, k, kh, kw = codes.shape
    groups, n = window.groups, total // window.groups
    if is_depthwise(codes.shape, groups):
        panel, slices = 4 * kernels.lanes, -(-kh * kw // 4)
        padded = np.zeros((-(-total // panel) * panel, 4 * slices), np.int8)
        padded[:total, : kh * kw] = codes.reshape(total, kh * kw)
        laced = padded[lane_order(len(padded), kernels.lanes)].reshape(-1, panel, slices, 4)
        return aligned(laced.transpose(0, 2, 1, 3)[None, :, :, None])
    taps = kh if groups == 1 and window.dilation[1] == 1 else kh * kw
    values = kh * kw // taps * k
    panel, k4 = kernels.panel_for(n), -(-values // 4)
    panels = -(-n // panel)
    padded = np.zeros((groups, panels * panel, taps, 4 * k4), np.int8)
    padded[:, :n, :, :values] = codes.transpose(0, 2, 3, 1).reshape(groups, n, taps, values)
    split = padded.reshape(groups, panels, panel, taps, k4, 4)
    return aligned(split.transpose(0, 1, 3, 4, 2, 5))


def _per_channel(values: np.ndarray, groups: int, columns: int) -> np.ndarray:
    """[G*N] as [G*columns], zeros beyond N in each group."""
    out = np.zeros((groups, columns), values.dtype)
    out[:, : values.size // groups] = values.reshape(groups, -1)
    return out.reshape(-1)


def requant_block(m: np.ndarray, s: np.ndarray, zero_point: int, lanes: int) -> np.ndarray:
    """Parameters of the fused epilogue [channels/lanes][bytes]; equation (5), rounding and zero point in one addend.

    A row is m (int32 a lane), then addend, s and 2^(63-s) (int64) of the even and of the odd lanes.
    """
    s = np.maximum(s, 1)
    addend = (np.int64(1) << (s - 1)) + (np.int64(zero_point) << s)
    rows = [m.astype(np.int32).reshape(-1, lanes).view(np.uint8)]
    for parity in (0, 1):
        rows += [np.ascontiguousarray(v.reshape(-1, lanes)[:, parity::2]).view(np.uint8)
                 for v in (addend, s, np.int64(1) << (63 - s))]
    return aligned(np.concatenate(rows, axis=1))


@dataclass
class Requant:
    """How accumulators become codes: real multipliers per channel, output zero point, clamp in int8."""

    multiplier: np.ndarray
    zero_point: int
    lo: int = fixed_point.QMIN
    hi: int = fixed_point.QMAX
    rounding: str = "single"


class IntegerLayer:
    """A linear layer or convolution in integers: codes [N][K/groups][kh][kw] packed once, then called many times.

    A linear layer is a 1x1 window; `x` is always (images, height, width, channels).
    """

    def __init__(self, codes: np.ndarray, bias: np.ndarray | None, zero_point: int, window: Window | None = None,
                 requant: Requant | None = None, kernels=active):
        self.window = window or Window()
        self.kernels, self.requant, self.zero_point = kernels, requant, zero_point
        groups, (total, k) = self.window.groups, codes.shape[:2]
        self.depthwise = is_depthwise(codes.shape, groups)
        self.k, self.n = k, total // groups
        if self.depthwise:      # as one group, its channels side by side
            groups, self.n = 1, total
        self.groups = groups
        self.weight = pack_weight(codes, self.window, kernels)
        folded = -(128 + zero_point - kernels.offset) * codes.sum(axis=(1, 2, 3), dtype=np.int64)
        if bias is not None:
            folded = folded + bias
        # wraps where it leaves int32; the certificate (equation 4) makes the finished sums exact all the same
        self.bias = aligned(self._packed(folded.astype(np.int32)))
        if requant is not None:
            self.m, self.s = fixed_point.multiplier(np.broadcast_to(requant.multiplier, (total,)))
            plain = np.zeros(total, np.int64) if bias is None else bias.astype(np.int64)
            bound = fixed_point.accumulator_bound(codes, plain, zero_point).astype(np.float64)
            self.saturate = bool((bound * self.m / np.exp2(self.s) + 129 >= INT32_MAX).any())
            self.block = requant_block(self._packed(self.m), self._packed(self.s), requant.zero_point, kernels.lanes)

    def _packed(self, values: np.ndarray) -> np.ndarray:
        """One value a channel in the order of packed weights."""
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

    def _call(self, x: np.ndarray, dtype, out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, int]:
        shape, size = sweep(x.shape, self.window, None, self.depthwise, 4)
        size = (*size, self.n * self.groups)
        if out is not None and out.shape != size:       # kernels trust shapes
            raise ShapeError(f"codes: expected an output of shape {size} for input {x.shape}, got {out.shape}")
        y = np.empty(size, dtype) if out is None else out
        return y, shape, y.size * self.k * self.window.taps // 4

    def codes(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Unsigned codes to unsigned codes; equations (4) and (5)."""
        if self.requant.rounding == "double":
            acc = self.accumulators(x)
            y = np.empty(acc.shape, np.uint8) if out is None else out
            r = self.requant
            self.kernels.requantize_double(acc.reshape(-1, acc.shape[-1]), self.m, self.s, r.zero_point + 128,
                                           r.lo + 128, r.hi + 128, y.reshape(-1, acc.shape[-1]), threads_for(y.size))
            return y
        y, shape, work = self._call(x, np.uint8, out)
        self.kernels.product_int8(*self._arguments(x, y, shape), threads_for(work))
        return y

    def bind(self, x: np.ndarray, out: np.ndarray) -> Callable[[], object]:
        """`codes` of these two arrays as a function that costs hardly more than the arithmetic."""
        if self.requant.rounding == "double":
            return partial(self.codes, x, out)
        _, shape, work = self._call(x, np.uint8, out)
        bound = self.kernels.bound_int8(*self._arguments(x, out, shape))
        return lambda: bound(threads_for(work))

    def _arguments(self, x: np.ndarray, y: np.ndarray, shape: np.ndarray) -> tuple:
        r = self.requant
        return (x, self.weight, self.bias, self.block, y, shape, self.n, self.zero_point + 128, self.saturate, r.lo + 128,
                r.hi + 128)

    def accumulators(self, x: np.ndarray) -> np.ndarray:
        """Unsigned codes to int32 accumulators; equation (4)."""
        y, shape, work = self._call(x, np.int32)
        self.kernels.product_int8_i32(x, self.weight, self.bias, y, shape, self.n, self.zero_point + 128, threads_for(work))
        return y

    def floats(self, x: np.ndarray, row_scale: np.ndarray, column_scale: np.ndarray,
               bias: np.ndarray | None) -> np.ndarray:
        """Unsigned codes to float32: acc * (row_scale * column_scale) + bias, one row scale an image; equation (9)."""
        y, shape, work = self._call(x, np.float32)
        rows = np.repeat(row_scale, y.shape[1] * y.shape[2])
        self.kernels.product_int8_f32(x, self.weight, self.bias, rows, column_scale, bias, y, shape, self.n,
                                      self.zero_point + 128, threads_for(work))
        return y


# Where a function takes `out`, the result is written there: contiguous, of the result's shape and dtype.


def quantize(x: np.ndarray, scale: float | np.ndarray, zero_point: int,
             out: np.ndarray | None = None) -> tuple[np.ndarray, int]:
    """Float32 of any layout to unsigned codes of the same shape, and the number of NaNs; equation (7)."""
    y = np.empty(x.shape, np.uint8) if out is None else out
    if x.ndim == 4 and x.strides[2] == 4 != x.strides[3] and not any(s % 4 for s in x.strides) and x.dtype == np.float32:
        # images as users have them, channel by channel: codes come out channels-last without a copy of the floats
        return y, active.quantize_images(x, np.float32(scale), zero_point + 128, y, threads_for(16 * x.size))
    x = np.asarray(x, np.float32, order="C")
    nans = active.quantize(x.reshape(-1), np.float32(scale), zero_point + 128, y.reshape(-1), threads_for(16 * x.size))
    return y, nans


def quantize_rows(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Float32 (R, ...) to unsigned codes of the same shape and one symmetric scale a row; equation (9)."""
    x = np.asarray(x, np.float32, order="C")
    rows = x.reshape(x.shape[0], -1) if x.size else np.empty((x.shape[0], 0), np.float32)
    y, scale = np.empty(rows.shape, np.uint8), np.empty(x.shape[0], np.float32)
    active.quantize_rows(rows, scale, y, threads_for(16 * x.size))
    return y.reshape(x.shape), scale


def dequantize(u: np.ndarray, scale: float | np.ndarray, zero_point: int, out: np.ndarray | None = None) -> np.ndarray:
    """Unsigned codes to float32 of the same shape; equation (1)."""
    u = np.asarray(u, order="C")
    y = np.empty(u.shape, np.float32) if out is None else out
    active.dequantize(u.reshape(-1), np.float32(scale), zero_point + 128, y.reshape(-1), threads_for(16 * u.size))
    return y


def lookup(u: np.ndarray, table: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """table[u] for a table of 256 unsigned codes."""
    u = np.asarray(u, order="C")
    y = np.empty(u.shape, np.uint8) if out is None else out
    active.lookup(u.reshape(-1), table, y.reshape(-1), threads_for(16 * u.size))
    return y


def _stretched(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both of the shape they broadcast to, contiguous; what has that shape already is not copied."""
    if a.shape != b.shape:
        a, b = np.broadcast_arrays(a, b)
    return np.asarray(a, order="C"), np.asarray(b, order="C")


def add(a: np.ndarray, b: np.ndarray, zero_points: tuple[int, int], multipliers: tuple[int, int], shift: int,
        zero_point: int, lo: int, hi: int, out: np.ndarray | None = None) -> np.ndarray:
    """Sum of two code tensors that broadcast, requantized with one rounding; multipliers of either sign; equation (8)."""
    a, b = _stretched(a, b)
    y = np.empty(a.shape, np.uint8) if out is None else out
    active.add_codes(a.reshape(-1), b.reshape(-1), zero_points[0] + 128, zero_points[1] + 128, *multipliers, shift,
                     zero_point + 128, lo + 128, hi + 128, y.reshape(-1), threads_for(16 * a.size))
    return y


def mul(a: np.ndarray, b: np.ndarray, zero_points: tuple[int, int], multiplier: int, shift: int, zero_point: int, lo: int,
        hi: int, out: np.ndarray | None = None) -> np.ndarray:
    """Product of two code tensors that broadcast, requantized with one rounding; equation (8)."""
    a, b = _stretched(a, b)
    y = np.empty(a.shape, np.uint8) if out is None else out
    active.mul_codes(a.reshape(-1), b.reshape(-1), zero_points[0] + 128, zero_points[1] + 128, multiplier, shift,
                     zero_point + 128, lo + 128, hi + 128, y.reshape(-1), threads_for(16 * a.size))
    return y


def max_pool(u: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Largest code of each window, NHWC; windows from `windows.spans`."""
    u = np.asarray(u, order="C")
    y = np.empty((u.shape[0], len(rows), len(columns), u.shape[3]), np.uint8)
    bind_max_pool(u, rows, columns, y)()
    return y


def bind_max_pool(u: np.ndarray, rows: np.ndarray, columns: np.ndarray, out: np.ndarray) -> Callable[[], object]:
    """max_pool of contiguous codes into `out` as a function that costs hardly more than the arithmetic."""
    kernel, work = active.max_pool_int8, 16 * u.size
    return lambda: kernel(u, rows, columns, out, threads_for(work))


def avg_pool(u: np.ndarray, rows: np.ndarray, columns: np.ndarray, m: np.ndarray, shift: np.ndarray, zero_in: int,
             zero_out: int, out: np.ndarray | None = None) -> np.ndarray:
    """Mean of each window as codes, NHWC, multipliers m * 2^-shift [OH][OW]; equation (8)."""
    u = np.asarray(u, order="C")
    y = np.empty((u.shape[0], len(rows), len(columns), u.shape[3]), np.uint8) if out is None else out
    active.avg_pool_int8(u, rows, columns, m, shift, zero_in + 128, zero_out + 128, y, threads_for(16 * u.size))
    return y
