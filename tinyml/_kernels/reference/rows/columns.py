"""Sums over rows, and rows that are added by their ids."""

from __future__ import annotations

import numpy as np

from .pointwise import gelu_grad_f32, gelu_tanh_grad_f32, relu_grad_f32, silu_grad_f32


def sum_columns_f32(x, y, threads):
    """The sums over rows of each table."""
    y[...] = x.sum(axis=1)


def relu_grad_sum_f32(y, dy, dx, db, threads):
    """relu_grad_f32, and its sum over rows."""
    relu_grad_f32(y, dy, dx, threads)
    sum_columns_f32(dx[None], db[None], threads)


def gelu_grad_sum_f32(x, dy, dx, db, threads):
    """gelu_grad_f32, and its sum over rows."""
    gelu_grad_f32(x, dy, dx, threads)
    sum_columns_f32(dx[None], db[None], threads)


def gelu_tanh_grad_sum_f32(x, dy, dx, db, threads):
    """gelu_tanh_grad_f32, and its sum over rows."""
    gelu_tanh_grad_f32(x, dy, dx, threads)
    sum_columns_f32(dx[None], db[None], threads)


def silu_grad_sum_f32(x, dy, dx, db, threads):
    """silu_grad_f32, and its sum over rows."""
    silu_grad_f32(x, dy, dx, threads)
    sum_columns_f32(dx[None], db[None], threads)


def scatter_rows_f32(x, ids, clear, y, threads):
    """Rows of x added to the rows of y that ids name, y zero before, or zeroed if `clear`."""
    if clear:
        y[...] = 0
    np.add.at(y, ids, x)
