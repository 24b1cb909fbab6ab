"""The rows of JSON files, read as a stream: JSON Lines, an array, or one object of columns or of rows."""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, TextIO

from wanda_core.errors import InputError, first_line
from wanda_core.text.chats import chat_of

PIECE = 2**16  # characters read at once
CUT = 12  # characters before the end of what was read, in which an error may be that of a value cut in two
BETWEEN = re.compile(r"[\s,]*")
FREE, SPACING = 20_000, 16  # lists and objects that a row may have in any case, and characters for each more of them
STRING = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)  # also one that is cut
CHATS = ("messages", "conversations")  # columns that hold a chat


def json_rows(file: TextIO, name: str, most: int, lines: bool) -> Iterator[Any]:
    """Read row after row. name: of the file; most: characters of one row; lines: whether each value is a row for sure.

    Raises InputError for what is no JSON, and for a row that is larger.
    """
    values = _values(file, name, most)
    first = list(_next(values))
    second = list(_next(values))
    if first and not second and not lines and isinstance(first[0], Mapping):
        return iter(_rows_of(first[0]))
    return chain(first, second, values)


def _next(values: Iterator[Any]) -> Iterator[Any]:
    for value in values:
        yield value
        return


def _values(file: TextIO, name: str, most: int) -> Iterator[Any]:
    """Read the values of an array, or those that stand one after another."""
    decoder = json.JSONDecoder()
    text, place, step, count = "", 0, PIECE, 0
    array: bool | None = None
    while True:
        found = BETWEEN.match(text, place)
        place = found.end() if found else place
        try:
            if array is None and text[place : place + 1] == "[":
                array, place = True, place + 1
                continue
            if array and text[place : place + 1] == "]":
                return
            value, end = decoder.raw_decode(text, place)
            cut = ""
        except json.JSONDecodeError as error:
            cut = error.msg
            if error.pos < len(text) - CUT and not error.msg.startswith("Unterminated"):
                raise _no_json(name, count, error.msg) from error
        except (RecursionError, ValueError) as error:  # or a number of more digits than Python reads
            why = "nested too deeply" if isinstance(error, RecursionError) else first_line(error)
            raise _no_json(name, count, why) from error
        if cut or end == len(text):  # more of the value may follow
            piece = file.read(step)
            if piece:
                text, place, step = text[place:] + piece, 0, 2 * step
                _check_brackets(text, name, count)
                if len(text) > most + step:
                    raise InputError(
                        f"row {count + 1} of {name} is larger than the {most / 2**20:.3g} MB that are read; leave it "
                        "out"
                    )
                continue
            if cut:
                if place == len(text) and not array:
                    return
                raise _no_json(name, count, cut)
        array, step, count, place = bool(array), PIECE, count + 1, end
        yield value


def _check_brackets(text: str, name: str, count: int) -> None:
    """Raise InputError where what was read begins more lists and objects than data do: each takes far more memory than
    its two characters."""
    most = FREE + len(text) // SPACING
    if text.count("[") + text.count("{") > most:
        bare = STRING.sub("", text)
        if bare.count("[") + bare.count("{") > most:
            raise InputError(
                f"row {count + 1} of {name} has more than {most:,} lists and objects in it; leave out those that hold "
                "no text"
            )


def _no_json(name: str, count: int, reason: str) -> InputError:
    return InputError(
        f"{name} is not the JSON that its name says: row {count + 1} cannot be read ({reason}); repair it"
    )


def _rows_of(value: Mapping[str, Any]) -> list[Any]:
    """Take one object apart: columns as pandas writes them, rows by their names, or one list of rows."""
    parts = list(value.values())
    if parts and all(isinstance(part, Mapping) for part in parts):
        if any(name in parts[0] for name in ("text", *CHATS)):
            return parts
        return [dict(zip(value, row, strict=False)) for row in zip(*(part.values() for part in parts), strict=False)]
    if any(chat_of(part) for part in parts):
        return [value]
    tables = [part for part in parts if isinstance(part, list) and part and isinstance(part[0], Mapping)]
    if len(tables) == 1:
        return tables[0]
    if parts and all(isinstance(part, list) and len(part) == len(parts[0]) for part in parts):
        return [dict(zip(value, row, strict=True)) for row in zip(*parts, strict=True)]
    return [value]
