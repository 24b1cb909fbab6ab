"""Opening files that somebody else named or wrote: ordinary ones alone, for a device or a pipe never ends."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

# Opening a pipe would wait for somebody to write into it; Windows reads text unless told otherwise.
FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0)


def open_ordinary(path: Path) -> BinaryIO:
    """Open an ordinary file, or what a link to one leads to, to read its bytes. Raises OSError for anything else."""
    descriptor = os.open(path, FLAGS)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no ordinary file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_ordinary(path: Path, most: int) -> bytes:
    """Read an ordinary file whole. most: bytes. Raises OSError where it cannot be read, is no ordinary one or larger,
    whatever size the system tells of it."""
    with open_ordinary(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most / 2**20:.3g} MB", str(path))
    return content


def check_ordinary(path: Path) -> None:
    """Raise OSError for what is no ordinary file, before another library opens it by its name."""
    open_ordinary(path).close()
