"""Token files: ids on disk, mapped into memory, for corpora larger than memory."""

from __future__ import annotations

import copy
import hashlib
import mmap
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike

from .. import checks
from ..atomic import replacing, write_errors
from ..errors import DtypeError, FileError, OutOfRangeError, ShapeError
from ._files import file_errors

KINDS = (np.dtype("<u2"), np.dtype("<u4"))
HEADER = 256            # bytes of the header that write_tokens writes
PIECE = 2**20           # bytes that are read at a time for the digest
RESIDENT = 2**28        # bytes of pages read after which they are given back; the system may still have them cached


def _kind(dtype: DTypeLike) -> np.dtype[Any]:
    """The dtype that raw ids have in a file."""
    found: np.dtype[Any] | None = None
    with suppress(TypeError, ValueError):
        found = np.dtype(dtype).newbyteorder("<")
    if found is None or found not in KINDS:
        raise DtypeError(f"TokenFile: expected dtype uint16 or uint32, got {checks.described(dtype)}")
    return found


class TokenFile:
    """Ids (L,) in a file of uint16 or uint32: what TextDataset takes in the place of an array, read as it is asked for.

    tokens[index] is int64 whatever the file has. Resident memory stays below some 300 MB, however much is read.

    Args:
        path: .npy as write_tokens (or numpy.save) makes it, or raw little-endian ids, which need `dtype`.
        dtype: "uint16" or "uint32" of a raw file, such as nanoGPT's train.bin ("uint16").
        check: compare the ids to the digest that write_tokens put into the header, which reads the file once, a second or
            two per gigabyte. Files of other programs have none: of those only the size is checked, and models refuse ids
            outside of their vocabulary.

    Raises:
        FileError: a missing or damaged file, or one that is no row of uint16 or uint32; DtypeError: another dtype.

    Example:
        >>> data.write_tokens("tokens.npy", np.arange(1000), vocab_size=1000)
        1000
        >>> data.TokenFile("tokens.npy")[10:13]
        array([10, 11, 12])
    """

    ndim = 1

    def __init__(self, path: str | Path, dtype: str | None = None, check: bool = True):
        self.path = Path(checks.path("TokenFile", path))
        kind = None if dtype is None else _kind(dtype)
        with file_errors(path, "a file of token ids"), open(path, "rb") as file:
            begin, self.dtype, length = self._header(file, kind)
            size = os.fstat(file.fileno()).st_size
            if size - begin != length * self.dtype.itemsize or not length:
                raise FileError(f"{path}: expected {length:,} ids of {self.dtype}, got {size - begin:,} bytes")
            if check and dtype is None:
                self._check_digest(file, begin)
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_RANDOM"):
            self._map.madvise(mmap.MADV_RANDOM)     # windows lie anywhere: reading ahead would fill memory with the rest
        self._ids = np.frombuffer(self._map, self.dtype, length, begin)
        self._read = 0
        self.shape = (length,)

    def _header(self, file: BinaryIO, kind: np.dtype | None) -> tuple[int, np.dtype, int]:
        """Where the ids begin, their dtype and number."""
        if kind is not None:
            return 0, kind, os.fstat(file.fileno()).st_size // kind.itemsize
        if file.read(6) != b"\x93NUMPY":
            raise FileError(f"{self.path}: is no .npy file; of raw ids say which: dtype=\"uint16\" or \"uint32\"")
        file.seek(0)
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise FileError(f"{self.path}: expected an array in .npy format 1.0, got {version}")
        shape, _, kind = np.lib.format.read_array_header_1_0(file)
        if len(shape) != 1 or kind not in KINDS:
            raise FileError(f"{self.path}: expected one row of uint16 or uint32, got {kind} of shape {shape}")
        return file.tell(), kind, shape[0]

    def _check_digest(self, file: BinaryIO, begin: int) -> None:
        file.seek(0)
        wanted = re.search(rb"# sha256 ([0-9a-f]{64})", file.read(begin))
        if wanted is None:
            return
        found = hashlib.sha256()
        while piece := file.read(PIECE):
            found.update(piece)
        if found.hexdigest() != wanted[1].decode():
            raise FileError(f"{self.path}: damaged: its ids differ from its digest (SHA-256); write it again")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        """Ids at an index of one axis, as int64."""
        if not isinstance(index, slice):
            index = checks.array("TokenFile", "index", index, "iu")
        try:
            found = self._ids[index].astype(np.int64)
        except IndexError as error:
            raise OutOfRangeError(f"TokenFile: {error}") from None
        except TypeError as error:      # of a slice
            raise DtypeError(f"TokenFile: {error}") from None
        # a page for each element at most, and no more than there are
        self._read += min(found.size * mmap.PAGESIZE, len(self._map))
        if self._read >= RESIDENT and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._read = 0
        return found

    def split(self, at: int) -> tuple[TokenFile, TokenFile]:
        """The ids before a place, and those from there on, of the same file.

        Args:
            at: the place.

        Returns:
            Two TokenFiles.

        Raises:
            ShapeError: one of them would have none.
        """
        if not 0 < at < len(self):
            raise ShapeError(f"TokenFile.split: expected a place inside {len(self):,} ids, got {at}")
        parts = copy.copy(self), copy.copy(self)
        for part, ids in zip(parts, (self._ids[:at], self._ids[at:])):
            part._ids, part.shape = ids, ids.shape
        return parts


