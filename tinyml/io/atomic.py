"""Writing a file so that it is complete or not there."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ..errors import FileError


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, then rename it there: at any moment `path` is whole, old or new.

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
    except (OSError, ValueError) as error:      # ValueError: no name, or one that no file can have
        raise FileError(f"{path}: cannot write: {getattr(error, 'strerror', None) or error}") from error
    finally:
        if temporary is not None:
            with suppress(OSError, ValueError):
                temporary.unlink()      # there only if the file did not get its name
