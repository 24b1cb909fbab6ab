"""An end to what a stranger's configuration has transformers do: some of its models make tables in loops of Python, so
many rounds as the configuration asks for."""

import contextlib
import ctypes
import threading
import time
from collections.abc import Iterator

from wanda_core.errors import ModelError, shortened_path

SECONDS = 10.0  # for what takes a tenth of one
SECONDS_OF_ONE = 0.005  # more for each stored tensor, whose place in the model takes a millisecond to make


class _Enough(BaseException):
    """Raised in the thread that has taken too long; no `except Exception` on its way stops it."""


@contextlib.contextmanager
def watched(name: str, stored: int = 0) -> Iterator[None]:
    """Context manager: raise ModelError in this thread when what is done within it takes too long.

    name: of the model, for the message; stored: how many tensors its files hold. It ends what Python does; a single
    call into C it waits for.
    """
    most = SECONDS + SECONDS_OF_ONE * stored
    thread, lock, over, late = ctypes.c_ulong(threading.get_ident()), threading.Lock(), threading.Event(), []

    def watch() -> None:
        if over.wait(most):
            return
        with lock:
            if not over.is_set():
                late.append(True)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(_Enough))

    watcher = threading.Thread(target=watch, name="wanda-watch", daemon=True)
    watcher.start()
    delivered = False
    try:
        try:
            yield
        except _Enough:
            delivered = True
            raise
        finally:
            with lock:
                over.set()
            until = time.monotonic() + 1
            while late and not delivered and time.monotonic() < until:  # it comes now, unless somebody has caught it
                time.sleep(0)
    except _Enough:
        raise ModelError(
            f"{shortened_path(name)} has a config.json that takes more than {most:.0f} s to build; repair it, such as "
            "its number of positions, or choose another model"
        ) from None
    finally:
        over.set()
        watcher.join()
