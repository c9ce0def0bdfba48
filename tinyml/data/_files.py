"""Reading files that may be damaged: nothing is allocated on the word of a header, and every failure is a FileError."""

from __future__ import annotations

import gzip
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from tokenize import TokenError
from typing import IO

from ..errors import FileError

Stream = IO[bytes] | BufferedIOBase

_CHUNK = 1 << 20

# What the standard library's decoders and NumPy's header parser raise on damaged bytes. RuntimeError: an encrypted
# zip member or an unknown compression; SyntaxError, TokenError: a header that is no dict; KeyError, TypeError: fields
# that are missing or of another kind.
_DAMAGE = (
    OSError, EOFError, ValueError, OverflowError, struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile,
    RuntimeError, SyntaxError, TokenError, KeyError, TypeError,
)  # fmt: skip


@contextmanager
def file_errors(path: str | Path, expected: str) -> Iterator[None]:
    """Turns what a reader raises on a missing or damaged `path` into a FileError that says what was expected."""
    try:
        yield
    except FileError:
        raise
    except _DAMAGE as err:
        raise FileError(f"{path}: expected {expected}, got {type(err).__name__}: {err}") from err


@contextmanager
def opened(path: str | Path) -> Iterator[Stream]:
    """The uncompressed bytes of `path`, which is a plain file unless its name ends in .gz or .xz."""
    suffix = Path(path).suffix
    with open(path, "rb") as file:
        if suffix == ".xz":
            _expect_xz_footer(file, path)
            with lzma.open(file) as stream:
                yield stream
        elif suffix == ".gz":
            with gzip.open(file) as stream:
                yield stream
        else:
            yield file


def _expect_xz_footer(file: IO[bytes], path: str | Path) -> None:
    # lzma ignores what follows the stream; a file with something appended is not the file it was.
    file.seek(max(0, file.seek(0, 2) - 2))
    footer = file.read(2)
    file.seek(0)
    if footer != b"YZ":
        raise FileError(f"{path}: expected an xz file, which ends in b'YZ', got {footer!r}")


def read_bytes(stream: Stream, count: int, path: str | Path, what: str) -> bytearray:
    """Exactly `count` bytes of `stream`; memory grows with what is there, not with `count`, which may be a lie.

    Raises FileError where the stream ends before.
    """
    data = bytearray()
    while len(data) < count:
        chunk = stream.read(min(_CHUNK, count - len(data)))
        if not chunk:
            raise FileError(f"{path}: expected {count} bytes of {what}, got {len(data)}: the file is truncated")
        data += chunk
    return data


def expect_end(stream: Stream, path: str | Path, what: str) -> None:
    """Raises FileError where bytes follow `what`; reading to the end also makes a decoder verify its checksum."""
    if stream.read(1):
        raise FileError(f"{path}: expected the file to end after {what}, got more bytes")
