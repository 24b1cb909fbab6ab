"""An end to what a stranger's configuration has transformers do: some of its models make tables in loops of Python, so
many rounds as the configuration asks for."""

import contextlib
import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager

from wanda_core.errors import ModelError, shortened_path

SECONDS = 4.0  # for what takes a tenth of one
AGAIN = 0.5  # seconds until it is raised once more
SECONDS_OF_ONE = 0.005  # more for each stored tensor, whose place in the model takes a millisecond to make


class _Enough(BaseException):
    """Raised in the thread that has taken too long; no `except Exception` on its way stops it."""


def watched(name: str, stored: int = 0, more: float = 0.0) -> AbstractContextManager[None]:
    """Context manager: raise ModelError in this thread when what is done within it takes too long.

    name: of the model, for the message; stored: how many tensors its files hold; more: seconds, for what else
    takes long. It ends what Python does; a single call into C it waits for.
    """
    most = SECONDS + SECONDS_OF_ONE * stored + more
    return ended_after(
        most,
        f"{shortened_path(name)} has settings that take more than {most:.0f} s to build from; repair its "
        "config.json and its tokenizer's, such as the number of positions, or choose another model",
    )


@contextlib.contextmanager
def ended_after(most: float, refusal: str) -> Iterator[None]:
    """Context manager: raise ModelError in this thread when what is done within it takes more than so many seconds, as
    `watched`. refusal: what it says."""
    thread, lock, over, late = ctypes.c_ulong(threading.get_ident()), threading.Lock(), threading.Event(), []

    def watch() -> None:
        wait = most
        while not over.wait(wait):
            with lock:
                if over.is_set():
                    return
                late.append(True)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(_Enough))
            wait = AGAIN  # somebody may catch it, or it comes where nothing can be raised

    watcher = threading.Thread(target=watch, name="wanda-watch", daemon=True)
    watcher.start()
    try:
        try:
            yield
        except _Enough:
            pass
        finally:
            with lock:
                over.set()
            watcher.join()
            if late:
                time.sleep(0.01)  # what has not come yet comes here
    except _Enough:  # it came while that was done
        over.set()
    if late:
        raise ModelError(refusal)
