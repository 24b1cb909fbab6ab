"""Keeping transformers from running a model's own Python, and from asking whether it may.

`trust_remote_code=False` says so already; some of transformers' classes load others within themselves and do not hand
that on.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from transformers import dynamic_module_utils

from wanda_core.errors import ModelError

_lock = threading.Lock()
_within = 0
_theirs: dict[str, Any] = {}


def _refused(*_: object, **__: object) -> str:
    raise ModelError("the model would run code of its own, which is never done; choose another model")


# Where a question would be asked, what is done in place of it, and where the module of an answer would be fetched and
# run.
OURS = {
    **{"TIME_OUT_REMOTE_CODE": 0, "_raise_timeout_error": _refused},
    **{"get_cached_module_file": _refused, "get_class_in_module": _refused},
}


@contextlib.contextmanager
def no_foreign_code() -> Iterator[None]:
    """Context manager: whatever is loaded within it runs no code of a model's; in all threads, until the last one has
    left."""
    global _within
    with _lock:
        if not _within:
            _theirs.update({name: getattr(dynamic_module_utils, name) for name in OURS})
            for name, value in OURS.items():
                setattr(dynamic_module_utils, name, value)
        _within += 1
    try:
        yield
    finally:
        with _lock:
            _within -= 1
            if not _within:
                for name, value in _theirs.items():
                    setattr(dynamic_module_utils, name, value)
