"""Float products and convolutions by packed weights, and the gradient to the weight."""

import math

import numpy as np

from ...products.windows import HEAD


def reads(x: np.ndarray, shape: np.ndarray, fill: float, values: int) -> list[np.ndarray]:
    """What each tap reads at each output pixel, [taps][B][OH][OW][values]. `shape` is what windows.sweep computes."""
    b, h, w, c, oh, ow, sy, sx, py, px, fy, fx, reach, width, direct, _, iy, ix, gy, gx = (int(v) for v in shape[:HEAD])
    if not direct:
        padded = np.full((b, (oh - 1) * sy + reach, width, c), fill, x.dtype)
        places = (np.arange(n) for n in padded.shape[1:3])
        row, column = (p // s * i + p % s * g - before
                       for p, s, i, g, before in zip(places, (sy, sx), (iy, ix), (gy, gx), (py, px)))
        rows, columns = ((at >= 0) & (at < n * f) & (at % f == 0) for at, n, f in ((row, h, fy), (column, w, fx)))
        inside = x[:, row[rows] // fy][:, :, column[columns] // fx]
        padded[:, np.flatnonzero(rows)[:, None], np.flatnonzero(columns)] = inside
        x = padded
    pixels = (np.arange(oh)[:, None] * sy * width + np.arange(ow) * sx) * c
    flat = np.concatenate([x.reshape(b, math.prod(x.shape[1:])), np.zeros((b, values), x.dtype)], axis=1)
    return [flat[:, pixels[:, :, None] + int(offset) + np.arange(values)] for offset in shape[HEAD:]]


def _sum_taps(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, y: np.ndarray, shape: np.ndarray) -> None:
    """y = the sum over taps of what they read @ weight[group][tap], + bias."""
    groups, _, values, n = weight.shape
    step = x.shape[3] // groups
    y[...] = 0 if bias is None else bias
    for t, read in enumerate(reads(x, shape, 0, (groups - 1) * step + values)):
        for g in range(groups):
            y[..., g * n : (g + 1) * n] += read[..., g * step : g * step + values] @ weight[g, t]


def conv2d(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, y: np.ndarray, shape: np.ndarray) -> None:
    """y = x * weight [G][kh*kw][K][N] + bias, for float64."""
    groups, taps, k, n = weight.shape
    merged = taps // (len(shape) - HEAD)      # taps side by side that are read as one
    _sum_taps(x, weight.reshape(groups, taps // merged, merged * k, n), bias, y, shape)


def pack_f32(weight: np.ndarray, packed: np.ndarray, threads: int) -> None:
    """packed [G][panels][taps*K][panel] = weight [G][taps][K][N], with zeros beyond N."""
    groups, panels, rows, panel = packed.shape
    columns = np.zeros((groups, rows, panels * panel), packed.dtype)
    columns[:, :, : weight.shape[3]] = weight.reshape(groups, rows, weight.shape[3])
    packed[...] = columns.reshape(groups, rows, panels, panel).transpose(0, 2, 1, 3)


def product_f32(x: np.ndarray, packed: np.ndarray, bias: np.ndarray | None, lo: float, hi: float, y: np.ndarray,
                shape: np.ndarray, threads: int) -> None:
    """y = clamp(x * packed + bias, lo, hi); a NaN stays a NaN."""
    groups, panels, rows, panel = packed.shape
    n, taps = y.shape[3] // groups, len(shape) - HEAD
    weight = packed.transpose(0, 2, 1, 3).reshape(groups, rows, panels * panel)[:, :, :n]
    if shape[15]:       # depthwise: channel n of the input by filter n
        y[...] = 0 if bias is None else bias
        for t, read in enumerate(reads(x, shape, 0, n)):
            y += read * weight[0, t]
    else:
        _sum_taps(x, weight.reshape(groups, taps, rows // taps, n), bias, y, shape)
    y[...] = np.where(np.isnan(y), y, np.clip(y, lo, hi))


def conv2d_grad_weight_f32(x: np.ndarray, dy: np.ndarray, dw: np.ndarray, shape: np.ndarray, threads: int) -> None:
    """dw[group][tap] = the sum over output pixels of outer(what the tap reads, dy)."""
    groups, taps, k, n = dw.shape
    values = taps * k // (len(shape) - HEAD)      # taps side by side may be read as one
    parts = dw.reshape(groups, len(shape) - HEAD, values, n)
    for t, read in enumerate(reads(x, shape, 0, (groups - 1) * k + values)):
        for g in range(groups):
            parts[g, t] = np.tensordot(read[..., g * k : g * k + values], dy[..., g * n : (g + 1) * n],
                                       ([0, 1, 2], [0, 1, 2]))
