"""Keeping transformers from running a model's own Python, from asking whether it may, and from fetching anything.

`trust_remote_code=False` says so already; some of transformers' classes load others within themselves and do not hand
that on. And some take a text of a configuration for the name of another model, whose files nobody has weighed.
"""

import contextlib
import functools
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from transformers import dynamic_module_utils
from transformers.utils import hub as their_hub

from wanda_core.errors import ModelError

try:  # as hub_faults.py has it
    import httpx2 as httpx
except ImportError:
    import httpx  # type: ignore[no-redef]

_lock = threading.Lock()
_within = 0
_theirs: dict[tuple[Any, str], Any] = {}
_here = threading.local()  # `within`: how many of these contexts this thread is in


def _refused(*_: object, **__: object) -> str:
    raise ModelError("the model would run code of its own, which is never done; choose another model")


def _only_elsewhere(theirs: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that does what another does, but for a thread that reads a model's files: others may be
    downloading meanwhile."""

    @functools.wraps(theirs)
    def call(*given: Any, **settings: Any) -> Any:
        if getattr(_here, "within", 0):
            raise ModelError(
                "the model's settings name another model, whose files would be fetched unchecked; take that name out, "
                "such as a backbone's, or choose another model"
            )
        return theirs(*given, **settings)

    return call


# Where a question would be asked, what is done in place of it, and where the module of an answer would be fetched and
# run.
OURS = {
    **{"TIME_OUT_REMOTE_CODE": 0, "_raise_timeout_error": _refused},
    **{"get_cached_module_file": _refused, "get_class_in_module": _refused},
}
# By which everything is asked of the hub, of its cache on this machine, and of any other server.
WAYS_OUT: list[tuple[Any, str]] = [
    *((httpx.Client, "send"), (httpx.AsyncClient, "send"), (socket, "getaddrinfo")),
    *((their_hub, name) for name in ("hf_hub_download", "snapshot_download", "try_to_load_from_cache")),
]


@contextlib.contextmanager
def no_foreign_code() -> Iterator[None]:
    """Context manager: whatever is loaded within it runs no code of a model's, in all threads, until the last one has
    left; and in this thread nothing is fetched, nor read from the hub's cache. Raises ModelError where it would be."""
    global _within
    with _lock:
        if not _within:
            ours = {(dynamic_module_utils, name): value for name, value in OURS.items()}
            _theirs.update({(place, name): getattr(place, name) for place, name in [*ours, *WAYS_OUT]})
            ours |= {way: _only_elsewhere(_theirs[way]) for way in WAYS_OUT}
            for (place, name), value in ours.items():
                setattr(place, name, value)
        _within += 1
    _here.within = getattr(_here, "within", 0) + 1
    try:
        yield
    finally:
        _here.within -= 1
        with _lock:
            _within -= 1
            if not _within:
                for (place, name), value in _theirs.items():
                    setattr(place, name, value)
