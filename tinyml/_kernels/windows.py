"""Windows of convolution and pooling: output sizes, the geometry that kernels read, and the spans of pooling."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

Pair = tuple[int, int]
DIRECT = 14     # where `sweep` says that the input is read in place


@dataclass(frozen=True)
class Window:
    """Size, stride, zero padding and dilation of a window, rows first, and the number of channel groups."""

    size: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def taps(self) -> int:
        return self.size[0] * self.size[1]

    def output(self, h: int, w: int) -> Pair:
        """Output height and width: floor((size + 2 padding - dilation (window - 1) - 1) / stride) + 1, 0 or less if it
        does not fit."""
        return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1
                     for n, k, s, p, d in zip((h, w), self.size, self.stride, self.padding, self.dilation))


@lru_cache(maxsize=1024)
def sweep(shape: tuple[int, ...], window: Window, transposed: tuple[int, int] | None = None, depthwise: bool = False,
          multiple: int = 1):
    """The numbers that window.pxi reads, and (images, height, width) of the output.

    `shape` is the NHWC shape that is read; with `transposed` (height, width of the layer's input) it is the shape of the
    gradient of the layer's output, and the result is the gradient to its input. Taps side by side in memory count as one
    with more channels. The input is read in place where there is no padding and tiles, which read `multiple` values at a
    time, stay within a window.
    """
    b, h, w, c = shape
    (kh, kw), (dh, dw) = window.size, window.dilation
    oh, ow = transposed or window.output(h, w)
    reach = ((kh - 1) * dh + 1, (kw - 1) * dw + 1)
    if transposed is None:
        stride, padding, spread = window.stride, window.padding, (1, 1)
    else:
        stride, padding, spread = (1, 1), tuple(r - 1 - p for r, p in zip(reach, window.padding)), window.stride
    merged = window.groups == 1 and dw == 1 and transposed is None
    values = (kw if merged else 1) * c // window.groups
    direct = spread == (1, 1) and padding == (0, 0) and not depthwise and values % multiple == 0
    width = w if direct else (ow - 1) * stride[1] + reach[1]
    ty, tx = np.arange(kh) * dh, np.arange(1 if merged else kw) * dw
    if transposed is not None:
        ty, tx = ty[::-1], tx[::-1]
    offsets = (ty[:, None] * width + tx[None, :]) * c
    sizes = (b, h, w, c, oh, ow, *stride, *padding, *spread, reach[0], width, direct, depthwise)
    numbers = np.concatenate([sizes, offsets.ravel()]).astype(np.intp)
    numbers.flags.writeable = False
    return numbers, (b, oh, ow)


def spans(n: int, size: int, stride: int, padding: int) -> np.ndarray:
    """First and past-last input index of each window along one dimension, clipped to the input; [outputs][2]."""
    first = np.arange((n + 2 * padding - size) // stride + 1, dtype=np.intp) * stride - padding
    return np.ascontiguousarray(np.stack([np.maximum(first, 0), np.minimum(first + size, n)], axis=1))


def adaptive_spans(n: int, outputs: int) -> np.ndarray:
    """Spans that cut n inputs into `outputs` windows: floor(i n / outputs) to ceil((i + 1) n / outputs), as PyTorch."""
    i = np.arange(outputs, dtype=np.intp)
    return np.ascontiguousarray(np.stack([i * n // outputs, -(-(i + 1) * n // outputs)], axis=1))
