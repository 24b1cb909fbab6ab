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
from wanda_core.progress import GivenUpError, unwanted

SECONDS = 4.0  # for what takes a tenth of one
LOOK = 0.1  # seconds between looks at whether anybody waits
AGAIN = 0.5  # seconds until it is raised once more
SECONDS_OF_ONE = 0.005  # more for each stored tensor, whose place in the model takes a millisecond to make
SECONDS_TO_LEAVE = 1e-4  # between two looks at whether the watcher has ended


class Enough(BaseException):
    """Raised in the thread that has taken too long or that nobody waits for; no `except Exception` on its way stops it.

    watch: whose it is; each has a class of its own, for what is raised in another thread is a class.
    """

    watch: "_Watch"


def watched(name: str, stored: int = 0, more: float = 0.0) -> AbstractContextManager[None]:
    """Context manager: raise ModelError in this thread when what is done within it takes too long, and GivenUpError
    when nobody waits for it any more.

    name: of the model, for the message; stored: how many tensors its files hold; more: seconds, for what else
    takes long. It ends what Python does; a single call into C it waits for.
    """
    most = SECONDS + SECONDS_OF_ONE * stored + more
    return ended_after(
        most,
        f"{shortened_path(name)} has settings that take more than {most:.0f} s to build from; repair its "
        "config.json and its tokenizer's, such as the number of positions, or choose another model",
    )


def ended_after(most: float, refusal: str) -> AbstractContextManager[None]:
    """Context manager: raise ModelError in this thread when what is done within it takes more than so many seconds, as
    `watched`. refusal: what it says."""
    return _Watch(most, refusal)


class _Watch(AbstractContextManager[None]):
    """The context manager of `ended_after`, no generator: what is raised at any instruction would strike contextlib's
    own too, and the generator would never go on to its end.

    Nothing here takes a lock that the thread could be raised out of, and all that leaving does can be done again.
    """

    def __init__(self, most: float, refusal: str) -> None:
        self.refusal = refusal
        self._most, self._late, self._given_up, self._ended = most, False, False, False
        self._left: SimpleQueue[None] = SimpleQueue()
        self._enough: type[Enough] = type("Enough", (Enough,), {"watch": self})

    def __enter__(self) -> None:
        self._thread, self._unwanted = threading.get_ident(), unwanted()
        threading.Thread(target=self._watch, name="wanda-watch", daemon=True).start()

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
        until = time.monotonic() + self._most
        try:
            while True:
                left = until - time.monotonic()
                # Again, for somebody may catch it, or it comes where nothing can be raised.
                wait = AGAIN if self._late or left <= 0 else min(LOOK, left)
                try:
                    return self._left.get(timeout=wait)
                except Empty:
                    given_up = self._given_up or (not self._late and self._unwanted())
                    if not (given_up or self._late) and time.monotonic() < until:
                        continue
                if not self._is_at_its_edge():
                    self._late, self._given_up = True, given_up
                    self._raise()
        finally:
            self._ended = True

    def _is_at_its_edge(self) -> bool:
        """Tell whether the thread is entering or leaving: there nobody would word what is raised, or end the watcher.
        It stands still meanwhile, and goes on where it stands."""
        frame = sys._current_frames().get(self._thread)
        while frame is not None:
            if frame.f_code in _EDGES and frame.f_locals.get("self") is self:
                return True
            frame = frame.f_back
        return False

    def _raise(self) -> None:
        """Have the thread raise it, in place of what it was about to."""
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), ctypes.py_object(self._enough))


_EDGES = (_Watch.__enter__.__code__, _Watch.__exit__.__code__)
