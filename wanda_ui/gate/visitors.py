"""Whose a session is, and an uploaded file: the browser's that began it. Who knows its name alone is a stranger.

A cookie of random characters tells browsers apart. It names nobody, and goes when the browser is closed. Who keeps
none, such as a program or a page in another site's frame, has what was begun without one. Tabs that are opened at once,
before the browser has a cookie, are given one each under names of their own, so that none takes another's place.
"""

import hashlib
import os
import re
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from wanda_ui.gate.refusal import RefusedError
from wanda_ui.gate.rules import MOST_FILE_NAME

COOKIE = "wanda_visitor"  # the beginning of its name
SENT = re.compile(rf"(?:^|;)\s*{COOKIE}[\w-]{{0,20}}=([\w-]{{20,100}})\s*(?=;|$)".encode())
MOST_COOKIES = 10  # read of one request
MOST_SESSIONS = 10_000  # remembered, the latest, and all that are open
MOST_VISITORS, MOST_FILES = 10_000, 100  # of whom uploads are remembered, and how many of each; they are kept an hour
MOST_LOOKED_AT = 200  # of the oldest sessions, for one that is open no more

Send = Callable[[Any], Awaitable[None]]


class Visitors:
    """Who began which session and uploaded which file. A visitor is a digest of a cookie, empty without one."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, frozenset[str]] = OrderedDict()
        self._files: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()

    def check_session(self, session: str, headers: Mapping[bytes, bytes]) -> None:
        """Raise RefusedError for a session that another visitor began."""
        visitors = visitors_of(headers)
        if self._sessions.get(session, visitors).isdisjoint(visitors):
            raise RefusedError(403, "stranger")

    def begin_session(
        self, session: str, headers: Mapping[bytes, bytes], is_open: Callable[[str], bool] = lambda session: False
    ) -> None:
        """Note who begins a session; of too many the oldest that is not open is forgotten. Raises RefusedError for one
        of another visitor."""
        self.check_session(session, headers)
        self._sessions.setdefault(session, visitors_of(headers))
        self._sessions.move_to_end(session)
        for _ in range(MOST_LOOKED_AT):
            if len(self._sessions) <= MOST_SESSIONS:
                return
            oldest = next(iter(self._sessions))
            if oldest == session or is_open(oldest):
                self._sessions.move_to_end(oldest)
            else:
                del self._sessions[oldest]

    def uploaded(self, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Note who uploads a file; equal files have one path, and may be of several."""
        visitor = min(visitors_of(headers))
        files = self._files.setdefault(visitor, OrderedDict())
        self._files.move_to_end(visitor)
        files[os.path.realpath(path)] = None
        while len(files) > MOST_FILES:
            files.popitem(last=False)
        while len(self._files) > MOST_VISITORS:
            self._files.popitem(last=False)

    def has_uploaded(self, path: str, headers: Mapping[bytes, bytes]) -> bool:
        """Whether this visitor uploaded that file. path: without NUL."""
        if len(path) > MOST_FILE_NAME:  # no upload is called so, and looking for its parts takes their square
            return False
        real = os.path.realpath(path)
        return any(real in self._files.get(visitor, ()) for visitor in visitors_of(headers))

    def check_files(self, told: object, headers: Mapping[bytes, bytes]) -> None:
        """Raise RefusedError for a file of another visitor's, or of nobody's, wherever an event names one."""
        for path in _paths(told):
            if not self.has_uploaded(path, headers):
                raise RefusedError(400, "file_gone", control="path")


def visitors_of(headers: Mapping[bytes, bytes]) -> frozenset[str]:
    """Return who sends a request: digests of its cookies, so that nothing that is kept here lets anybody in; the empty
    text alone where it sends none."""
    sent = SENT.findall(headers.get(b"cookie", b""))[:MOST_COOKIES]
    return frozenset(hashlib.sha256(cookie).hexdigest() for cookie in sent) or frozenset({""})


def with_cookie(send: Send, headers: Mapping[bytes, bytes], scheme: str) -> Send:
    """Make a `send` that gives a browser its cookie, where it has none yet."""
    if SENT.search(headers.get(b"cookie", b"")):
        return send
    secure = "; Secure" if scheme == "https" else ""
    named = f"{COOKIE}_{secrets.token_hex(4)}={secrets.token_urlsafe(24)}"
    cookie = f"{named}; Path=/; HttpOnly; SameSite=Lax{secure}".encode()

    async def changed(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"set-cookie", cookie)]}
        await send(message)

    return changed


def real_paths(value: object) -> set[str]:
    """Return the real paths of files that events name."""
    return {os.path.realpath(path) for path in _paths(value)}


def _paths(value: object) -> Iterator[str]:
    """Go through the paths that an event names, however deep they stand; it has been checked to be small."""
    if isinstance(value, dict):
        path = value.get("path")
        if isinstance(path, str) and "\0" not in path:
            yield path
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _paths(inner)
