"""Waiting for a call or a lock that may take long, or never end, without being held by it."""

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from threading import Thread
from typing import Protocol, TypeVar

from wanda_core.machine import threads
from wanda_core.progress import Progress, Steps, still_wanted

T = TypeVar("T")

POLL = 0.2  # seconds between looks at the call


class NoAnswerError(Exception):
    """A call took longer than was to be waited for."""


def call_apart(call: Callable[[], T], tell: Callable[[], object], limit: float | None = None) -> T:
    """Make a call in a thread of its own and wait for its result, `limit` seconds at most.

    tell: called every POLL seconds in the caller's thread; an exception from it ends the wait, and the call is left to
    end by itself, unheard. What keeps this thread from looking, as another that has Python's lock for seconds, keeps
    the call from going on too, and does not count. Raises NoAnswerError at the limit, and whatever the call raises.
    """
    outcome, waited = _begun(call), 0.0
    while True:
        left, before = POLL if limit is None else min(POLL, max(limit - waited, 0)), time.monotonic()
        if wait([outcome], left).done:
            return outcome.result()
        waited += min(time.monotonic() - before, 2 * POLL)
        if limit is not None and waited >= limit:
            raise NoAnswerError(f"no answer within {limit:g} s")
        tell()


def steps_apart(call: Callable[[], T], news: Callable[[], Progress]) -> Steps[T]:
    """Make a call in a thread of its own; yield `news()` every POLL seconds until it has ended, and return its result.

    Closed before that, the call is left to end by itself, unheard. Raises whatever it raises.
    """
    outcome = _begun(call)
    while not wait([outcome], POLL).done:
        yield news()
    return outcome.result()


class Lock(Protocol):
    """`threading.Lock`, or one that its thread may take again."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Hold it, waiting so many seconds at most. -> whether it is held."""

    def release(self) -> None:
        """Let go of it."""


@contextlib.contextmanager
def turn_at(lock: Lock) -> Iterator[None]:
    """Context manager: hold a lock, once nobody else does. Raises GivenUpError where nobody waits for that any more."""
    while not lock.acquire(timeout=POLL):
        still_wanted()
    try:
        yield
    finally:
        lock.release()


def _begun(call: Callable[[], T]) -> "Future[T]":
    """Begin a call in a thread of its own."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # it belongs to whoever waits
            outcome.set_exception(error)

    threads.start(Thread(target=run, name="apart", daemon=True))  # daemon: one that never ends holds up no exit
    return outcome
