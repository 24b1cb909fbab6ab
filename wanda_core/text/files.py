"""Reading text files."""

import re
from pathlib import Path

from wanda_core.errors import InputError, shortened_path

MAX_TEXT_BYTES = 64 * 2**20  # a text is read into memory and tokenised whole
# Characters of one word: letters and digits without a blank or a mark between them. Tokenisers look at a word as a
# whole, and from a million on that takes twice as long and more. Chinese, written without blanks, has marks.
MAX_WORD = 100_000
WORD = re.compile(r"\w*")


def read_text(path: str | Path) -> str:
    """Read a UTF-8 text file whole.

    Raises InputError when it is missing, too large, empty or not text, and for a word that no language has.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_TEXT_BYTES:
            raise InputError(
                f"{path.name} is {size / 2**20:.0f} MB and texts up to {MAX_TEXT_BYTES // 2**20} MB are read; "
                "give a part of it"
            )
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(
            f"{shortened_path(path)} cannot be read ({error.strerror}); give the path of a text file"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not UTF-8 text (byte {error.start}); save it as plain UTF-8 text") from error
    if "\0" in text:
        raise InputError(f"{path.name} holds zero bytes, so it is not plain text; save it as plain UTF-8 text")
    if not text.strip():
        raise InputError(f"{path.name} is empty; give a file with text in it")
    length = longest_word(text, MAX_WORD)
    if length > MAX_WORD:
        raise InputError(
            f"{path.name} holds {length:,} letters and digits in a row, and words up to {MAX_WORD:,} are read; "
            "give a text with blanks or punctuation in it"
        )
    return text


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
