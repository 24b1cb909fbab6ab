"""What a disk refuses, told as Python tells it: packages that are no Python raise types of their own for it."""

import contextlib
import os
import re
from collections.abc import Iterator

# How an error of Rust ends, whatever it begins with, or but for the file, as safetensors has it; and how one of Python
# begins. Within it a stranger's words may say so.
NUMBER = re.compile(r'\(os error (\d{1,3})\)(?: at path ".*")?$|^\[Errno (\d{1,3})\]', re.DOTALL)


def disk_error(said: str) -> OSError | None:
    """Return the error that another package's words are about, None where they are about no disk."""
    found = NUMBER.search(said)
    number = int(found[1] or found[2]) if found else 0
    return OSError(number, os.strerror(number)) if found else None


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
