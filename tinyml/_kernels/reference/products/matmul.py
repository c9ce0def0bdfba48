"""Products of float matrices."""

import numpy as np


def gemm_f32(a: np.ndarray, b: np.ndarray, bias: np.ndarray | None, c: np.ndarray, threads: int) -> None:
    """c = a @ b + bias."""
    np.matmul(a, b, out=c)
    if bias is not None:
        c += bias


def few_rows_f32(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, y: np.ndarray, threads: int) -> None:
    """y = x @ w^T + bias, w [S][N][K]."""
    gemm_f32(x, w.swapaxes(1, 2), bias, y, threads)


def few_rows_f16(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, y: np.ndarray, threads: int) -> None:
    """few_rows_f32 by float16 weights, which are given as their bits."""
    with np.errstate(invalid="ignore"):     # signalling NaNs
        few_rows_f32(x, w.view(np.float16).astype(x.dtype), bias, y, threads)
