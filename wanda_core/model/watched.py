"""An end to what a stranger's configuration has transformers do: some of its models make tables in loops of Python, so
many rounds as the configuration asks for; and to what nobody waits for any more."""

import ctypes
import sys
import threading
import time
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from types import TracebackType

from wanda_core.errors import ModelError, shortened_path
from wanda_core.machine import threads
from wanda_core.progress import GivenUpError, unwanted

SECONDS = 4.0  # of a processor, for what takes a tenth of one
WAITS = 4.0  # seconds of the clock for each of these, on a machine that is busy, or for what waits
LOOK = 0.1  # seconds between looks at whether anybody waits, and at what it has taken
AGAIN = 0.5  # seconds until it is raised once more
SECONDS_OF_ONE = 0.005  # more for each stored tensor, whose place in the model takes a millisecond to make
SECONDS_TO_LEAVE = 1e-4  # between two looks at whether the watcher has ended
BARS = "tqdm.std"  # whose lock would stay taken for good


class Enough(BaseException):
    """Raised in the thread that has taken too long or that nobody waits for; no `except Exception` on its way stops it.

    watch: whose it is; each has a class of its own, for what is raised in another thread is a class.
    """

    watch: "_Watch"


def watched(name: str, stored: int = 0, more: float = 0.0) -> AbstractContextManager[None]:
    """Context manager: raise ModelError in this thread when what is done within it takes too long, and GivenUpError
    when nobody waits for it any more. What counts is a processor's time in this thread, or four times that of the
    clock.

    name: of the model, for the message; stored: how many tensors its files hold; more: seconds, for what else
    takes long. It ends what Python does; a single call into C it waits for.
    """
    most = SECONDS + SECONDS_OF_ONE * stored + more
    return _Watch(
        most,
        f"{shortened_path(name)} has settings that take more than {most:.0f} s to build from; repair its "
        "config.json and its tokenizer's, such as the number of positions, or choose another model",
        WAITS,
    )


def ended_after(most: float, refusal: str) -> AbstractContextManager[None]:
    """Context manager: raise ModelError in this thread when what is done within it takes more than so many seconds of
    the clock. refusal: what it says."""
    return _Watch(most, refusal)


class _Watch(AbstractContextManager[None]):
    """The context manager of `ended_after`, no generator: what is raised at any instruction would strike contextlib's
    own too, and the generator would never go on to its end.

    Nothing here takes a lock that the thread could be raised out of, and all that leaving does can be done again.
    """

    def __init__(self, most: float, refusal: str, waits: float | None = None) -> None:
        """waits: seconds of the clock for each of a processor, None where the clock alone counts."""
        self.refusal, self._waits = refusal, waits
        self._most, self._late, self._given_up, self._ended = most, False, False, False
        self._left: SimpleQueue[None] = SimpleQueue()
        self._enough: type[Enough] = type("Enough", (Enough,), {"watch": self})

    def __enter__(self) -> None:
        self._thread, self._unwanted = threading.get_ident(), unwanted()
        self._until, self._at_last = self._taken() + self._most, time.monotonic() + (self._waits or 1) * self._most
        try:
            threads.start(threading.Thread(target=self._watch, name="wanda-watch", daemon=True))
        except BaseException:  # as Ctrl-C just now: nobody would end it
            self._left.put(None)
            raise

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            try:
                self.leave()
            except self._enough:  # it came meanwhile
                self.leave()
        except self._enough:
            self.leave()
        if self._late and (error is None or isinstance(error, self._enough)):
            raise GivenUpError if self._given_up else ModelError(self.refusal) from None

    def leave(self) -> None:
        """End the watcher, and wait for what it has raised that has not come yet."""
        self._left.put(None)
        while not self._ended:
            time.sleep(SECONDS_TO_LEAVE)
        if not self._late:
            return
        try:
            self._raise()  # the same again in its place; taken back, it would have Python look for it at every step
            while True:
                time.sleep(SECONDS_TO_LEAVE)
        except self._enough:
            pass

    def _watch(self) -> None:
        try:
            while True:
                # Again, for somebody may catch it, or it comes where nothing can be raised.
                wait = AGAIN if self._late else min(LOOK, max(self._rest(), SECONDS_TO_LEAVE))
                try:
                    return self._left.get(timeout=wait)
                except Empty:
                    given_up = self._given_up or (not self._late and self._unwanted())
                    if not (given_up or self._late) and self._rest() > 0:
                        continue
                if not self._is_not_to_be_struck():
                    self._late, self._given_up = True, given_up
                    self._raise()
        finally:
            self._ended = True

    def _rest(self) -> float:
        """Return how many seconds are left, by what the thread has taken or by the clock."""
        return min(self._until - self._taken(), self._at_last - time.monotonic())

    def _taken(self) -> float:
        """Return how many seconds of a processor the thread has taken, or what the clock says where that counts, or
        where nobody can know."""
        if self._waits is not None:
            try:
                return time.clock_gettime(time.pthread_getcpuclockid(self._thread))
            except (AttributeError, OSError):  # of Linux
                pass
        return time.monotonic()

    def _is_not_to_be_struck(self) -> bool:
        """Tell whether the thread is entering or leaving: there nobody would word what is raised, or end the watcher;
        or within a bar of progress, which keeps its lock. It stands still meanwhile, and goes on where it stands."""
        frame = sys._current_frames().get(self._thread)
        while frame is not None:
            if frame.f_code in _EDGES and frame.f_locals.get("self") is self:
                return True
            if frame.f_globals.get("__name__") == BARS:
                return True
            frame = frame.f_back
        return False

    def _raise(self) -> None:
        """Have the thread raise it, in place of what it was about to."""
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), ctypes.py_object(self._enough))


_EDGES = (_Watch.__enter__.__code__, _Watch.__exit__.__code__)
