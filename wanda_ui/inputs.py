"""Check and convert what arrives from the browser, which may be anything: requests can be made without the page."""

import re
from typing import Any, TypeGuard

from wanda_core.errors import InputError, shortened


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a number; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def as_int(value: object) -> Any:
    """Turn a whole float, as the browser sends whole numbers, into an int; leave the rest for the engine to refuse."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def whole_number(value: object, name: str) -> int:
    """Return a field's value as an int. Raises InputError, which calls the field by its name, for anything else."""
    if not is_number(value) or (isinstance(value, float) and not value.is_integer()):
        raise InputError(f"{name} {shortened(value)} is not a whole number; type one, such as 16")
    return int(value)


def some_text(value: object, name: str) -> str:
    """Return a text that is more than blanks. Raises InputError, which calls the text by its name, for any other.

    Asked before a job waits for the engine: whoever forgot to type need not wait to be told.
    """
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"the {name} is empty; write a few words")
    return value


def typed_number(text: str, most_digits: int = 9) -> int | None:
    """Read a whole number from 0 in ASCII digits; None for any other text and for one of more digits."""
    return int(text) if re.fullmatch(rf"[0-9]{{1,{most_digits}}}", text) else None


def as_share(percent: object) -> Any:
    """Turn percent into a share; leave what is no number for the engine to refuse."""
    try:
        return percent / 100 if is_number(percent) else percent
    except OverflowError:  # an int beyond all floats, out of bounds as it stands
        return percent
