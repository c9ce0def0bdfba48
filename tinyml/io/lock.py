"""A lock that lets one writer at a time use a folder, among all processes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import FileError

try:
    import fcntl
except ImportError:     # Windows: nothing is locked there
    fcntl = None    # type: ignore[assignment]

# the errors of file systems that cannot lock a folder
UNSUPPORTED = {errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EISDIR}
_held: set[int] = set()


@contextmanager
def locked(folder: Path, user: str) -> Iterator[bool]:
    """Lock `folder` while the block runs, and say whether that worked: not all systems and file systems can lock folders.

    The lock leaves no file behind, and the operating system drops it when the process ends, however it ends.

    Raises:
        FileError: another `user` has the lock, or the folder cannot be opened.
    """
    if fcntl is None:
        yield False
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise FileError(f"{folder}: cannot open: {error.strerror or error}") from error
    _held.add(descriptor)
    try:
        yield _lock(descriptor, folder, user)
    finally:
        _held.discard(descriptor)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)      # a child that is just being forked may still have a copy
        os.close(descriptor)


def _lock(descriptor: int, folder: Path, user: str) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise FileError(f"{folder}: in use by another {user}, of this process or another one; wait until it is done, "
                            "or use another folder") from error
        if error.errno not in UNSUPPORTED:
            raise FileError(f"{folder}: cannot lock: {error.strerror or error}") from error
        return False
    return True


def _let_go() -> None:
    """Close the copies in a forked child, which would otherwise hold the locks after its parent has died."""
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
