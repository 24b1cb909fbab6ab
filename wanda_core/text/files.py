"""Reading text files."""

import re
from os import PathLike
from pathlib import Path

from wanda_core.errors import InputError
from wanda_core.machine.paths import path_of
from wanda_core.text.opening import COMPRESSED, MAX_TEXT_BYTES, kind_of, opened

DATA = {".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet"}  # suffixes of tables
# Characters of one word: letters and digits without a blank or a mark between them. Tokenisers look at a word as a
# whole, and from a million on that takes twice as long and more. Chinese, written without blanks, has marks.
MAX_WORD = 100_000
WORD = re.compile(r"\w*")


def read_text(path: str | PathLike[str], most: int = MAX_TEXT_BYTES) -> str:
    """Read a UTF-8 text file whole, also one packed as .gz or .zst; every end of a line becomes a line feed.

    most: bytes. Raises InputError when it is missing, too large, empty or not text, for a word that no language has,
    and for a table, whose syntax is no text.
    """
    path = path_of(path, "text file")
    if kind_of(path) in DATA:
        raise InputError(f"{path.name} is a table, not plain text; read its text column with read_documents")
    return plain_text(path, most)


def plain_text(path: Path, most: int, blank: bool = False) -> str:
    """Read a text file, whatever its name. blank: accept one without text. Errors as of `read_text`."""
    with opened(path, most) as file:
        size = path.stat().st_size
        if size > most and path.suffix.lower() not in COMPRESSED:
            raise InputError(
                f"{path.name} is {size / 2**20:.0f} MB and texts up to {most / 2**20:.3g} MB are read; "
                "give a part of it"
            )
        text = file.read().decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        raise InputError(f"{path.name} holds zero bytes, so it is not plain text; save it as plain UTF-8 text")
    if not text.strip() and not blank:
        raise InputError(f"{path.name} is empty; give a file with text in it")
    check_words(text, path.name)
    return text


def check_words(text: str, name: str) -> None:
    """Raise InputError for a word that no language has. name: of the file."""
    length = longest_word(text, MAX_WORD)
    if length > MAX_WORD:
        raise InputError(
            f"{name} holds {length:,} letters and digits in a row, and words up to {MAX_WORD:,} are read; "
            "give a text with blanks or punctuation in it"
        )


def longest_word(text: str, more_than: int) -> int:
    """Return the length of a word of more than so many characters, 0 where there is none.

    Looks only at every `more_than / 2`-th character and what follows it, so that ordinary text takes no time.
    """
    step = max(1, more_than // 2)
    for place in range(0, len(text), step):
        after = _leading(text, place)
        if after >= step:
            before = _leading(text[max(0, place - more_than) : place][::-1], 0)
            if before + after > more_than:
                return before + after
    return 0


def _leading(text: str, place: int) -> int:
    """Return how many letters and digits follow a place."""
    found = WORD.match(text, place)
    return found.end() - place if found else 0
