"""What every answer tells a browser about its use, and what no request may ask of the files that are read here.

A page of another site may not lay this one into itself, where a press on its own button would be one on this page. A
Space is shown inside of the hub's page, which its server names.
"""

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

AROUND_A_SPACE = ("https://huggingface.co",)  # not *.hf.space, where anybody has pages
# Of one file a part is sent by the gate's own downloads alone. Gradio fails on a range that is none, and answers one
# that is with the request's own headers.
PARTS = (b"range", b"if-range")
OWN = "/wanda/"

Headers = list[tuple[bytes, bytes]]
Send = Callable[[Any], Awaitable[None]]


def headers_for(environ: Mapping[str, str]) -> Headers:
    """Return the headers of all answers. Scripts are not named: Gradio's page makes its own as it runs."""
    around = ("'self'", *(AROUND_A_SPACE if environ.get("SPACE_ID") else ()))
    policy = f"frame-ancestors {' '.join(around)}; object-src 'none'; base-uri 'self'; form-action 'self'"
    given = [
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"same-origin"),  # an address may hold a prompt
    ]
    return given if len(around) > 1 else [*given, (b"x-frame-options", b"SAMEORIGIN")]  # which knows no list


class Policies:
    """ASGI middleware, in front of all others."""

    def __init__(self, app: Any) -> None:
        self.app, self._given = app, headers_for(os.environ)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Send) -> None:
        """Let a request through without its range, and its answer with these headers, unless it has its own."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def told(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                own = list(message.get("headers", ()))
                names = {name.lower() for name, _ in own}
                own += [(name, value) for name, value in self._given if name not in names]
                message = {**message, "headers": own}
            await send(message)

        if not scope["path"].startswith(OWN):
            kept = [(name, value) for name, value in scope["headers"] if name.lower() not in PARTS]
            scope = {**scope, "headers": kept}
        await self.app(scope, receive, told)
