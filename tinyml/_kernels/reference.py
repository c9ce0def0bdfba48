"""The executable specification of every kernel, in NumPy: the same names and signatures, outputs written in place.

Compiled kernels are tested against it, integers with `==`; float64 runs on it. Shapes as in the kernels' docstrings.
"""

from __future__ import annotations

import math

import numpy as np

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


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
    b, h, w, c, oh, ow, sy, sx, py, px, fy, fx, reach, width, direct, _ = (int(v) for v in shape[:16])
    if not direct:
        padded = np.full((b, (oh - 1) * sy + reach, width, c), fill, x.dtype)
        row, column = np.arange(h) * fy + py, np.arange(w) * fx + px
        rows, columns = ((at >= 0) & (at < n) for at, n in ((row, padded.shape[1]), (column, width)))
        padded[:, row[rows][:, None], column[columns]] = x[:, rows][:, :, columns]
        x = padded
    pixels = (np.arange(oh)[:, None] * sy * width + np.arange(ow) * sx) * c
    flat = np.concatenate([x.reshape(b, math.prod(x.shape[1:])), np.zeros((b, values), x.dtype)], axis=1)
    return [flat[:, pixels[:, :, None] + int(offset) + np.arange(values)] for offset in shape[16:]]


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
    merged = taps // (len(shape) - 16)      # taps side by side that are read as one
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
    n, taps = y.shape[3] // groups, len(shape) - 16
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
    values = taps * k // (len(shape) - 16)      # taps side by side may be read as one
    parts = dw.reshape(groups, len(shape) - 16, values, n)
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


def quantize(x, scale, zero_point, y, threads):
    """Equation (7); a NaN becomes 0 and is counted."""
    nan = np.isnan(x)
    with np.errstate(over="ignore", invalid="ignore"):
        q = np.rint(x / np.float32(scale)) + np.float32(zero_point)
    y[...] = np.clip(np.where(nan, 0, q), 0, 255).astype(np.uint8)
    return int(nan.sum())


def quantize_images(x, scale, zero_point, y, threads):
    """Equation (7) of images in any memory order."""
    return quantize(x, scale, zero_point, y, threads)


