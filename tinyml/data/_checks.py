"""Checks of arguments that every file of this package makes."""

from __future__ import annotations

import operator

import numpy as np

from tinyml.errors import DtypeError, ShapeError


def checked_count(name: str, value: int, least: int) -> int:
    """`value` as an int; raises ShapeError naming `name` where it is no integer or below `least`."""
    try:
        count = operator.index(value)
    except TypeError as err:
        raise ShapeError(f"{name}: expected an integer of at least {least}, got {value!r}") from err
    if count < least:
        raise ShapeError(f"{name}: expected an integer of at least {least}, got {count}")
    return count


def checked_split(name: str, split: str) -> str:
    """`split`; raises ShapeError naming `name` where it is neither "train" nor "test"."""
    if split not in ("train", "test"):
        raise ShapeError(f"{name}: expected split 'train' or 'test', got {split!r}")
    return split


def checked_indices(index: int | np.ndarray, length: int) -> np.ndarray:
    """`index` as an int64 array of shape () or (B,), every entry in [0, length).

    Raises DtypeError for anything but integers, ShapeError for more than one axis, IndexError out of range.
    """
    indices = np.asarray(index)
    if indices.dtype.kind not in "iu":
        raise DtypeError(f"data set index: expected an integer or an array of integers, got dtype {indices.dtype}")
    if indices.ndim > 1:
        raise ShapeError(f"data set index: expected shape () or (B,), got {indices.shape}")
    # Negative indices are refused, not wrapped: a window or a sample taken from the wrong end is a silent error.
    outside = (indices < 0) | (indices >= length)
    if outside.any():
        raise IndexError(f"data set index {indices[outside].flat[0]} is out of range for {length} items")
    return indices.astype(np.int64)
