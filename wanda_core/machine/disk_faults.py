"""What a disk refuses, told as Python tells it: packages that are no Python raise types of their own for it."""

import contextlib
import os
import re
from collections.abc import Iterator

RUST = re.compile(r"\(os error (\d{1,5})\)")  # how its own errors end, whatever they begin with


def disk_error(said: str) -> OSError | None:
    """Return the error that another package's words are about, None where they are about no disk."""
    number = RUST.search(said)
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else None


@contextlib.contextmanager
def disk_faults_told() -> Iterator[None]:
    """Context manager: raise OSError for what the disk refuses within it, whatever a package raises."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if (refused := disk_error(str(error))) is not None:
            raise refused from error
        raise
