"""Products and convolutions, of floats and of codes."""

from __future__ import annotations

import math

import numpy as np

from ..windows import HEAD
from .codes import quantize_rows
from .pointwise import gelu_f32, gelu_tanh_f32, silu_f32


def gemm_f32(a, b, bias, c, threads):
    """c = a @ b + bias."""
    np.matmul(a, b, out=c)
    if bias is not None:
        c += bias


def rows_f32(x, w, bias, y, threads):
    """y = x @ w^T + bias, w [S][N][K]."""
    gemm_f32(x, w.swapaxes(1, 2), bias, y, threads)


def rows_f16(x, w, bias, y, threads):
    """The same by float16 weights, which arrive as their bits."""
    with np.errstate(invalid="ignore"):     # signalling NaNs
        rows_f32(x, w.view(np.float16).astype(x.dtype), bias, y, threads)


def _reads(x, shape, fill, values):
    """What each tap reads at each output pixel, [taps][B][OH][OW][values]: `shape` as windows.sweep lays it out."""
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


def _sum_taps(x, weight, bias, y, shape):
    """y = sum over taps of what they read @ weight[group][tap], + bias."""
    groups, _, values, n = weight.shape
    step = x.shape[3] // groups
    y[...] = 0 if bias is None else bias
    for t, read in enumerate(_reads(x, shape, 0, (groups - 1) * step + values)):
        for g in range(groups):
            y[..., g * n : (g + 1) * n] += read[..., g * step : g * step + values] @ weight[g, t]