def write_tokens(path: str | Path, ids: Iterable[np.ndarray] | np.ndarray, vocab_size: int) -> int:
    """Write ids to a .npy file that TokenFile reads; the file is complete or not there.

    Args:
        path: the file.
        ids: (L,), or pieces of it one after the other, so that a corpus need not fit in memory.
        vocab_size: ids are in [0, vocab_size); up to 65,536 they take two bytes each, else four.

    Returns:
        How many ids there are.

    Raises:
        DtypeError, ShapeError: a piece that is no row of integers in that range; FileError: the file cannot be written.

    Example:
        >>> data.write_tokens("tokens.npy", (np.arange(5) for _ in range(3)), vocab_size=5)
        15
    """
    path = Path(checks.path("write_tokens", path))
    vocab_size = checks.whole("write_tokens", "vocab_size", vocab_size, 1, 2**32)
    kind, count, digest = KINDS[vocab_size > 2**16], 0, hashlib.sha256()
    with replacing(path) as file:
        with write_errors(path):
            file.write(bytes(HEADER))
        for piece in [ids] if isinstance(ids, np.ndarray) else checks.rows("write_tokens", "ids", ids, "rows of ids"):
            piece = checks.array("write_tokens", "ids", piece)
            if piece.ndim != 1 or piece.dtype.kind not in "iu":
                raise DtypeError(f"write_tokens: expected rows of integers, got {piece.dtype} of shape {piece.shape}")
            if piece.size and not (piece.min() >= 0 and int(piece.max()) < vocab_size):
                raise ShapeError(f"write_tokens: expected ids in [0, {vocab_size}), got {piece.min()} to {piece.max()}")
            content = piece.astype(kind).tobytes()
            digest.update(content)
            with write_errors(path):
                file.write(content)
            count += piece.size
        if not count:
            raise ShapeError("write_tokens: expected at least one id, got none")
        with write_errors(path):
            file.seek(0)
            _write_header(file, kind, count, digest.hexdigest())
    return count


def _write_header(file: BinaryIO, kind: np.dtype, count: int, digest: str) -> None:
    """A header of .npy format 1.0, of fixed size, with the digest as a comment, which NumPy passes over."""
    about = f"{{'descr': '{kind.str}', 'fortran_order': False, 'shape': ({count},), }}  # sha256 {digest}"
    magic = b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little")
    file.write(magic + about.ljust(HEADER - 11).encode() + b"\n")
