"""Products of float matrices."""

import numpy as np


def gemm_f32(a, b, bias, c, threads):
    """c = a @ b + bias."""
    np.matmul(a, b, out=c)
    if bias is not None:
        c += bias


def few_rows_f32(x, w, bias, y, threads):
    """y = x @ w^T + bias, w [S][N][K]."""
    gemm_f32(x, w.swapaxes(1, 2), bias, y, threads)


def few_rows_f16(x, w, bias, y, threads):
    """few_rows_f32 by float16 weights, which are given as their bits."""
    with np.errstate(invalid="ignore"):     # signalling NaNs
        few_rows_f32(x, w.view(np.float16).astype(x.dtype), bias, y, threads)
