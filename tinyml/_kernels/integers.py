"""Integer layers over ndarrays: folding, packing and calling the integer kernels.

Kernels see unsigned codes u = q + 128: dot products of unsigned by signed bytes are what CPUs have. Both offsets, 128 and
the zero point, fold into the bias when weights are packed: bias + sum (q - z) w = [bias - (128 + z) sum w] + sum u w.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import fixed_point
from .dispatch import active, threads_for
from .windows import Window, geometry

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


def pack_weight(codes: np.ndarray, groups: int, kernels) -> np.ndarray:
    """Codes [G*N][K][kh][kw] as [G][panels][taps][K4][panel][4], zeros beyond K and N: the order a tile reads them in.

    One filter a channel: [1][1][taps][1][channels][1].
    """
    total, k, kh, kw = codes.shape
    n, k4 = total // groups, -(-k // 4)
    if is_depthwise(codes.shape, groups):
        padded = np.zeros((kh * kw, -(-total // kernels.lanes) * kernels.lanes), np.int8)
        padded[:, :total] = codes.reshape(total, kh * kw).T
        return padded[None, None, :, None, :, None]
    panel = kernels.panel_for(n)
    panels = -(-n // panel)
    padded = np.zeros((groups, panels * panel, 4 * k4, kh * kw), np.int8)
    padded[:, :n, :k] = codes.reshape(groups, n, k, kh * kw)
    split = padded.reshape(groups, panels, panel, k4, 4, kh * kw)
    return np.ascontiguousarray(split.transpose(0, 1, 5, 3, 2, 4))


def _per_channel(values: np.ndarray, groups: int, columns: int) -> np.ndarray:
    """[G*N] as [G*columns], zeros beyond N in each group."""
    out = np.zeros((groups, columns), values.dtype)
    out[:, : values.size // groups] = values.reshape(groups, -1)
    return out.reshape(-1)


def requant_block(m: np.ndarray, s: np.ndarray, zero_point: int, lo: int, hi: int, groups: int, columns: int,
                  lanes: int) -> np.ndarray:
    """Parameters of the fused epilogue [channels/lanes][bytes]; equation (5), rounding and zero point in one addend.

    A row is m, lo, hi (int32 a lane), then addend, s and 2^(63-s) (int64) of the even and of the odd lanes.
    """
    s = np.maximum(_per_channel(s, groups, columns), 1)
    m = _per_channel(m, groups, columns)
    addend = (np.int64(1) << (s - 1)) + (np.int64(zero_point) << s)
    head = [m.astype(np.int32), np.full(m.size, lo, np.int32), np.full(m.size, hi, np.int32)]
    tail = [addend, s, np.int64(1) << (63 - s)]
    rows = [v.reshape(-1, lanes).view(np.uint8) for v in head]
    for parity in (0, 1):
        rows += [np.ascontiguousarray(v.reshape(-1, lanes)[:, parity::2]).view(np.uint8) for v in tail]
    return np.ascontiguousarray(np.concatenate(rows, axis=1))


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
        self.k, self.n = k, total // groups
        if is_depthwise(codes.shape, groups):       # as one group, its channels side by side
            groups, self.k, self.n = 1, 1, total
        self.groups = groups
        self.weight = pack_weight(codes, self.window.groups, kernels)
        columns = self.weight.shape[1] * self.weight.shape[4]
        folded = -(128 + zero_point) * codes.sum(axis=(1, 2, 3), dtype=np.int64)
        if bias is not None:
            folded = folded + bias
        # wraps where it leaves int32; the certificate (equation 4) makes the finished sums exact all the same
        self.bias = _per_channel(folded.astype(np.int32), groups, columns)
        if requant is not None:
            self.m, self.s = fixed_point.multiplier(np.broadcast_to(requant.multiplier, (total,)))
            plain = np.zeros(total, np.int64) if bias is None else bias.astype(np.int64)
            bound = fixed_point.accumulator_bound(codes, plain, zero_point).astype(np.float64)
            self.saturate = bool((bound * self.m / np.exp2(self.s) + 129 >= INT32_MAX).any())
            self.block = requant_block(self.m, self.s, requant.zero_point, requant.lo, requant.hi, groups, columns,
                                       kernels.lanes)

    @property
    def nbytes(self) -> int:
        """Bytes of the packed weights, the folded bias and the requantization parameters."""
        return self.weight.nbytes + self.bias.nbytes + (0 if self.requant is None else self.block.nbytes)

    def unpacked(self) -> np.ndarray:
        """The codes [N][K/groups][kh][kw] that were packed."""
        groups, panels, taps, k4, panel, _ = self.weight.shape
        if self.n > 1 and self.groups < self.window.groups:
            return self.weight[0, 0, :, 0, : self.n, 0].T.reshape(self.n, 1, *self.window.size)
        flat = self.weight.transpose(0, 1, 4, 3, 5, 2).reshape(groups, panels * panel, 4 * k4, taps)
        return flat[:, : self.n, : self.k].reshape(groups * self.n, self.k, *self.window.size)

    def _call(self, x: np.ndarray, dtype) -> tuple[np.ndarray, np.ndarray, int]:
        shape, out = geometry(x.shape, self.window)
        y = np.empty((*out, self.n * self.groups), dtype)
        return y, shape, threads_for(y.size * self.k * self.window.taps // 4)

    def codes(self, x: np.ndarray) -> np.ndarray:
        """Unsigned codes to unsigned codes; equations (4) and (5)."""
        if self.requant.rounding == "double":
            acc = self.accumulators(x)
            y = np.empty(acc.shape, np.uint8)
            r = self.requant
            self.kernels.requantize_double(acc.reshape(-1, acc.shape[-1]), self.m, self.s, r.zero_point + 128,
                                           r.lo + 128, r.hi + 128, y.reshape(-1, acc.shape[-1]), threads_for(y.size))
            return y
        y, shape, threads = self._call(x, np.uint8)
        self.kernels.product_int8(x, self.weight, self.bias, self.block, y, shape, self.k, self.n,
                                  self.zero_point + 128, self.saturate, threads)
        return y

    def accumulators(self, x: np.ndarray) -> np.ndarray:
        """Unsigned codes to int32 accumulators; equation (4)."""
        y, shape, threads = self._call(x, np.int32)
        self.kernels.product_int8_i32(x, self.weight, self.bias, y, shape, self.k, self.n, self.zero_point + 128, threads)
        return y

    def floats(self, x: np.ndarray, row_scale: np.ndarray, column_scale: np.ndarray,
               bias: np.ndarray | None) -> np.ndarray:
        """Unsigned codes to float32: acc * (row_scale * column_scale) + bias, one row scale an image; equation (9)."""
        y, shape, threads = self._call(x, np.float32)
        rows = np.repeat(row_scale, y.shape[1] * y.shape[2])
        self.kernels.product_int8_f32(x, self.weight, self.bias, rows, column_scale, bias, y, shape, self.k, self.n,
                                      self.zero_point + 128, threads)
        return y


def quantize(x: np.ndarray, scale: float, zero_point: int) -> tuple[np.ndarray, int]:
    """Float32 of any layout to unsigned codes of the same shape, and the number of NaNs; equation (7)."""
    x = np.asarray(x, np.float32, order="C")
    y = np.empty(x.shape, np.uint8)
    nans = active.quantize(x.reshape(-1), np.float32(scale), zero_point + 128, y.reshape(-1), threads_for(16 * x.size))
    return y, nans


def quantize_rows(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Float32 (R, ...) to unsigned codes of the same shape and one symmetric scale a row; equation (9)."""
    x = np.asarray(x, np.float32, order="C")
    rows = x.reshape(x.shape[0], -1) if x.size else np.empty((x.shape[0], 0), np.float32)
    y, scale = np.empty(rows.shape, np.uint8), np.empty(x.shape[0], np.float32)
    active.quantize_rows(rows, scale, y, threads_for(16 * x.size))
    return y.reshape(x.shape), scale


