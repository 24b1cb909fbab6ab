"""Reading text files."""

from pathlib import Path

from wanda_core.errors import InputError, shortened_path

MAX_TEXT_BYTES = 64 * 2**20  # a text is read into memory and tokenised whole


def read_text(path: str | Path) -> str:
    """Read a UTF-8 text file whole. Raises InputError when it is missing, too large, empty or not text."""
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
    return text
