"""The body of a request: read up to a bound, then taken apart strictly, as JSON that means one thing only."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from wanda_ui.gate.refusal import RefusedError, quoted

MOST_JSON = 2**20  # bytes; the largest event of the page has a text of 50,000 characters and some numbers
MOST_SECONDS = 20  # in which a body has come
PIECE = 2**14  # bytes, for each of which a body counts as one request: taking it apart holds up everybody
MOST_DEPTH = 12  # of lists and objects within each other
MOST_DIGITS = 400  # of one number
NAME = re.compile(r"[0-9A-Za-z_-]{1,64}")  # of a session, an event, an upload: what browsers and Gradio make up

Receive = Callable[[], Awaitable[Any]]


async def read_body(receive: Receive, headers: dict[bytes, bytes], most: int) -> bytes:
    """Read a whole body. Raises RefusedError as soon as it is more than `most` bytes, and where it never ends."""
    check_length(headers, most, "body", str(most // 2**20))
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(MOST_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise ConnectionResetError
                part = message.get("body", b"")
                size += len(part)
                if size > most:
                    raise RefusedError(413, "body", most=most // 2**20)
                parts.append(part)
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise RefusedError(408, "slow", seconds=MOST_SECONDS) from None


def check_length(headers: dict[bytes, bytes], most: int, key: str, megabytes: str) -> None:
    """Raise RefusedError where the header says that the body is too long. key: of the words, which say megabytes."""
    length = headers.get(b"content-length", b"0")
    if not re.fullmatch(rb"[0-9]{1,15}", length) or int(length) > most:
        raise RefusedError(413, key, most=megabytes)


def parse(body: bytes, headers: dict[bytes, bytes]) -> dict[str, Any]:
    """Read a JSON object. Raises RefusedError for anything else, a key that stands twice, depth and endless digits."""
    kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if kind != b"application/json":
        raise RefusedError(415, "content_type", value=quoted(kind.decode("latin-1")), wanted="application/json")
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_object, parse_int=_integer)
    except RecursionError:
        raise RefusedError(400, "deep", most=MOST_DEPTH) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        at = error.start if isinstance(error, UnicodeDecodeError) else error.pos
        raise RefusedError(400, "not_json", place=at) from None
    _check_depth(value)
    if not isinstance(value, dict):
        raise RefusedError(400, "not_object", value=quoted(value))
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object; two of its keys may not be the same, since readers differ on which one counts."""
    made = dict(pairs)
    if len(made) < len(pairs):
        raise RefusedError(400, "twice", name=quoted(_first_again(name for name, _ in pairs)))
    return made


def _first_again(names: Iterable[str]) -> str | None:
    """Return the first name that came before, in a time that grows with their number alone."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _integer(digits: str) -> int:
    """Read a whole number; Python takes long for thousands of digits and then refuses them by a traceback."""
    if len(digits) > MOST_DIGITS:
        raise RefusedError(400, "digits", given=len(digits), most=MOST_DIGITS)
    return int(digits)


def _check_depth(value: object) -> None:
    """Raise RefusedError for a value that is nested too deep."""
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [inner for outer in level for inner in _inside(outer) if isinstance(inner, (dict, list))]
        if not level:
            return
    raise RefusedError(400, "deep", most=MOST_DEPTH)


def _inside(value: object) -> list[object]:
    """List what stands directly in a list or an object."""
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def check_keys(body: dict[str, Any], needed: set[str], optional: set[str]) -> None:
    """Raise RefusedError for a key that is missing or unknown."""
    if missing := needed - set(body):
        raise RefusedError(400, "missing", name=min(missing))
    if unknown := set(body) - needed - optional:
        raise RefusedError(400, "unknown_key", name=quoted(min(unknown)))


def check_name(body: dict[str, Any], key: str) -> str:
    """Return the name of a session or an event. Raises RefusedError for what is no such name."""
    value = body[key]
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise RefusedError(400, "name", name=key, value=quoted(value), most=64)
    return value
