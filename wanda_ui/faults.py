"""Faults that nobody foresaw: what the server's log says of them, which is never what a visitor sent."""

import logging
import traceback
from pathlib import Path

from wanda_core.errors import out_of_memory
from wanda_ui.language import Say

log = logging.getLogger("wanda_ui")
ENDS = ("guarded.py", "jobs.py")  # files in which such an exception ends, not where it begins


def note(what: str, error: BaseException) -> None:
    """Write into the log what failed and the lines of code that led there; not the exception's message."""
    frames = "".join(traceback.format_tb(error.__traceback__)).rstrip()
    log.error("%s failed: %s\n%s", what, where(error), frames)


def unexpected(error: BaseException, say: Say) -> str:
    """Word a fault that nobody foresaw to whoever asked, or that memory ran out."""
    if out_of_memory(error):
        return say("gate.memory")
    return say("gate.unexpected", kind=type(error).__name__)


def where(error: BaseException) -> str:
    """Write the kind of an exception and where it was raised. Not its message, which may hold what a visitor sent."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/wanda_" in Path(frame.filename).as_posix()]
    inner = [frame for frame in own if Path(frame.filename).name not in ENDS] or frames
    if not inner:
        return type(error).__name__
    frame = inner[-1]
    return f"{type(error).__name__} in {frame.name} ({Path(frame.filename).name}:{frame.lineno})"
