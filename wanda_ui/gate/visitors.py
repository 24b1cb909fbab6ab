"""Whose a session is, and an uploaded file: the browser's that began it. Who knows its name alone is a stranger.

A cookie of random characters tells browsers apart. It names nobody, and goes when the browser is closed. In another
site's frame, as a Space is shown, it is one that browsers keep apart for that site (Partitioned). Who keeps none, such
as a program, has what was begun without one. Tabs that are opened at once, before the browser has a cookie, are given
one each under names of their own, so that none takes another's place.

Another page of the same host, at another port or under a name beside it, may lay cookies of this name too, whose values
it knows. So a session is of all cookies that it was begun with, and with TLS one of them has a prefix (`__Host-`) that
browsers take from this very host alone.
"""

import hashlib
import os
import re
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from wanda_ui.gate.origin import scheme_seen
from wanda_ui.gate.refusal import RefusedError
from wanda_ui.gate.rules import MOST_FILE_NAME, files_named
from wanda_ui.owned import NOBODY, Owned

COOKIE = "wanda_visitor"  # the beginning of its name
OF_HOST = "__Host-"  # before it, with TLS
SENT, SENT_BY_HOST = (
    re.compile(rf"(?:^|;)\s*{prefix}{COOKIE}[\w-]{{0,20}}=([\w-]{{20,100}})\s*(?=;|$)".encode())
    for prefix in (f"(?:{OF_HOST})?", OF_HOST)
)
FRAMES = (b"iframe", b"frame")
HEADER = b"x-wanda-visitors"  # in which the gate writes on an event who asks
MOST_COOKIES = 20  # told apart in one request: as many tabs may be opened at once
MOST_SESSIONS = 10_000  # remembered, the latest, and all that are open
MOST_FILES = 100  # uploads of a visitor that are remembered; they are kept an hour
MOST_LOOKED_AT = 200  # of the oldest sessions, for one that is open no more

Send = Callable[[Any], Awaitable[None]]


class Visitors:
    """Who began which session and uploaded which file."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, frozenset[str]] = OrderedDict()
        self._files = Owned(MOST_FILES)

    def check_session(self, session: str, headers: Mapping[bytes, bytes]) -> None:
        """Raise RefusedError for a session that another visitor began."""
        visitors = visitors_of(headers)
        if not self._sessions.get(session, visitors) <= visitors:
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
        self._files.add(os.path.realpath(path), visitors_of(headers))

    def has_uploaded(self, path: str, headers: Mapping[bytes, bytes]) -> bool:
        """Whether this visitor uploaded that file."""
        return self._uploaded(path, visitors_of(headers)) is not None

    def check_files(self, told: object, headers: Mapping[bytes, bytes]) -> frozenset[str]:
        """Check the files that an event names, however often: each is this visitor's upload. -> their real paths

        Raises RefusedError for a file of another visitor's, or of nobody's.
        """
        visitors = visitors_of(headers)
        found = set()
        for path in files_named(told):
            real = self._uploaded(path, visitors)
            if real is None:
                raise RefusedError(400, "file_gone", control="path")
            found.add(real)
        return frozenset(found)

    def _uploaded(self, path: str, visitors: frozenset[str]) -> str | None:
        """Return the real path of a file that these visitors uploaded, None for any other."""
        # No upload is called so: looking for parts takes their square, and where the folder that the server was started
        # in has gone, nothing can be found that is named from there.
        if len(path) > MOST_FILE_NAME or "\0" in path or not os.path.isabs(path):
            return None
        real = os.path.realpath(path)
        return real if self._files.has(real, visitors) else None


def visitors_of(headers: Mapping[bytes, bytes]) -> frozenset[str]:
    """Return who sends a request: digests of its cookies, so that nothing that is kept here lets anybody in; one digest
    of them all where there are too many, since a few could be another page's."""
    sent = set(SENT.findall(headers.get(b"cookie", b"")))
    if len(sent) > MOST_COOKIES:
        sent = {b" ".join(sorted(sent))}
    return frozenset(hashlib.sha256(cookie).hexdigest() for cookie in sent) or NOBODY


def written(visitors: frozenset[str]) -> bytes:
    """Write who asks into a header, which `visitors_in` reads."""
    return ",".join(sorted(visitors)).encode()


def visitors_in(request: Any) -> frozenset[str]:
    """Return who asks for an event, nobody known where it did not come through the gate. request: its `gr.Request`."""
    headers = getattr(request, "headers", None) or {}
    told = headers.get(HEADER.decode()) if hasattr(headers, "get") else None
    return frozenset(told.split(",")) if told else NOBODY


def with_cookie(send: Send, headers: Mapping[bytes, bytes], scheme: str) -> Send:
    """Make a `send` that gives a browser its cookie, where it has none yet; with TLS none that others may have laid.
    scheme: the connection's; a proxy may speak TLS before it."""
    with_tls = scheme_seen(headers.get(b"x-forwarded-proto", b"").decode("latin-1"), scheme) == "https"
    if (SENT_BY_HOST if with_tls else SENT).search(headers.get(b"cookie", b"")):
        return send
    prefix, kept = OF_HOST * with_tls, "SameSite=Lax" + "; Secure" * with_tls
    if with_tls and headers.get(b"sec-fetch-dest") in FRAMES:
        kept = "SameSite=None; Secure; Partitioned"  # sent from within a frame of the same site alone
    named = f"{prefix}{COOKIE}_{secrets.token_hex(4)}={secrets.token_urlsafe(24)}"
    cookie = f"{named}; Path=/; HttpOnly; {kept}".encode()

    async def changed(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"set-cookie", cookie)]}
        await send(message)

    return changed
