"""The gate's answers, in the form in which Gradio's own page shows each of them to a person."""

import gzip
import json
from collections.abc import Awaitable, Callable
from typing import Any

IN_CHUNKS = 411  # status of what is refused since it does not say how long it is
WORTH_ZIPPING, FASTEST = 2_000, 1  # bytes, and the level of gzip

Send = Callable[[Any], Awaitable[None]]


async def answer(send: Send, status: int, sentence: str, plain: bool) -> None:
    """Answer with a sentence.

    plain: as text, which the page shows of an upload; else as JSON, under both names that it looks for. The connection
    stays: what is left of a refused body is dropped by the server as it comes, while closing at once would often take
    the answer from the visitor too. Only a body in chunks is not even dropped, for that takes them apart.
    """
    kind = b"text/plain; charset=utf-8" if plain else b"application/json"
    body = (sentence if plain else json.dumps({"detail": sentence, "error": sentence}, ensure_ascii=False)).encode()
    given = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
    if status == IN_CHUNKS:
        given.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": given})
    await send({"type": "http.response.body", "body": body})


async def lead(send: Send, address: str) -> None:
    """Lead the browser to another address, relative to the one that it asked for."""
    given = [(b"location", address.encode("ascii")), (b"content-length", b"0"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 303, "headers": given})
    await send({"type": "http.response.body", "body": b""})


async def answer_json(send: Send, value: dict[str, Any] | list[str], zipped: bool) -> None:
    """Answer with plain values, compressed where that is taken and worth it."""
    body = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    given = [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), (b"vary", b"accept-encoding")]
    if zipped and len(body) > WORTH_ZIPPING:
        body = gzip.compress(body, FASTEST, mtime=0)
        given.append((b"content-encoding", b"gzip"))
    given.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": given})
    await send({"type": "http.response.body", "body": body})


async def lost_session(send: Send, sentence: str) -> None:
    """Answer one who listens for events of a session that is not known, as Gradio does: the page then begins anew."""
    message = {"msg": "unexpected_error", "message": sentence, "success": False, "session_not_found": True}
    body = f"data: {json.dumps(message, ensure_ascii=False)}\n\n".encode()
    given = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": given})
    await send({"type": "http.response.body", "body": body})


def replacing(send: Send, refuse: Callable[[int], tuple[int, str] | None], plain: bool) -> Send:
    """Make a `send` that puts a sentence in the place of Gradio's refusals.

    refuse(status) -> the status and sentence to send instead, None to let the answer pass.
    """
    dropped = False

    async def changed(message: dict[str, Any]) -> None:
        nonlocal dropped
        if message["type"] == "http.response.start":
            instead = refuse(message["status"])
            if instead is not None:
                dropped = True
                await answer(send, *instead, plain)
        if not dropped:
            await send(message)

    return changed
