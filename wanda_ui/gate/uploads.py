"""Uploads: how many come at once, who reads how far one is, and how much of them is kept."""

import asyncio
import logging
import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradio.routes import file_upload_statuses
from starlette.formparsers import MultiPartException

from wanda_ui.faults import where
from wanda_ui.gate import answers, body, rules
from wanda_ui.gate.refusal import RefusedError, quoted
from wanda_ui.gate.request import Request

FORM_BYTES = 16 * 1024  # of an upload that are no file: boundaries, names
MOST_AT_ONCE = 4  # uploads of one address
MOST_READERS = 2  # who see how far one upload is; for each the server looks twenty times a second
COMING = 0.5  # seconds, within which an upload may begin whose progress was asked for first
EACH, ALL = 20, 200  # uploads of the largest size, as many bytes of one address and of all are kept

log = logging.getLogger("wanda_ui")


@dataclass
class _Upload:
    """An upload that goes on, or whose progress somebody reads. visitors: whose it is."""

    visitors: frozenset[str]
    coming: int = 0
    readers: int = 0


class Uploads:
    """The uploads of a server."""

    def __init__(self) -> None:
        self._under_way: dict[str, _Upload] = {}
        self._at_once: Counter[str] = Counter()
        self._kept: OrderedDict[str, tuple[str, int]] = OrderedDict()  # path -> (whose, bytes), the oldest first

    @contextmanager
    def coming(self, who: str, name: str | None, visitors: frozenset[str]) -> Iterator[None]:
        """Context manager: an upload comes in.

        who: by what shares are counted, empty where they are not; name: by which its progress may be asked for.
        Raises RefusedError for one too many at once, and for a name that is another visitor's.
        """
        if who and self._at_once[who] >= MOST_AT_ONCE:
            raise RefusedError(429, "share", most=MOST_AT_ONCE)
        upload = self._under_way.setdefault(name, _Upload(visitors)) if name is not None else _Upload(visitors)
        if upload.visitors.isdisjoint(visitors):
            raise RefusedError(403, "stranger")
        self._at_once[who] += 1
        upload.coming += 1
        try:
            yield
        finally:
            upload.coming -= 1
            self._at_once[who] -= 1
            self._at_once += Counter()  # without those of whom nothing comes
            self._forget(name)

    async def reader(self, name: str, visitors: frozenset[str]) -> Callable[[], None]:
        """Let somebody read how far an upload is. -> what has to be called in the end

        Raises RefusedError where there is no such upload of theirs, and for one reader too many.
        """
        if name not in self._under_way:
            await asyncio.sleep(COMING)
        upload = self._under_way.get(name)
        if upload is None or upload.visitors.isdisjoint(visitors):
            raise RefusedError(404, "path", path=quoted(name))
        if upload.readers >= MOST_READERS:
            raise RefusedError(429, "share", most=MOST_READERS)
        upload.readers += 1

        def ended() -> None:
            upload.readers -= 1
            self._forget(name)

        return ended

    def keep(self, path: str, who: str, most: int, named: Callable[[], set[str]]) -> None:
        """Note a file that was uploaded; of too many bytes the oldest files go, but none that an event works on.

        most: bytes of one upload; named: returns the paths that events name.
        """
        path = os.path.realpath(path)
        with suppress(OSError):
            self._kept[path] = (who, os.path.getsize(path))
            self._kept.move_to_end(path)
        in_use: set[str] | None = None
        for whose, bound in ((who, EACH * most), (None, ALL * most)):
            files = [(name, size) for name, (owner, size) in self._kept.items() if whose in (None, owner)]
            over = sum(size for _, size in files) - bound
            for name, size in files:
                if over <= 0:
                    break
                in_use = named() if in_use is None else in_use
                if name != path and name not in in_use:
                    over -= size
                    self._remove(name)

    def _remove(self, path: str) -> None:
        """Remove a file, and its folder if nothing else is in it."""
        del self._kept[path]
        with suppress(OSError):
            os.remove(path)
            Path(path).parent.rmdir()

    def _forget(self, name: str | None) -> None:
        """Let an upload go, also what Gradio holds of it, once it has ended and nobody reads about it."""
        upload = self._under_way.get(name) if name is not None else None
        if name is not None and upload is not None and not upload.coming and not upload.readers:
            del self._under_way[name]
            file_upload_statuses.stop_tracking(name)
            file_upload_statuses._signals.pop(name, None)


async def received(request: Request, app: Any, note: Callable[[str], object]) -> None:
    """Have Gradio read an upload, no further than it may go and as long as it goes on.

    app: Gradio's; note: called with the path of each file that came.
    """
    most = request.page.settings.upload_bytes
    size, stalled = 0, False

    async def counted() -> Any:
        nonlocal size, stalled
        try:
            async with asyncio.timeout(body.MOST_SECONDS):
                message = await request.receive()
        except TimeoutError:
            stalled = True
            raise MultiPartException("it does not go on") from None  # as below
        if message["type"] == "http.disconnect":
            raise MultiPartException("it broke off")  # as below
        size += len(message.get("body", b""))
        if size > most + FORM_BYTES:
            raise MultiPartException("more than the maximum allowed size")  # Gradio removes what it has and answers
        return message

    large, wrong = request.say("gate.upload", most=rules.megabytes(most)), request.say("gate.form")
    slow = request.say("gate.slow", seconds=body.MOST_SECONDS)

    def refuse(status: int) -> tuple[int, str] | None:
        if status < 400:
            return None
        return (408, slow) if stalled else (413, large) if size > most else (400, wrong)

    try:
        send = answers.replacing(request.send, refuse, request.plain)
        await app(request.scope, counted, answers.heard(send, note))
    except Exception as error:  # a form that Gradio cannot read
        log.error("an upload failed: %s", where(error))
        raise RefusedError(400, "form") from None
