"""Elements taken and written along the middle one of three dimensions."""

import numpy as np


def _inside(index: np.ndarray, n: int) -> bool:
    return not index.size or bool(index.min() >= 0 and index.max() < n)


def gather_f32(x: np.ndarray, index: np.ndarray, y: np.ndarray, threads: int) -> bool:
    """The element of x that each of the index names; whether all of them are there."""
    inside = _inside(index, x.shape[1])
    if inside:
        y[...] = np.take_along_axis(x, index, 1)
    return inside


def scatter_f32(x: np.ndarray, index: np.ndarray, add: bool, y: np.ndarray, threads: int) -> bool:
    """Each element of x takes the place of the one of y that the index names, or is added to it; whether all are there."""
    inside = _inside(index, y.shape[1])
    if inside and add:
        a, _, c = np.ogrid[tuple(map(slice, x.shape))]
        np.add.at(y, (a, index, c), x)
    elif inside:
        np.put_along_axis(y, index, x, 1)
    return inside