def quantize_rows(x, scale, y, threads):
    """Equation (9)."""
    bad = ~np.isfinite(x).all(axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        s = np.abs(np.where(bad[:, None], 0, x)).max(axis=1, initial=0).astype(np.float32) / np.float32(127)
    tiny = s < np.finfo(np.float32).tiny
    zero = bad | tiny
    scale[...] = np.where(bad, np.float32("nan"), np.where(tiny, np.float32(1), s))
    q = np.rint(np.where(zero[:, None], np.float32(0), x) / np.where(zero, np.float32(1), s)[:, None])
    y[...] = (np.clip(q, -127, 127) + 128).astype(np.uint8)


def dequantize(x, scale, zero_point, y, threads):
    """Equation (1)."""
    y[...] = np.float32(scale) * (x.astype(np.int32) - zero_point).astype(np.float32)


def lookup(x, table, y, threads):
    """y = table[x]."""
    y[...] = table[x]


def requantize_double(acc, m, shift, zero_point, lo, hi, y, threads):
    """gemmlowp's SaturatingRoundingDoublingHighMul and RoundingDivideByPOT, then the zero point, saturating."""
    top, bottom = 2**31 - 1, -(2**31)
    left, right = np.maximum(31 - shift, 0), np.maximum(shift - 31, 0)
    product = np.clip(acc.astype(np.int64) << left, bottom, top) * m
    nudged = product + np.where(product >= 0, 2**30, 1 - 2**30)
    high = np.where(nudged >= 0, nudged >> 31, -(-nudged >> 31))         # C division truncates
    mask = (np.int64(1) << right) - 1
    threshold = (mask >> 1) + (high < 0)
    rounded = (high >> right) + ((high & mask) > threshold)
    y[...] = np.clip(np.clip(rounded + zero_point, bottom, top), lo, hi)


def add_codes(a, b, za, zb, ma, mb, shift, zero_point, lo, hi, y, threads):
    """Equation (8)."""
    total = (a.astype(np.int64) - za) * ma + (b.astype(np.int64) - zb) * mb
    y[...] = np.clip(zero_point + ((total + (1 << (shift - 1))) >> shift), lo, hi)


def mul_codes(a, b, za, zb, m, shift, zero_point, lo, hi, y, threads):
    """Equation (8)."""
    product = (a.astype(np.int64) - za) * (b.astype(np.int64) - zb) * m
    y[...] = np.clip(zero_point + ((product + (1 << (shift - 1))) >> shift), lo, hi)


def _windows(rows, columns):
    for i, (y0, y1) in enumerate(rows):
        for j, (x0, x1) in enumerate(columns):
            yield i, j, slice(y0, y1), slice(x0, x1)


def max_pool_int8(x, rows, columns, y, threads):
    """Largest code of each window."""
    for i, j, ys, xs in _windows(rows, columns):
        y[:, i, j] = x[:, ys, xs].max(axis=(1, 2))


def avg_pool_int8(x, rows, columns, m, shift, zero_in, zero_out, y, threads):
    """Equation (8)."""
    for i, j, ys, xs in _windows(rows, columns):
        total = (x[:, ys, xs].astype(np.int64) - zero_in).sum(axis=(1, 2))
        y[:, i, j] = np.clip(zero_out + ((total * m[i, j] + (np.int64(1) << (shift[i, j] - 1))) >> shift[i, j]), 0, 255)


def max_pool_f32(x, rows, columns, y, at, threads):
    """Largest of each window, the first of equals; NaN above all, the last one (as PyTorch). `at` may be None."""
    width = x.shape[2]
    for i, j, ys, xs in _windows(rows, columns):
        window = x[:, ys, xs]
        flat = window.reshape(x.shape[0], window.shape[1] * window.shape[2], x.shape[3])
        nan = np.isnan(flat)
        best = np.where(nan.any(axis=1), flat.shape[1] - 1 - nan[:, ::-1].argmax(axis=1), flat.argmax(axis=1))
        y[:, i, j] = np.take_along_axis(flat, best[:, None], axis=1)[:, 0]
        inner = window.shape[2]
        if at is not None:
            at[:, i, j] = (ys.start + best // inner) * width + xs.start + best % inner


def max_pool_grad_f32(dy, at, dx, threads):
    """Each gradient to the pixel that was the maximum."""
    dx[...] = 0
    flat = dx.reshape(dx.shape[0], dx.shape[1] * dx.shape[2], dx.shape[3])
    b, c = np.arange(dx.shape[0])[:, None], np.arange(dx.shape[3])[None, :]
    for i in range(dy.shape[1]):
        for j in range(dy.shape[2]):
            flat[b, at[:, i, j], c] += dy[:, i, j]


def avg_pool_f32(x, rows, columns, divisor, y, threads):
    """Sum of each window / divisor."""
    for i, j, ys, xs in _windows(rows, columns):
        y[:, i, j] = x[:, ys, xs].sum(axis=(1, 2)) / divisor[i, j]


def avg_pool_grad_f32(dy, rows, columns, divisor, dx, threads):
    """Each gradient / divisor to all pixels of its window."""
    dx[...] = 0
    for i, j, ys, xs in _windows(rows, columns):
        dx[:, ys, xs] += (dy[:, i, j] / divisor[i, j])[:, None, None]


def moments_f32(x, mean, variance, threads):
    """Mean and biased variance over rows, zeros where there are none."""
    mean[...] = x.mean(axis=0, dtype=np.float64) if len(x) else 0
    variance[...] = np.square(x - mean).mean(axis=0, dtype=np.float64) if len(x) else 0


def batch_norm_f32(x, a, b, relu, y, threads):
    """y = x * a + b, with `relu` not below 0."""
    y[...] = x * a + b
    if relu:
        np.maximum(y, 0, out=y)


def batch_norm_grad_f32(x, dy, mean, rstd, gamma, shift, training, dx, dgamma, dbeta, threads):
    """Gradients of (x - mean) * rstd * gamma + beta; with a shift, of the ReLU of x * (gamma * rstd) + shift."""
    if shift is not None:
        dy = np.where(x * (gamma * rstd) + shift > 0, dy, 0)
    xhat = (x - mean) * rstd
    dgamma[...] = (dy * xhat).sum(axis=0)
    dbeta[...] = dy.sum(axis=0)
    if training and len(x):
        dy = dy - dbeta / len(x) - xhat * (dgamma / len(x))
    dx[...] = dy * gamma * rstd


def layer_norm_f32(x, gamma, beta, eps, y, mean, rstd, threads):
    """y = (x - mean) * rstd * gamma + beta."""
    if x.size == 0:
        return
    mean[...] = x.mean(axis=1)
    rstd[...] = 1 / np.sqrt(np.square(x - mean[:, None]).mean(axis=1) + eps)
    y[...] = (x - mean[:, None]) * rstd[:, None] * gamma + beta


def layer_norm_grad_f32(x, dy, mean, rstd, gamma, dx, dgamma, dbeta, threads):
    """Gradients of layer_norm_f32."""
    dgamma[...] = 0
    dbeta[...] = 0
    if x.size == 0:
        return
    xhat = (x - mean[:, None]) * rstd[:, None]
    dgamma[...] = (dy * xhat).sum(axis=0)
    dbeta[...] = dy.sum(axis=0)
    d = dy * gamma
    dx[...] = rstd[:, None] * (d - d.mean(axis=1, keepdims=True) - xhat * (d * xhat).mean(axis=1, keepdims=True))


def rms_norm_f32(x, gamma, eps, y, rstd, threads):
    """y = x * rstd * gamma."""
    if x.size == 0:
        return
    rstd[...] = 1 / np.sqrt(np.square(x).mean(axis=1) + eps)
    y[...] = x * rstd[:, None] * gamma


def rms_norm_grad_f32(x, dy, rstd, gamma, dx, dgamma, threads):
    """Gradients of rms_norm_f32."""
    dgamma[...] = 0
    if x.size == 0:
        return
    xhat, d = x * rstd[:, None], dy * gamma
    dgamma[...] = (dy * xhat).sum(axis=0)
    dx[...] = rstd[:, None] * (d - xhat * (d * xhat).mean(axis=1, keepdims=True))


def softmax_f32(x, y, threads):
    """exp(x - max) / sum of each row."""
    if x.size == 0:
        return
    with np.errstate(invalid="ignore"):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        y[...] = e / e.sum(axis=1, keepdims=True)


def softmax_grad_f32(y, dy, dx, threads):
    """dx = y * (dy - sum(y * dy))."""
    dx[...] = y * (dy - (y * dy).sum(axis=1, keepdims=True))


def log_softmax_f32(x, y, threads):
    """x - max - ln(sum of exp(x - max)) of each row."""
    if x.size == 0:
        return
    with np.errstate(invalid="ignore"):
        shifted = x - x.max(axis=1, keepdims=True)
        y[...] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def log_softmax_grad_f32(y, dy, dx, threads):
    """dx = dy - exp(y) * sum(dy)."""
    dx[...] = dy - np.exp(y) * dy.sum(axis=1, keepdims=True)


def _attention_weights(q, k, scale, causal):
    """exp(scores - top) (..., T, S), the largest number `top` of each row and the sum of the row."""
    with np.errstate(invalid="ignore"):
        s = q @ k.swapaxes(-1, -2) * scale
        if causal:
            s = np.where(np.tri(*s.shape[-2:], s.shape[-1] - s.shape[-2], dtype=bool), s, -np.inf)
        top = np.fmax.reduce(s, axis=-1, keepdims=True, initial=-np.finfo(np.float32).max)
        e = np.exp(s - top)
    return e, top, e.sum(axis=-1, keepdims=True)


def attention_f32(q, k, v, scale, causal, y, rows, threads):
    """y = softmax(scale * q @ k^T) @ v, causal: query t sees keys up to t + S - T; rows: largest score, 1 / sum."""
    if k.shape[2] == 0:
        y[...] = 0
        rows[...] = 0
        return
    e, top, total = _attention_weights(q, k, scale, causal)
    with np.errstate(invalid="ignore", divide="ignore"):
        y[...] = (e / total) @ v
        rows[0], rows[1] = top[..., 0], 1 / total[..., 0]


def attention_grad_f32(q, k, v, scale, causal, y, rows, dy, dq, dk, dv, threads):
    """Gradients of attention_f32."""
    if k.shape[2] == 0:
        dq[...] = 0
        return
    e, _, total = _attention_weights(q, k, scale, causal)
    with np.errstate(invalid="ignore"):
        p = e / total
        ds = scale * p * (dy @ v.swapaxes(-1, -2) - (dy * y).sum(axis=-1, keepdims=True))
        dq[...] = ds @ k
        dk[...] = ds.swapaxes(-1, -2) @ q
        dv[...] = p.swapaxes(-1, -2) @ dy


def cross_entropy_f32(x, target, smoothing, loss, rows, threads):
    """loss = -(1 - smoothing) ln p[target] - smoothing * mean of ln p, 0 where the target is negative, p = softmax(x).

    rows: the largest of each row and 1 / the sum of exp(x - it).
    """
    loss[...], rows[...] = 0, 0
    if x.size == 0:
        return
    with np.errstate(invalid="ignore"):
        top = np.fmax.reduce(x, axis=1, initial=-np.inf)      # a NaN is in the sum anyway
        rows[...] = top, 1 / np.exp(x - top[:, None]).sum(axis=1)
    log_p = np.empty_like(x)
    log_softmax_f32(x, log_p, threads)
    counted = np.flatnonzero(target >= 0)
    loss[counted] = -(1 - smoothing) * log_p[counted, target[counted]]
    if smoothing:
        loss[counted] -= smoothing * log_p[counted].mean(axis=1)


def cross_entropy_grad_f32(x, target, smoothing, rows, g, dx, threads):
    """dx = g * (p - smoothing / C - (1 - smoothing) [c = target]), 0 where the target is negative."""
    dx[...] = 0
    counted = np.flatnonzero(target >= 0)
    if counted.size == 0:
        return
    with np.errstate(invalid="ignore"):
        p = np.exp(x[counted] - rows[0, counted, None]) * rows[1, counted, None]
    dx[counted] = p - smoothing / x.shape[1]
    dx[counted, target[counted]] -= 1 - smoothing
    dx *= g


def exp_f32(x, y, threads):
    """e^x."""
    with np.errstate(over="ignore", under="ignore"):
        np.exp(x, out=y)


def tanh_f32(x, y, threads):
    """tanh x."""
    np.tanh(x, out=y)


def tanh_grad_f32(y, dy, dx, threads):
    """dy * (1 - y^2)."""
    dx[...] = dy * (1 - y * y)


def _sigmoid(x):
    with np.errstate(under="ignore"):
        z = np.exp(-np.abs(x))
    return np.where(x < 0, z, 1) / (1 + z)


def sigmoid_f32(x, y, threads):
    """1 / (1 + e^-x), without overflow."""
    y[...] = _sigmoid(x)


def sigmoid_grad_f32(y, dy, dx, threads):
    """dy * y * (1 - y)."""
    dx[...] = dy * y * (1 - y)


# Where the function's other factor has reached 0, x may be any number: at infinity the product would be NaN.
def silu_f32(x, y, threads):
    """x * sigmoid(x)."""
    y[...] = np.maximum(x, -1000) * _sigmoid(x)


def silu_grad_f32(x, dy, dx, threads):
    """dy * s * (1 + x * (1 - s)), s = sigmoid(x)."""
    dx[...] = dy * _sigmoid(x) * (1 + np.clip(x, -1000, 1000) * _sigmoid(-x))


def gelu_f32(x, y, threads):
    """x * Phi(x)."""
    y[...] = np.maximum(x, -50) * 0.5 * _erfc(x / -math.sqrt(2)) if x.size else 0


def gelu_grad_f32(x, dy, dx, threads):
    """dy * (Phi(x) + x * phi(x))."""
    if x.size:
        c = np.clip(x, -50, 50)
        density = np.exp(-0.5 * c * c) / math.sqrt(2 * math.pi)
        dx[...] = dy * (0.5 * _erfc(x / -math.sqrt(2)) + c * density)


_TANH_SCALE, _TANH_CUBE = 2 * math.sqrt(2 / math.pi), 0.044715


def gelu_tanh_f32(x, y, threads):
    """x / 2 * (1 + tanh(u)) = x * sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3)."""
    c = np.clip(x, -50, 50)
    y[...] = np.maximum(x, -50) * _sigmoid(_TANH_SCALE * (c + _TANH_CUBE * c * c * c))


def gelu_tanh_grad_f32(x, dy, dx, threads):
    """dy * the derivative of gelu_tanh_f32."""
    c = np.clip(x, -50, 50)
    v = _TANH_SCALE * (c + _TANH_CUBE * c * c * c)
    dx[...] = dy * _sigmoid(v) * (1 + c * _sigmoid(-v) * _TANH_SCALE * (1 + 3 * _TANH_CUBE * c * c))


def relu_grad_f32(y, dy, dx, threads):
    """dy where y > 0, else 0."""
    dx[...] = np.where(y > 0, dy, 0)


def fake_quantize_f32(x, scale, zero_point, lo, hi, y, inside, threads):
    """y = scale * (q - zero_point), q = clamp(rint(x / scale) + zero_point); NaN stays NaN; `inside`: not clamped."""
    s, zero_point, lo, hi = scale[:, None], *(x.dtype.type(v) for v in (zero_point, lo, hi))
    with np.errstate(over="ignore"):
        q = np.rint(x / s) + zero_point
    clamped = np.clip(q, lo, hi)
    y[...] = s * (clamped - zero_point)
    inside[...] = clamped == q


def sum_columns_f32(x, y, threads):
    """The sum over rows."""
    y[...] = x.sum(axis=0)


def relu_grad_sum_f32(y, dy, dx, db, threads):
    """relu_grad_f32, and its sum over rows."""
    relu_grad_f32(y, dy, dx, threads)
    sum_columns_f32(dx, db, threads)


def gelu_grad_sum_f32(x, dy, dx, db, threads):
    """gelu_grad_f32, and its sum over rows."""
    gelu_grad_f32(x, dy, dx, threads)
    sum_columns_f32(dx, db, threads)


def gelu_tanh_grad_sum_f32(x, dy, dx, db, threads):
    """gelu_tanh_grad_f32, and its sum over rows."""
    gelu_tanh_grad_f32(x, dy, dx, threads)
    sum_columns_f32(dx, db, threads)


def silu_grad_sum_f32(x, dy, dx, db, threads):
    """silu_grad_f32, and its sum over rows."""
    silu_grad_f32(x, dy, dx, threads)
    sum_columns_f32(dx, db, threads)


def scatter_rows_f32(x, ids, y, threads):
    """Rows of x added to the rows of y that ids name, y zero before."""
    y[...] = 0
    np.add.at(y, ids, x)


def philox(counters, key):
    """The four 32-bit words (..., 4) of Philox4x32-10 for counters (..., 4) and a key of two words."""
    a, b, c, d = np.moveaxis(np.asarray(counters, np.uint64), -1, 0)
    key0, key1 = (int(word) for word in key)
    low, half = np.uint64(2**32 - 1), np.uint64(32)
    for _ in range(10):
        p, q = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b, c, d = (q >> half) ^ b ^ np.uint64(key0), q & low, (p >> half) ^ d ^ np.uint64(key1), p & low
        key0, key1 = (key0 + 0x9E3779B9) % 2**32, (key1 + 0xBB67AE85) % 2**32
    return np.stack([a, b, c, d], axis=-1)


def dropout_f32(x, key, least, scale, y, threads):
    """y = x * scale where the element's word of Philox4x32-10 is at least `least`, else 0."""
    element = np.arange(x.size, dtype=np.uint64)
    block, half, i = element // np.uint64(64), element // np.uint64(32) % np.uint64(2), element % np.uint64(32)
    counter = np.uint64(16) * block + i // np.uint64(2)
    zero = np.zeros_like(counter)
    words = philox(np.stack([counter % np.uint64(2**32), counter // np.uint64(2**32), zero, zero], axis=-1),
                   (key % 2**32, key // 2**32))
    word = np.take_along_axis(words, (np.uint64(2) * half + i % np.uint64(2)).astype(np.intp)[:, None], axis=-1)[:, 0]
    with np.errstate(invalid="ignore"):
        y[...] = np.where(word >= least, x * x.dtype.type(scale), 0)


def probe_fma_f32(start, x, w, y, rounds, threads):
    """y = start + x * w, that product added `rounds` times."""
    y[...] = start
    for _ in range(rounds):
        y += x * w


def probe_dot4_int8(start, x, w, y, rounds, threads):
    """y = start + rounds * (w . x), modulo 2^32; x less OFFSET."""
    y[...] = (start + rounds * (w.astype(np.int64) @ x.astype(np.int64))).astype(np.int32)


def probe_read(x, threads):
    """Sum of x modulo 2^32."""
    return int(x.sum(dtype=np.int64)) % 2**32


def probe_cycles(start, step, y, rounds, threads):
    """y = start + rounds * step, modulo 2^64."""
    y[...] = start
    for _ in range(rounds):
        y += step
