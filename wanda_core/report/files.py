"""Files that are written in one step: they are never there half written."""

import os
from pathlib import Path

from wanda_core.errors import StorageError, first_line, shortened_path
from wanda_core.machine import atomic_file
from wanda_core.machine.paths import path_of


def check_writable(path: str | os.PathLike[str], what: str = "run") -> Path:
    """Return the absolute path of a file that `write_text` may write, which is tried. Raises StorageError otherwise."""
    target = path_of(path, what).absolute()
    try:
        atomic_file.check_writable(target)
    except (OSError, ValueError) as error:
        raise _not_written(path, what, error) from error
    return target


def write_text(text: str, path: str | os.PathLike[str], what: str = "run") -> Path:
    """Write a text in UTF-8 in one step: the file is never there half written. -> its absolute path.

    what: it is called where it cannot be written, which raises StorageError.
    """
    target = path_of(path, what).absolute()
    try:
        with atomic_file.written(target) as part:
            part.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise _not_written(path, what, error) from error
    return target


def _not_written(path: object, what: str, error: Exception) -> StorageError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
    return StorageError(f"the {what} cannot be written to {shortened_path(path)} ({reason}); choose another place")
