"""Scripts and styles of Gradio, compressed on their way: it sends megabytes as they are, which a phone waits for."""

import gzip
import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from anyio import CapacityLimiter, to_thread

PATHS = re.compile(r"/((assets|static|svelte)/.+|class|config|theme\.css|gradio_api/theme\.css)")
TYPES = re.compile(rb"(text/(css|javascript|html|plain)|application/(javascript|json))|image/svg")
LEAST, MOST = 1_000, 8_000_000  # bytes worth compressing, and bytes that are held at once for it
MOST_KEPT = 16_000_000  # bytes of what was compressed; beyond it the one goes that was asked for longest ago

Headers = list[tuple[bytes, bytes]]


class Compressed:
    """ASGI middleware. What it passes on unchanged: other paths and methods, errors, what is compressed already."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()  # by a digest of the whole, whatever its path is called
        self._one: CapacityLimiter | None = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer with the compressed body where that is worth it."""
        takes = dict(scope.get("headers") or ()).get(b"accept-encoding", b"")
        asked = scope["type"] == "http" and scope["method"] == "GET" and b"gzip" in takes
        if not asked or not PATHS.fullmatch(scope["path"]):
            await self.app(scope, receive, send)
            return
        start: dict[str, Any] = {}
        parts: list[bytes] = []

        async def compressed(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start" and _is_worth_it(message):
                start.update(message)
            elif not start:
                await send(message)
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))
                if not message.get("more_body"):
                    await self._send(start, b"".join(parts), send)

        await self.app(scope, receive, compressed)

    async def _send(self, start: dict[str, Any], body: bytes, send: Any) -> None:
        """Compress a body, one at a time and beside the server's event loop, and send it."""
        if self._one is None:  # it needs a running event loop
            self._one = CapacityLimiter(1)
        small = await to_thread.run_sync(self._small, body, limiter=self._one)
        kept = _without(start["headers"], (b"content-length", b"accept-ranges"))
        more = [(b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")]
        length = [(b"content-length", str(len(small)).encode())]
        await send({**start, "headers": [*kept, *more, *length]})
        await send({"type": "http.response.body", "body": small})

    def _small(self, body: bytes) -> bytes:
        """Compress a body, or take what is kept of the same one."""
        key = hashlib.blake2b(body).digest()
        small = self._kept.pop(key, None)
        if small is None:
            small = gzip.compress(body, 6, mtime=0)
        self._kept[key] = small
        while sum(map(len, self._kept.values())) > MOST_KEPT:
            self._kept.popitem(last=False)
        return small


def _is_worth_it(start: dict[str, Any]) -> bool:
    """Whether a response that begins is text of a size that gains."""
    headers = dict(start["headers"])
    length = int(headers.get(b"content-length", b"0") or b"0")
    text = TYPES.match(headers.get(b"content-type", b"")) is not None
    return start["status"] == 200 and text and b"content-encoding" not in headers and LEAST <= length <= MOST


def _without(headers: Headers, names: Iterable[bytes]) -> Headers:
    return [(name, value) for name, value in headers if name.lower() not in names]
