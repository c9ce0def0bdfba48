"""Writing a file so that it is complete or not there."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from ..errors import FileError


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, then rename it there: at any moment `path` is whole, old or new, whatever happens to
    the process or the machine; and once this returns it is the new one.

    Raises:
        FileError: it cannot be written; `path` is as it was, and nothing is left beside it.
    """
    temporary = None
    try:
        temporary = path.with_name(path.name + ".partial")
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _keep_name(path)
    except (OSError, ValueError) as error:      # ValueError: no name, or one that no file can have
        raise FileError(f"{path}: cannot write: {getattr(error, 'strerror', None) or error}") from error
    finally:
        if temporary is not None:
            with suppress(OSError, ValueError):
                temporary.unlink()      # there only if the file did not get its name


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
