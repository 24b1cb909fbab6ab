"""A lock on a file that the system gives up when its process ends, however it ends; it holds between containers, whose
processes do not see each other, and on most network disks between machines."""

import errno
import os
import sys
from pathlib import Path

HELD = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}  # what systems say of a file that another process holds


def hold(path: Path) -> int | None:
    """Lock a file for this call alone. -> a descriptor, which holds it until it is closed; None where another does.

    Where a file system knows no locks there is none. Raises OSError where the file is not there.
    """
    descriptor = os.open(path, os.O_RDWR)
    try:
        _lock(descriptor)
    except OSError as error:
        if error.errno in HELD:
            os.close(descriptor)
            return None
    return descriptor


def is_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
