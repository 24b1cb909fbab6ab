"""Sending a download of any size: as it is asked for, from any byte on, and given up as soon as nobody listens.

The bytes are made in a thread, a little at a time and only when the last have gone; so the server's event loop never
waits for them, and a slow line costs no memory.
"""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Protocol

import anyio
from anyio import CapacityLimiter, to_thread

from wanda_ui.faults import note

CHUNK_BYTES = 2**20  # that are sent at once, at least
STALLED_SECONDS = 120  # without a byte taken, after which the connection is given up; the browser may go on later
FROM = re.compile(rb"bytes=([0-9]{1,18})-([0-9]{0,18})")

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Download(Protocol):
    """What is sent."""

    @property
    def file(self) -> str:
        """A name of ASCII letters, digits, `.`, `_` and `-`."""

    @property
    def nbytes(self) -> int:
        """Bytes of the whole."""

    @property
    def tag(self) -> str:
        """What tells its bytes from all others', in quotation marks: HTTP's ETag."""

    def reading(self, start: int) -> AbstractContextManager[Iterator[memoryview | bytes]]:
        """Open its bytes from a place on. Raises WandaError where they may not be read now."""


def first_byte(headers: Mapping[bytes, bytes], download: Download) -> int | None:
    """Return the byte that a request wants a download from, 0 for the whole; None where it lies behind the end.

    One range that goes to the end is served; anything else is answered by the whole, as HTTP allows.
    """
    asked = FROM.fullmatch(headers.get(b"range", b"").strip())
    tag = headers.get(b"if-range", b"").strip()
    if asked is None or (tag and tag != download.tag.encode()):
        return 0
    start, last = int(asked[1]), asked[2]
    if last and start <= int(last) < download.nbytes - 1:
        return 0
    if last and int(last) < start:
        return 0
    return start if start < download.nbytes else None


async def answer_download(
    receive: Receive,
    send: Send,
    headers: Mapping[bytes, bytes],
    download: Download,
    whole: bool,
    limiter: CapacityLimiter,
) -> None:
    """Answer a request for a download.

    whole: False where only the headers are asked for; limiter: of the threads that make bytes. Raises WandaError,
    before anything is sent, where it may not be read now. What fails later ends the connection before the announced
    length, so that nobody takes the part for the whole.
    """
    start = first_byte(headers, download)
    with ExitStack() as stack:
        pieces = stack.enter_context(download.reading(start)) if whole and start is not None else None
        length, span = download.nbytes - (start or 0), f"bytes {start}-{download.nbytes - 1}/{download.nbytes}"
        status = 206 if start else 200
        if start is None:
            status, length, span = 416, 0, f"bytes */{download.nbytes}"
        given = [
            (b"content-length", str(length).encode()),
            *([(b"content-range", span.encode())] if status != 200 else []),
            (b"content-type", b"application/zip"),
            (b"content-disposition", f'attachment; filename="{download.file}"'.encode()),
            (b"accept-ranges", b"bytes"),
            (b"etag", download.tag.encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": given})
        if pieces is None:
            await send({"type": "http.response.body", "body": b""})
        else:
            await _send_all(receive, send, pieces, limiter)


async def _send_all(
    receive: Receive, send: Send, pieces: Iterator[memoryview | bytes], limiter: CapacityLimiter
) -> None:
    """Send all pieces, until the end or until the visitor has gone."""
    async with anyio.create_task_group() as tasks:

        async def listen() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            tasks.cancel_scope.cancel()

        tasks.start_soon(listen)
        try:
            while chunk := await to_thread.run_sync(_chunk, pieces, limiter=limiter):
                with anyio.fail_after(STALLED_SECONDS):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except TimeoutError:  # ending without the last bytes closes the connection
            pass
        except Exception as error:  # too late for words: the connection closes before the announced length
            note("a download", error)
        tasks.cancel_scope.cancel()


def _chunk(pieces: Iterator[memoryview | bytes]) -> bytes:
    """Gather the next bytes, none at the end."""
    gathered: list[memoryview | bytes] = []
    length = 0
    for piece in pieces:
        gathered.append(piece)
        length += len(piece)
        if length >= CHUNK_BYTES:
            break
    return b"".join(gathered)
