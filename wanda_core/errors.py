"""Types of the errors this package raises on purpose; a message says what was given, the rule, and the remedy."""

import math
import re
from reprlib import Repr

SHOWN = 80  # characters of a value that a message shows
MOST_SAID = 100_000  # characters of another library's error that are looked at
LONGEST_QUOTED = 5_000  # of these, of a line, in which folders are named anew; a path has 4,096 at most
SHOWN_OF_A_PATH = 160  # whose end tells the most
NO_MEMORY = ("can't allocate memory", "not enough memory", "alloc_cpu")  # of torch, by system
MOST_OF_SENTENCE = 1_500  # characters of a whole message; the longest of ours has half of that
# How a model's folder is called in the hub's cache, what of it stands before its files, and how a path begins.
CACHED, OF_THE_CACHE = "models--", re.compile(r"([\w.\-]+)(?:[\\/]+(?:snapshots|blobs|refs)(?:[\\/]+[\w.\-]+)?)?")
ABSOLUTE = re.compile(r"(?:[A-Za-z]:)?[\\/]|~")

_REPR = Repr()  # looks at the first few parts of a container only
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 4 * SHOWN_OF_A_PATH


class WandaError(Exception):
    """Base of these errors; its message is one sentence that can be shown to a user, whatever is quoted in it."""

    def __init__(self, message: str = "") -> None:
        super().__init__(plain(cut(message, MOST_OF_SENTENCE)))


class InputError(WandaError, ValueError):
    """A value the caller gave breaks a rule: a sparsity, a pattern, a text, a prompt."""


class ModelError(WandaError):
    """A model cannot be found, read, held in memory or pruned."""


class GatedError(ModelError):
    """A model whose licence has to be accepted on the hub. address: of the page where that is done."""

    def __init__(self, message: str, address: str) -> None:
        super().__init__(message)
        self.address = address


class StorageError(WandaError):
    """A file or folder could not be written: the disk is full, or the folder must not be replaced."""


class ProcessError(WandaError):
    """A process has ended that others work together with, so that they cannot go on."""


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error is of memory that ran out, Python's, torch's on the CPU or on a device."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    said = str(error)[:MOST_SAID]
    return named or (isinstance(error, RuntimeError) and any(words in said for words in NO_MEMORY))


def is_fault(error: BaseException) -> bool:
    """Tell whether an error is some code's, not a wish to end: Rust's panics are no Exceptions."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def plain(text: str) -> str:
    """Return a text with a space in place of line ends, escape sequences' beginnings and all else that is not shown as
    a character: a terminal would obey it."""
    if text.isprintable():
        return text
    return re.sub(r"\0+", " ", "".join(letter if letter.isprintable() else "\0" for letter in text))


def cut(text: str, most: int) -> str:
    """Return a text, its middle cut out where it has more than `most` characters."""
    return text if len(text) <= most else f"{text[: most * 2 // 3 - 1]}…{text[-(most // 3) :]}"


def first_line(error: BaseException, secret: str | None = None) -> str:
    """Return the first line of another library's error, cut to 300 characters, to be quoted within a sentence.

    A line that ends in a colon is continued by the next. A model of the hub has its name there, not its folder. secret:
    what is not repeated, whoever else repeats it.
    """
    said = str(error)[:MOST_SAID]
    said = said.replace(secret, "…") if secret else said
    lines = [line.strip() for line in said.splitlines() if line.strip()] or [type(error).__name__]
    end = next((number for number, line in enumerate(lines) if not line.endswith(":")), len(lines) - 1)
    told = without_cache("\n".join(lines[: end + 1])[:LONGEST_QUOTED])
    return plain(told.replace("\n", " ").rstrip(".:, ")[:300])


def without_cache(said: str) -> str:
    """Return a text in which a model of the hub has its name in the place of the folder that holds it: whoever reads it
    need not know where this machine keeps its files."""
    told, *others = said.split(CACHED)
    for other in others:
        begins = ABSOLUTE.search(told, max(map(told.rfind, "'\"\n")) + 1)
        model = OF_THE_CACHE.match(other)
        if begins and model:
            told = told[: begins.start()] + model[1].replace("--", "/") + other[model.end() :]
        else:
            told += CACHED + other
    return told


def in_gb(needed: float, free: float) -> tuple[str, str]:
    """Write how many bytes are needed and how many are free, in GB of one decimal; where these would be the same, the
    first rounded up and the second down, so that what does not fit does not read as if it did."""
    takes, has = f"{needed / 1e9:.1f}", f"{free / 1e9:.1f}"
    if takes != has:
        return takes, has
    return f"{math.ceil(needed / 1e8) / 10:.1f}", f"{math.floor(free / 1e8) / 10:.1f}"


def shortened(value: object, most: int = SHOWN) -> str:
    """Return the `repr` of a value that a user gave, its middle cut out where it has more than `most` characters.

    It is one line, whatever the value, and can be quoted within a sentence; of a long value only a part is looked at.
    """
    try:
        if isinstance(value, str):  # both ends are enough: no character's repr is shorter than itself
            text = repr(value if len(value) <= 2 * most else value[:most] + value[-most:])
        else:
            text = " ".join(_REPR.repr(value).split())
    except Exception:  # an int of more digits than Python writes
        text = f"<{type(value).__name__}>"
    return cut(text, most)


def shortened_path(path: object) -> str:
    """Return the `repr` of a file's or folder's name as `shortened` does, with more of it."""
    return shortened(str(path), SHOWN_OF_A_PATH)
