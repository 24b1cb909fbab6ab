"""Whose a session is, and an uploaded file: the browser's that began it. Who knows its name alone is a stranger.

A cookie of random characters tells browsers apart. It names nobody, and goes when the browser is closed. Who keeps
none, such as a program or a page in another site's frame, has what was begun without one.
"""

import hashlib
import os
import re
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from wanda_ui.gate.refusal import RefusedError

COOKIE = "wanda_visitor"
SENT = re.compile(rf"(?:^|;)\s*{COOKIE}=([\w-]{{20,100}})\s*(?:;|$)".encode())
MOST_SESSIONS = 10_000  # remembered, the latest; Gradio keeps 64
MOST_FILES = 10_000  # uploads that are remembered, the latest; they are kept for an hour

Send = Callable[[Any], Awaitable[None]]


class Visitors:
    """Who began which session and uploaded which file. A visitor is a digest of the cookie, empty without one."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, str] = OrderedDict()
        self._files: OrderedDict[tuple[str, str], None] = OrderedDict()

    def check_session(self, session: str, headers: Mapping[bytes, bytes]) -> None:
        """Note who begins a session. Raises RefusedError for one of another visitor."""
        visitor = visitor_of(headers)
        if self._sessions.setdefault(session, visitor) != visitor:
            raise RefusedError(403, "stranger")
        self._sessions.move_to_end(session)
        while len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)

    def uploaded(self, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Note who uploads a file; equal files have one path, and may be of several."""
        self._files[os.path.realpath(path), visitor_of(headers)] = None
        while len(self._files) > MOST_FILES:
            self._files.popitem(last=False)

    def has_uploaded(self, path: str, headers: Mapping[bytes, bytes]) -> bool:
        """Whether this visitor uploaded that file. path: without NUL."""
        return (os.path.realpath(path), visitor_of(headers)) in self._files

    def check_files(self, told: object, headers: Mapping[bytes, bytes]) -> None:
        """Raise RefusedError for a file of another visitor's, or of nobody's, wherever an event names one."""
        for path in _paths(told):
            if not self.has_uploaded(path, headers):
                raise RefusedError(400, "file_gone", control="path")


def visitor_of(headers: Mapping[bytes, bytes]) -> str:
    """Return who sends a request: a digest of the cookie, so that nothing that is kept here lets anybody in."""
    sent = SENT.search(headers.get(b"cookie", b""))
    return hashlib.sha256(sent[1]).hexdigest() if sent is not None else ""


def with_cookie(send: Send, headers: Mapping[bytes, bytes], scheme: str) -> Send:
    """Make a `send` that gives a browser its cookie, where it has none yet."""
    if visitor_of(headers):
        return send
    secure = "; Secure" if scheme == "https" else ""
    cookie = f"{COOKIE}={secrets.token_urlsafe(24)}; Path=/; HttpOnly; SameSite=Lax{secure}".encode()

    async def changed(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"set-cookie", cookie)]}
        await send(message)

    return changed


def _paths(value: object) -> Iterator[str]:
    """Go through the paths that an event names, however deep they stand; it has been checked to be small."""
    if isinstance(value, dict):
        path = value.get("path")
        if isinstance(path, str) and "\0" not in path:
            yield path
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _paths(inner)
