"""Reading JSON that anybody may have written: bounded, from ordinary files alone, and with one kind of error."""

import json
from pathlib import Path
from typing import Any

from wanda_core.machine.ordinary_file import read_ordinary

MOST_BYTES = 64 * 2**20
MOST_LISTS, MOST_ENTRIES = 10**6, 4 * 10**6  # each takes a hundred bytes or two in memory, of two or three in the file


def parsed(text: str | bytes, **options: Any) -> Any:
    """`json.loads`, which raises ValueError for whatever is no JSON that can be read: nested too deeply, too, and for
    numbers of too many digits."""
    try:
        return json.loads(text, **options)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """Read a file. Raises OSError where it cannot be read, is no ordinary file or larger than `most` bytes, ValueError
    for what is no JSON, or of more lists or entries than any file of ours or of a tokenizer."""
    content = read_ordinary(path, most)
    if content.count(b"[") + content.count(b"{") > MOST_LISTS or content.count(b",") > MOST_ENTRIES:
        raise ValueError(f"it has more than {MOST_LISTS:,} lists or {MOST_ENTRIES:,} entries")
    text = content.decode("utf-8-sig")
    del content  # of many megabytes, as what is made of it
    return parsed(text)