def conv2d(x, weight, bias, y, shape):
    """y = x * weight [G][kh*kw][K][N] + bias, for float64."""
    groups, taps, k, n = weight.shape
    merged = taps // (len(shape) - HEAD)      # taps side by side that are read as one
    _sum_taps(x, weight.reshape(groups, taps // merged, merged * k, n), bias, y, shape)


def pack_f32(weight, packed, threads):
    """packed [G][panels][taps*K][panel] = weight [G][taps][K][N], zeros beyond N."""
    groups, panels, rows, panel = packed.shape
    columns = np.zeros((groups, rows, panels * panel), packed.dtype)
    columns[:, :, : weight.shape[3]] = weight.reshape(groups, rows, weight.shape[3])
    packed[...] = columns.reshape(groups, rows, panels, panel).transpose(0, 2, 1, 3)


def product_f32(x, packed, bias, lo, hi, y, shape, threads):
    """y = clamp(x * packed + bias, lo, hi); a NaN stays one."""
    groups, panels, rows, panel = packed.shape
    n, taps = y.shape[3] // groups, len(shape) - HEAD
    weight = packed.transpose(0, 2, 1, 3).reshape(groups, rows, panels * panel)[:, :, :n]
    if shape[15]:       # depthwise: channel n of the input by filter n
        y[...] = 0 if bias is None else bias
        for t, read in enumerate(_reads(x, shape, 0, n)):
            y += read * weight[0, t]
    else:
        _sum_taps(x, weight.reshape(groups, taps, rows // taps, n), bias, y, shape)
    y[...] = np.where(np.isnan(y), y, np.clip(y, lo, hi))


def conv2d_grad_weight_f32(x, dy, dw, shape, threads):
    """dw[group][tap] = sum over output pixels of outer(what the tap reads, dy)."""
    groups, taps, k, n = dw.shape
    values = taps * k // (len(shape) - HEAD)      # taps side by side may be read as one
    parts = dw.reshape(groups, len(shape) - HEAD, values, n)
    for t, read in enumerate(_reads(x, shape, 0, (groups - 1) * k + values)):
        for g in range(groups):
            parts[g, t] = np.tensordot(read[..., g * k : g * k + values], dy[..., g * n : (g + 1) * n],
                                       ([0, 1, 2], [0, 1, 2]))


def product_int8_i32(x, weight, bias, y, shape, N, zero_point, threads):
    """y = bias + sum x * w modulo 2^32; x and zero_point less OFFSET, weight packed [G][panels][taps][K4][panel][4]."""
    groups, panels, slices, k4, panel, _ = weight.shape
    lanes = panel // 4
    if shape[15]:       # depthwise: 4 taps in the place of K, channels in the order of interleave4
        place = np.arange(panels * panel)
        channel = panel * (place // panel) + 16 * (place % lanes // 4) + 4 * (place // lanes % 4) + place % 4
        w, b = (np.empty((panels * panel, *rest), np.int64) for rest in ((4 * slices,), ()))
        w[channel] = weight[0, :, :, 0].transpose(0, 2, 1, 3).reshape(panels * panel, 4 * slices)
        b[channel] = bias
        acc = np.broadcast_to(b[:N], y.shape).copy()
        for t, read in enumerate(_reads(x, shape, zero_point, N)):
            acc += read.astype(np.int64) * w[:N, t]
        y[...] = acc.astype(np.int32)
        return
    step, values = x.shape[3] // groups, 4 * k4
    w = weight.transpose(0, 2, 3, 5, 1, 4).reshape(groups, slices, values, panels * panel)[..., :N].astype(np.int64)
    acc = np.broadcast_to(bias.reshape(groups, -1)[:, :N].reshape(-1), y.shape).astype(np.int64)
    for t, read in enumerate(_reads(x, shape, zero_point, (groups - 1) * step + values)):
        for g in range(groups):
            acc[..., g * N : (g + 1) * N] += read[..., g * step : g * step + values].astype(np.int64) @ w[g, t]
    y[...] = acc.astype(np.int32)


def product_int8(x, weight, bias, requant_parameters, y, shape, N, zero_point, saturate, lo, hi, threads):
    """y = clamp(((acc * m + addend) >> s) + 128, lo, hi): equation (5), parameters laid out by integers.requant_block."""
    acc = np.empty(y.shape, np.int32)
    product_int8_i32(x, weight, bias, acc, shape, N, zero_point, threads)
    lanes = requant_parameters.shape[1] // 28
    m = np.ascontiguousarray(requant_parameters[:, : 4 * lanes]).view(np.int32).reshape(-1)
    tail = np.ascontiguousarray(requant_parameters[:, 4 * lanes :]).view(np.int64).reshape(-1, 2, 3, lanes // 2)
    addend, s = (tail[:, :, i].transpose(0, 2, 1).reshape(-1) for i in range(2))
    if shape[15]:
        place = np.arange(m.size)
        channel = 4 * lanes * (place // (4 * lanes)) + 16 * (place % lanes // 4) + 4 * (place // lanes % 4) + place % 4
        m, addend, s = (v[np.argsort(channel)] for v in (m, addend, s))
    m, addend, s = (v.reshape(weight.shape[0], -1)[:, :N].reshape(-1) for v in (m, addend, s))
    y[...] = np.clip(((acc * m.astype(np.int64) + addend) >> s) + 128, lo, hi)


def product_int8_f32(x, weight, bias, row_scale, column_scale, float_bias, y, shape, N, zero_point, threads):
    """y = float(acc) * (row_scale * column_scale) + float_bias, each step rounded to float32."""
    acc = np.empty(y.shape, np.int32)
    product_int8_i32(x, weight, bias, acc, shape, N, zero_point, threads)
    y[...] = acc.astype(np.float32) * (row_scale.reshape(*y.shape[:3], 1) * column_scale)
    if float_bias is not None:
        y += float_bias


_ACTIVATIONS = (lambda x, y, threads: np.maximum(x, 0, out=y)), gelu_f32, gelu_tanh_f32, silu_f32


def rows_int8(x, w, w_scale, bias, group, activation, y, threads):
    """y = f(sum over groups of float(sum q * w) * (s * w_scale), + bias), x ~ s q, each step rounded to float32."""
    y[...] = 0
    for g, scale in enumerate(w_scale.T):
        part = x[:, g * group : (g + 1) * group]
        u, s = np.empty(part.shape, np.uint8), np.empty(len(part), np.float32)
        quantize_rows(part, s, u, threads)
        acc = (u.astype(np.int64) - 128) @ w[:, g * group : (g + 1) * group].T.astype(np.int64)
        y += acc.astype(np.float32) * (s[:, None] * scale)
    if bias is not None:
        y += bias
    if activation:
        _ACTIVATIONS[activation - 1](y, y, threads)


gemm_int8 = rows_int8
