"""Turns of those who ask: a few questions run at once, and nobody who asks much keeps the others waiting."""

import asyncio
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any, TypeVar

from wanda_ui.gate.refusal import RefusedError

T = TypeVar("T")
MOST_WAITING = 60  # questions of one who asks; a picture that is dragged asks ten a second

_gone: ContextVar[threading.Event | None] = ContextVar("gone", default=None)


def check_wanted() -> None:
    """Raise ConnectionResetError where whoever asked the question that this thread answers has gone."""
    gone = _gone.get()
    if gone is not None and gone.is_set():
        raise ConnectionResetError("who asked has gone")


class Turns:
    """Places for `most` questions at once. Those who wait for one are served in turn, each their oldest question."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._running: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[tuple[int, asyncio.Future[None]]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, who: str, each: int) -> AsyncIterator[None]:
        """Async context manager: a place, once it is the turn of who asks.

        each: how many questions of theirs run at once. Raises RefusedError for one too many that wait.
        """
        waiting = self._waiting.setdefault(who, deque())
        if len(waiting) >= MOST_WAITING:
            raise RefusedError(429, "share", most=MOST_WAITING)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append((each, place))
        self._serve()
        try:
            await place
            yield
        finally:
            if place.done() and not place.cancelled():
                self._free += 1
                self._running[who] -= 1
                self._running += Counter()  # without those of whom nothing runs
            else:
                place.cancel()
            self._serve()

    def _serve(self) -> None:
        """Give the free places out. Whoever gets one waits behind all others with their next question."""
        for who in list(self._waiting):
            waiting = self._waiting[who]
            while waiting and waiting[0][1].cancelled():
                waiting.popleft()
            if waiting and self._free and self._running[who] < waiting[0][0]:
                self._free -= 1
                self._running[who] += 1
                waiting.popleft()[1].set_result(None)
                self._waiting.move_to_end(who)
            if not waiting:
                del self._waiting[who]


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Wait for work until it ends, also where nobody wants it any more: a thread that runs has its place till then."""
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait((running,))
        running.exception()  # looked at, so that asyncio does not complain of it
        raise


async def while_here(receive: Callable[[], Awaitable[Any]], asked: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Answer as long as whoever asked is there. receive: ASGI's; asked: begins to answer, in tasks and threads.

    Raises ConnectionResetError once they have gone; what looks by `check_wanted` ends then, and what waits.
    """
    gone = threading.Event()
    _gone.set(gone)
    answering = asyncio.ensure_future(asked())
    leaving = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ConnectionResetError("who asked has gone")
        return answering.result()
    finally:
        gone.set()
        leaving.cancel()
        if not answering.done():
            answering.cancel()
            with suppress(asyncio.CancelledError):
                await answering


async def _left(receive: Callable[[], Awaitable[Any]]) -> None:
    """Wait until whoever asked has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