def dequantize(u: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    """Unsigned codes to float32 of the same shape; equation (1)."""
    u = np.asarray(u, order="C")
    y = np.empty(u.shape, np.float32)
    active.dequantize(u.reshape(-1), np.float32(scale), zero_point + 128, y.reshape(-1), threads_for(16 * u.size))
    return y


def lookup(u: np.ndarray, table: np.ndarray) -> np.ndarray:
    """table[u] for a table of 256 unsigned codes."""
    u = np.asarray(u, order="C")
    y = np.empty(u.shape, np.uint8)
    active.lookup(u.reshape(-1), table, y.reshape(-1), threads_for(16 * u.size))
    return y


def _stretched(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both of the shape they broadcast to, contiguous; what has that shape already is not copied."""
    a, b = np.broadcast_arrays(a, b)
    return np.asarray(a, order="C"), np.asarray(b, order="C")


def add(a: np.ndarray, b: np.ndarray, zero_points: tuple[int, int], multipliers: tuple[int, int], shift: int,
        zero_point: int, lo: int, hi: int) -> np.ndarray:
    """Sum of two code tensors that broadcast, requantized with one rounding; multipliers of either sign; equation (8)."""
    a, b = _stretched(a, b)
    y = np.empty(a.shape, np.uint8)
    active.add_codes(a.reshape(-1), b.reshape(-1), zero_points[0] + 128, zero_points[1] + 128, *multipliers, shift,
                     zero_point + 128, lo + 128, hi + 128, y.reshape(-1), threads_for(16 * a.size))
    return y


def mul(a: np.ndarray, b: np.ndarray, zero_points: tuple[int, int], multiplier: int, shift: int, zero_point: int, lo: int,
        hi: int) -> np.ndarray:
    """Product of two code tensors that broadcast, requantized with one rounding; equation (8)."""
    a, b = _stretched(a, b)
    y = np.empty(a.shape, np.uint8)
    active.mul_codes(a.reshape(-1), b.reshape(-1), zero_points[0] + 128, zero_points[1] + 128, multiplier, shift,
                     zero_point + 128, lo + 128, hi + 128, y.reshape(-1), threads_for(16 * a.size))
    return y


def max_pool(u: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Largest code of each window, NHWC; windows from `windows.spans`."""
    u = np.asarray(u, order="C")
    y = np.empty((u.shape[0], len(rows), len(columns), u.shape[3]), np.uint8)
    active.max_pool_int8(u, rows, columns, y, threads_for(16 * u.size))
    return y


def avg_pool(u: np.ndarray, rows: np.ndarray, columns: np.ndarray, m: np.ndarray, shift: np.ndarray, zero_in: int,
             zero_out: int) -> np.ndarray:
    """Mean of each window as codes, NHWC, multipliers m * 2^-shift [OH][OW]; equation (8)."""
    u = np.asarray(u, order="C")
    y = np.empty((u.shape[0], len(rows), len(columns), u.shape[3]), np.uint8)
    active.avg_pool_int8(u, rows, columns, m, shift, zero_in + 128, zero_out + 128, y, threads_for(16 * u.size))
    return y
