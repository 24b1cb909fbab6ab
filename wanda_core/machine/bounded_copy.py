"""Doing something in a copy of this process that has bounds of its own, of time and of memory."""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

STATM = Path("/proc/self/statm")  # of Linux: the pages of this process, of addresses, in memory, and those of files
DEATH_SIGNAL = 1  # of Linux's prctl: what a process is sent when the one that made it ends
MORE_SPACE = 20 * 2**20  # bytes of addresses, beside those that are used; 15 million are met
MOST_SAID = 1000  # bytes of a fault's words, which a pipe holds
NO_MEMORY = 3  # with which a copy ends where Python says that there is none left


def in_copy(call: Callable[[], object], seconds: int, memory: int) -> dict[str, Any]:
    """Make a call in a copy. seconds: of a processor, at most; memory: bytes beside what is taken already.

    -> ended: "" where it came to its end, "time" or "memory" where that was not enough; bytes: that it took, None where
    nobody can tell; said: the words of what it raised, "" of nothing
    """
    if not hasattr(os, "fork"):  # Windows, where whoever asked ends this process if it takes too long
        said, ended = _said(call)
        return {"ended": "memory" if ended else "", "bytes": None, "said": said}
    ours, its = os.pipe()
    maker = os.getpid()
    copy = os.fork()
    if not copy:
        status = 0
        try:
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1):  # whoever asked hears that this process has ended, whether or not its copy has
                os.dup2(nothing, stream)
            _bound(seconds, memory, maker)
            held, files = _held()
            os.write(its, b"%d\n" % held)
            said, status = _said(call)
            os.write(its, b"%d\n" % (_held()[1] - files) + said.encode(errors="replace")[:MOST_SAID])
        finally:
            os._exit(status)
    os.close(its)
    with open(ours, "rb") as told:
        begun, mapped, words = (*told.read().decode(errors="replace").split("\n", 2), "", "")[:3]
    _, status, usage = os.wait4(copy, 0)
    late = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGALRM)
    taken = _bytes(usage) - int(begun or 0) - int(mapped or 0)
    return {"ended": "time" if late else "memory" if status else "", "bytes": taken, "said": words}


def _said(call: Callable[[], object]) -> tuple[str, int]:
    """Make the call. -> the words of what it raises, and what this process then ends with"""
    try:
        call()
    except MemoryError:
        return "", NO_MEMORY
    except BaseException as error:  # the packages that read files raise types of their own
        return str(error) or type(error).__name__, 0
    return "", 0


def _bound(seconds: int, memory: int, maker: int) -> None:
    """Bound what this process may take. maker: the process that it is a copy of, with which it ends."""
    import resource

    signal.alarm(4 * seconds)  # of the clock, for what waits for ever
    with contextlib.suppress(AttributeError, OSError):  # no Linux
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != maker:  # it has ended before that was said
        os._exit(0)
    limits = {resource.RLIMIT_CORE: (0, 0), resource.RLIMIT_CPU: (seconds, seconds + 1)}  # at the first it hears why
    if STATM.exists():
        taken = int(STATM.read_text().split()[0]) * resource.getpagesize()
        limits[resource.RLIMIT_AS] = (taken + memory + MORE_SPACE,) * 2
    for kind, bounds in limits.items():
        with contextlib.suppress(OSError, ValueError):  # a lower limit is set already
            resource.setrlimit(kind, bounds)


def _held() -> tuple[int, int]:
    """Return how many bytes of memory this process, a copy, holds by now, and how many of these are pages of files,
    which it shares with others."""
    import resource

    if STATM.exists():
        _, resident, shared, *_ = STATM.read_text().split()
        return int(resident) * resource.getpagesize(), int(shared) * resource.getpagesize()
    return _bytes(resource.getrusage(resource.RUSAGE_SELF)), 0


def _bytes(usage: Any) -> int:
    return int(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
