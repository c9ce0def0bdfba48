"""Sums over rows, and rows that are added by their ids."""

import numpy as np

from .pointwise import GRADIENTS


def sum_columns_f32(x: np.ndarray, y: np.ndarray, threads: int) -> None:
    """The sum over the rows of each table."""
    y[...] = x.sum(axis=1)


def activation_grad_sum_f32(activation: int, x: np.ndarray, dy: np.ndarray, dx: np.ndarray, db: np.ndarray,
                            threads: int) -> None:
    """The gradient of the activation of this number, and its sum over rows."""
    GRADIENTS[activation](x, dy, dx, threads)
    sum_columns_f32(dx[None], db[None], threads)


def scatter_rows_f32(x: np.ndarray, ids: np.ndarray, clear: bool, y: np.ndarray, threads: int) -> None:
    """Each row of x is added to the row of y that its id names. y is 0 before, or set to 0 where `clear` is set."""
    if clear:
        y[...] = 0
    np.add.at(y, ids, x)
