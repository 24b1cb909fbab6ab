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
FILES = 10  # and files, for each of these

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
        # path -> (whose, bytes), the oldest first; files with the same content are one
        self._kept: OrderedDict[str, tuple[frozenset[str], int]] = OrderedDict()

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
        """Note a file that was uploaded; of too many files or bytes the oldest go, but none that an event works on.

        most: bytes of one upload; named: returns the paths that events name.
        """
        path = os.path.realpath(path)
        with suppress(OSError):
            size = os.path.getsize(path)
            owners, _ = self._kept.pop(path, (frozenset(), 0))
            self._kept[path] = (owners | {who}, size)
        for whose, times in ((who, EACH), (None, ALL)):
            if self._over(whose, times, most):
                for gone in [name for name in self._kept if not os.path.exists(name)]:  # Gradio removes files as well
                    del self._kept[gone]
                in_use = {path, *named()}
                for name in [name for name, (owners, _) in self._kept.items() if whose is None or whose in owners]:
                    if not self._over(whose, times, most):
                        break
                    if name not in in_use:
                        self._let_go(name, whose)

    def _over(self, whose: str | None, times: int, most: int) -> bool:
        """Whether more is kept of one, or of all, than so many uploads of the largest size."""
        sizes = [size for owners, size in self._kept.values() if whose is None or whose in owners]
        return sum(sizes) > times * most or len(sizes) > times * FILES

    def _let_go(self, path: str, whose: str | None) -> None:
        """Remove a file, and its folder if nothing else is in it, unless it is another's too. whose: None for all."""
        owners, size = self._kept[path]
        if whose is not None and len(owners) > 1:
            self._kept[path] = (owners - {whose}, size)
            return
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
