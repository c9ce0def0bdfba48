"""Windows of convolution and pooling: their limits, the sizes of outputs, the geometry that kernels read, spans of
pooling."""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ...errors import OutOfMemoryError, ShapeError

Pair = tuple[int, int]
MOST = 2**31 - 1        # of sizes, strides and so on: far beyond any image, and products of a few of them fit in 64 bits
LEAST = {"size": 1, "stride": 1, "padding": 0, "dilation": 1}
DIRECT = 14     # the place of `direct` among the numbers of `sweep`: whether the input is read in place
HEAD = 20       # the place where the offsets of the taps begin
UNIT_PIXELS = 1024      # the same as in window.pxi


def whole_numbers(op: str, name: str, values: Any, least: int, count: int = 2) -> tuple[int, ...]:
    """`values` as `count` plain ints from `least` to MOST.

    Raises:
        ShapeError: they are something else; it names `op` and `name`.
    """
    if type(values) in (tuple, list) and len(values) == count:
        plain = tuple(int(v) if isinstance(v, np.integer) else v for v in values)
        if all(type(v) is int and least <= v <= MOST for v in plain):
            return plain
    raise ShapeError(f"{op}: expected {name} to be {count} whole number{'s' * (count > 1)} from {least} to {MOST}, got "
                     f"{values!r:.80}")


@dataclass(frozen=True)
class Window:
    """Size, stride, zero padding and dilation of a window, rows first, and the number of channel groups.

    Raises:
        ShapeError: one of them is not a pair of whole numbers within the limits, which kernels rely on. It names `op`.
    """

    size: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    op: InitVar[str] = "window"

    def __post_init__(self, op: str) -> None:
        for name, least in LEAST.items():
            given = getattr(self, name)
            # the usual case comes first and is cheap, because a small convolution takes only 10 us
            if type(given) is tuple and len(given) == 2:
                a, b = given
                if type(a) is type(b) is int and least <= a <= MOST and least <= b <= MOST:
                    continue
            object.__setattr__(self, name, whole_numbers(op, name, given, least))
        if type(self.groups) is not int or not 1 <= self.groups <= MOST:
            object.__setattr__(self, "groups", whole_numbers(op, "groups", (self.groups,), 1, 1)[0])

    @property
    def taps(self) -> int:
        return self.size[0] * self.size[1]

    def output(self, h: int, w: int) -> Pair:
        """Height and width of the output, each floor((size + 2 padding - dilation (window - 1) - 1) / stride) + 1; it is 0
        or less where the window does not fit."""
        oh, ow = ((n + 2 * p - d * (k - 1) - 1) // s + 1
                  for n, k, s, p, d in zip((h, w), self.size, self.stride, self.padding, self.dilation))
        return oh, ow


def _laid_out(outputs: int, taps: int, stride: int, dilation: int) -> tuple[int, int, int, int]:
    """How scratch memory holds one dimension of the padded input, as four numbers.

    Scratch holds the padded input as it is, unless less than half of that would be read: then it holds, output by output,
    what the taps read. So it does not grow with padding, stride or dilation that only lead to zeros.

    Returns:
        step: from one output to the next, in places of scratch.
        gap: from one place of scratch to the next within an output, in places of the padded input.
        tap: from one tap to the next, in places of scratch.
        reach: how many places of scratch an output reads across.
    """
    reach = (taps - 1) * dilation + 1
    if 2 * taps * outputs <= (outputs - 1) * stride + reach:
        return taps, dilation, 1, taps
    return (stride if outputs > 1 else min(stride, reach)), 1, dilation, reach


@lru_cache(maxsize=1024)
def sweep(shape: tuple[int, ...], window: Window, transposed: Pair | None = None, depthwise: bool = False,
          multiple: int = 1) -> tuple[np.ndarray, tuple[int, int, int]]:
    """The geometry of a convolution: the numbers that window.pxi reads, and (images, height, width) of the output.

    Taps that are neighbours in memory count as one tap with more channels. The input is read in place where there is no
    padding and tiles, which read `multiple` values at a time, stay within a window.

    Args:
        shape: the NHWC shape of what is read.
        window: the window of the layer.
        transposed: height and width of the layer's input, for its gradient. The gradient to the output is then read.
        depthwise: whether there is one filter per channel.
        multiple: how many values a tile reads at a time.
    """
    b, h, w, c = shape
    (kh, kw), (dh, dw) = window.size, window.dilation
    oh, ow = transposed or window.output(h, w)
    if transposed is None:
        stride, padding, spread = window.stride, window.padding, (1, 1)
    else:
        py, px = ((k - 1) * d - p for k, d, p in zip(window.size, window.dilation, window.padding))
        stride, padding, spread = (1, 1), (py, px), window.stride
    merged = window.groups == 1 and dw == 1 and transposed is None
    values = (kw if merged else 1) * c // window.groups
    direct = spread == (1, 1) and padding == (0, 0) and not depthwise and values % multiple == 0
    if direct:
        (sy, gy, ty, reach), (sx, gx, tx, _) = ((s if o > 1 else 1, 1, d, (k - 1) * d + 1)
                                                for o, s, d, k in zip((oh, ow), stride, window.dilation, window.size))
        width = w
    else:
        sy, gy, ty, reach = _laid_out(oh, kh, stride[0], dh)
        sx, gx, tx, reach_x = _laid_out(ow, kw, stride[1], dw)
        width = (ow - 1) * sx + reach_x
    if reach * width * max(c, 1) >= 2**62:      # offsets are numbers of 64 bits
        raise OutOfMemoryError(f"a window of {window.size}, stride {window.stride}, padding {window.padding} and dilation "
                               f"{window.dilation} reads more of an input {(b, c, h, w)} than can be addressed")
    rows, columns = np.arange(kh) * ty, np.arange(1 if merged else kw) * tx
    if transposed is not None:
        rows, columns = rows[::-1], columns[::-1]
    offsets = (rows[:, None] * width + columns[None, :]) * c
    sizes = (b, h, w, c, oh, ow, sy, sx, *padding, *spread, reach, width, direct, depthwise, *stride, gy, gx)
    numbers = np.concatenate([sizes, offsets.ravel()]).astype(np.intp)
    numbers.flags.writeable = False
    return numbers, (b, oh, ow)


def scratch(numbers: np.ndarray) -> int:
    """The most elements of scratch that one thread fills for this geometry: scratch_of_unit in window.pxi."""
    b, _, _, c, oh, ow, sy, _, _, _, _, _, reach, width, direct = (int(n) for n in numbers[: DIRECT + 1])
    rows = min(max(UNIT_PIXELS // max(ow, 1), 1), b * oh)
    return 0 if direct else (rows * sy + (rows // max(oh, 1) + 2) * (reach + sy)) * width * c


@lru_cache(maxsize=256)
def spans(n: int, size: int, stride: int, padding: int) -> np.ndarray:
    """The first and the past-last input index of each window along one dimension, clipped to the input; [outputs][2]."""
    first = np.arange((n + 2 * padding - size) // stride + 1, dtype=np.intp) * stride - padding
    found = np.ascontiguousarray(np.stack([np.maximum(first, 0), np.minimum(first + size, n)], axis=1))
    found.flags.writeable = False
    return found


def adaptive_spans(n: int, outputs: int) -> np.ndarray:
    """Spans that cut n inputs into `outputs` windows: floor(i n / outputs) to ceil((i + 1) n / outputs), as PyTorch."""
    i = np.arange(outputs, dtype=np.intp)
    return np.ascontiguousarray(np.stack([i * n // outputs, -(-(i + 1) * n // outputs)], axis=1))
