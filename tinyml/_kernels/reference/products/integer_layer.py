"""Integer products and convolutions by packed weights."""

import numpy as np

from .convolution import reads


def product_int8_i32(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, y: np.ndarray, shape: np.ndarray, N: int,
                     zero_point: int, threads: int) -> None:
    """y = bias + sum of x * w, modulo 2^32. x and zero_point are less OFFSET; weight is [G][panels][taps][K4][panel][4]."""
    groups, panels, slices, k4, panel, _ = weight.shape
    lanes = panel // 4
    if shape[15]:       # depthwise: 4 taps take the place of 4 input channels; channels are in the order of interleave4
        place = np.arange(panels * panel)
        channel = panel * (place // panel) + 16 * (place % lanes // 4) + 4 * (place // lanes % 4) + place % 4
        w, b = (np.empty((panels * panel, *rest), np.int64) for rest in ((4 * slices,), ()))
        w[channel] = weight[0, :, :, 0].transpose(0, 2, 1, 3).reshape(panels * panel, 4 * slices)
        b[channel] = bias
        acc = np.broadcast_to(b[:N], y.shape).copy()
        for t, read in enumerate(reads(x, shape, zero_point, N)):
            acc += read.astype(np.int64) * w[:N, t]
        y[...] = acc.astype(np.int32)
        return
    step, values = x.shape[3] // groups, 4 * k4
    w = weight.transpose(0, 2, 3, 5, 1, 4).reshape(groups, slices, values, panels * panel)[..., :N].astype(np.int64)
    acc = np.broadcast_to(bias.reshape(groups, -1)[:, :N].reshape(-1), y.shape).astype(np.int64)
    for t, read in enumerate(reads(x, shape, zero_point, (groups - 1) * step + values)):
        for g in range(groups):
            acc[..., g * N : (g + 1) * N] += read[..., g * step : g * step + values].astype(np.int64) @ w[g, t]
    y[...] = acc.astype(np.int32)


def product_int8(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, requant_parameters: np.ndarray, y: np.ndarray,
                 shape: np.ndarray, N: int, zero_point: int, saturate: bool, lo: int, hi: int, threads: int) -> None:
    """y = clamp(((acc * m + addend) >> s) + 128, lo, hi); equation (5), parameters as requant_block lays them out."""
    acc = np.empty(y.shape, np.int32)
    product_int8_i32(x, weight, bias, acc, shape, N, zero_point, threads)
    lanes = requant_parameters.shape[1] // 28
    m: np.ndarray = np.ascontiguousarray(requant_parameters[:, : 4 * lanes]).view(np.int32).reshape(-1)
    tail: np.ndarray = np.ascontiguousarray(requant_parameters[:, 4 * lanes :]).view(np.int64).reshape(-1, 2, 3, lanes // 2)
    addend, s = (tail[:, :, i].transpose(0, 2, 1).reshape(-1) for i in range(2))
    if shape[15]:
        place = np.arange(m.size)
        channel = 4 * lanes * (place // (4 * lanes)) + 16 * (place % lanes // 4) + 4 * (place // lanes % 4) + place % 4
        m, addend, s = (v[np.argsort(channel)] for v in (m, addend, s))
    m, addend, s = (v.reshape(weight.shape[0], -1)[:, :N].reshape(-1) for v in (m, addend, s))
    y[...] = np.clip(((acc * m.astype(np.int64) + addend) >> s) + 128, lo, hi)


def product_int8_f32(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, row_scale: np.ndarray, column_scale: np.ndarray,
                     float_bias: np.ndarray | None, y: np.ndarray, shape: np.ndarray, N: int, zero_point: int,
                     threads: int) -> None:
    """y = float(acc) * (row_scale * column_scale) + float_bias; each step is rounded to float32."""
    acc = np.empty(y.shape, np.int32)
    product_int8_i32(x, weight, bias, acc, shape, N, zero_point, threads)
    y[...] = acc.astype(np.float32) * (row_scale.reshape(*y.shape[:3], 1) * column_scale)
    if float_bias is not None:
        y += float_bias
