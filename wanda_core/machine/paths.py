"""A path as somebody typed or pasted it, in whatever option or argument; without torch, which takes seconds."""

import os
import re
from pathlib import Path

from wanda_core.errors import InputError, shortened_path

QUOTES = ("''", '""', "``", "‘’", "“”", "„“", "«»", "‹›", "<>")
# Beside white space: what copying from a page or a chat brings along unseen (joiners, marks of direction, soft hyphen).
UNSEEN = (
    "\u00ad\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")


def path_of(given: str | os.PathLike[str], what: str = "path") -> Path:
    """Return the path that a text stands for: `~` is the home folder, blanks and quotation marks around it go.

    A file or folder whose very name has such marks is found by it. A backslash parts folders on Windows and is a
    character of a name elsewhere. what: what it is the path of, for messages. Raises InputError for what is no path.
    """
    if not isinstance(given, (str, os.PathLike)):
        raise InputError(f"{what} {shortened_path(given)} is no path; give the path of a file or folder")
    text = os.path.expanduser(os.fsdecode(given))
    if isinstance(given, str) and not os.path.lexists(text):
        text = os.path.expanduser(bare(given))
    if not text.strip() or "\0" in text:
        raise InputError(f"{what} {shortened_path(given)} is no name; give the path of a file or folder")
    return Path(text)


def bare(text: str) -> str:
    """Strip white space, unseen characters and pairs of quotation marks, until there are none around."""
    while True:
        before, text = text, text.strip().strip(UNSEEN)
        if len(text) > 1 and text[0] + text[-1] in QUOTES:
            text = text[1:-1]
        if text == before:
            return text


def looks_like_path(text: str) -> bool:
    """Tell whether a text is a path for its looks alone, whether or not anything is there."""
    return text.startswith((".", "/", "~")) or "\\" in text or WINDOWS.match(text) is not None
