"""Array files: IDX (the format of MNIST and its relatives) and the members of an .npz archive."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np

from .. import checks
from ..errors import FileError
from ._files import Stream, expect_end, file_errors, opened, read_bytes

_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_MOST_AXES = 32  # of NumPy 1


def read_idx(path: str | Path) -> np.ndarray:
    """The array of an IDX file, plain, .gz or .xz, in native byte order.

    Layout, big-endian: bytes 0, 0, type code, number of axes; a uint32 per axis; the elements, last axis fastest
    (http://yann.lecun.com/exdb/mnist/, "THE IDX FILE FORMAT").

    Args:
        path: the file.

    Returns:
        The array.

    Raises:
        FileError: the file is missing, is no IDX file, is empty, or is longer or shorter than its header says.

    Example:
        >>> np.array([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9], np.uint8).tofile("labels")
        >>> data.read_idx("labels")
        array([7, 8, 9], dtype=uint8)
    """
    path = checks.path("read_idx", path)
    with file_errors(path, "an IDX file"), opened(path) as stream:
        magic = read_bytes(stream, 4, path, "magic number")
        zeros, code, axes = magic[:2], magic[2], magic[3]
        if zeros != b"\0\0" or code not in _IDX_TYPES or not 1 <= axes <= _MOST_AXES:
            raise FileError(f"{path}: expected an IDX magic number such as 00000803, got {magic.hex()}")
        sizes = np.frombuffer(read_bytes(stream, 4 * axes, path, "axis sizes"), ">u4")
        return _read_elements(stream, np.dtype(_IDX_TYPES[code]), tuple(sizes.tolist()), path)


def read_npz(path: str | Path, keys: list[str]) -> list[np.ndarray]:
    """The arrays `keys` of an .npz archive; objects are never unpickled.

    Raises FileError where the archive is missing or damaged, lacks a key, or holds something else than numbers.
    """
    path = checks.path("read_npz", path)
    with file_errors(path, "an .npz archive"), zipfile.ZipFile(path) as archive:
        missing = sorted(set(keys) - set(_keys(archive)))
        if missing:
            raise FileError(f"{path}: expected the key {missing[0]!r}, got {_keys(archive)}")
        return [_read_npy(archive, key, path) for key in keys]


def npz_keys(path: str | Path) -> list[str]:
    """The keys of an .npz archive, sorted. Raises FileError where it is missing or damaged."""
    path = checks.path("npz_keys", path)
    with file_errors(path, "an .npz archive"), zipfile.ZipFile(path) as archive:
        return _keys(archive)


def _keys(archive: zipfile.ZipFile) -> list[str]:
    return sorted(name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy"))


def _read_npy(archive: zipfile.ZipFile, key: str, path: str | Path) -> np.ndarray:
    # np.load would allocate the array that the header claims before reading its first byte.
    member = f"{path}[{key}]"
    with archive.open(f"{key}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _NPY_HEADERS:
            raise FileError(f"{member}: expected an array in .npy format 1.0 or 2.0, got {version}")
        shape, fortran_order, dtype = _NPY_HEADERS[version](stream)
        if dtype.kind not in "biuf":
            raise FileError(f"{member}: expected an array of numbers, got dtype {dtype}")
        if not fortran_order:
            return _read_elements(stream, dtype, shape, member)
        return _read_elements(stream, dtype, shape[::-1], member).T


def _read_elements(stream: Stream, dtype: np.dtype, shape: tuple[int, ...], path: str | Path) -> np.ndarray:
    if any(size < 1 for size in shape) or len(shape) > _MOST_AXES:
        raise FileError(f"{path}: expected an array with at least one element, got shape {shape}")
    what = f"elements for shape {shape}"
    data = read_bytes(stream, math.prod(shape) * dtype.itemsize, path, what)
    expect_end(stream, path, what)
    array = np.frombuffer(data, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)
