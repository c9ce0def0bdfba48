"""Writing a file so that it is complete or not there, however many write it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import FileError

SUFFIX = ".partial"     # of what is being written, or was when its writer was killed


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, then rename it there; see `replacing`.

    Raises:
        FileError: it cannot be written; `path` is as it was, and nothing is left beside it.
    """
    with replacing(path) as file, write_errors(path):
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the name `path` at the end of the block, unless that raises.

    At any moment `path` is whole, old or new, whatever happens to the process or the machine; after the block it is the new
    one. Until then the file has a name of its own, "name.<16 hexadecimal digits>.partial", in the same folder.

    Raises:
        FileError: it cannot be written; `path` is as it was, and nothing is left beside it.
    """
    temporary = None
    try:
        with write_errors(path):
            # of a long name only the beginning, so that this one is not too long
            temporary = path.with_name(f"{path.name[:50]}.{os.urandom(8).hex()}{SUFFIX}")
            file = open(temporary, "xb")  # noqa: SIM115 - closed below, where errors of the block stay as they are
        with file:
            yield file
            with write_errors(path):
                file.flush()
                os.fsync(file.fileno())
        with write_errors(path):
            os.replace(temporary, path)
            _keep_name(path)
    finally:
        if temporary is not None:
            with suppress(OSError, ValueError):
                temporary.unlink()      # there only if the file did not get its name


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turns what fails in writing `path` into a FileError that names it."""
    try:
        yield
    except (OSError, ValueError) as error:      # ValueError: no name, or one that no file can have
        raise FileError(f"{path}: cannot write: {getattr(error, 'strerror', None) or error}") from error


def remove_leftovers(path: Path) -> None:
    """Remove what writers of `path` left that were killed; nobody may be writing it."""
    with suppress(OSError):
        for name in os.listdir(path.parent):
            if name.startswith(f"{path.name[:50]}.") and name.endswith(SUFFIX):
                path.with_name(name).unlink()


def _keep_name(path: Path) -> None:
    """Make the new name outlive a crash of the machine: it stands in the folder, which has to reach the disk too."""
    if os.name != "posix":      # elsewhere folders cannot be opened
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):    # file systems without it: there is no more to be done
            raise
    finally:
        os.close(folder)
