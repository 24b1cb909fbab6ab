"""Reading JSON that anybody may have written: bounded, from ordinary files alone, and with one kind of error."""

import json
import stat
from pathlib import Path
from typing import Any

MOST_BYTES = 64 * 2**20


def parsed(text: str | bytes, **options: Any) -> Any:
    """`json.loads`, which raises ValueError for whatever is no JSON that can be read: nested too deeply, too, and for
    numbers of too many digits."""
    try:
        return json.loads(text, **options)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """Read a file. Raises OSError where it cannot be read, ValueError for what is no JSON, no ordinary file (a pipe
    never ends) or larger than `most` bytes."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no ordinary file")
    if status.st_size > most:
        raise ValueError(f"it has more than {most / 2**20:.0f} MB")
    return parsed(path.read_bytes().decode("utf-8-sig"))
