"""The program that reads a tokenizer's file before the app does, in a process of its own: what a stranger's file does
to the package that reads it, beyond any exception, is done here.

It is started by `tokenizer_reading.py`, imports tokenizers alone, reads a request a line and answers each by one line
of JSON: `{"ended": …, "bytes": …}`. Each file is read by a copy of the process, which has bounds of its own.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

STATM = Path("/proc/self/statm")  # of Linux: the pages of this process's addresses
DEATH_SIGNAL = 1  # of Linux's prctl: what a process is sent when the one that made it ends
MORE_SPACE = 30 * 2**20  # bytes of addresses, beside those that are used; 15 million are met


def read(file: str) -> None:
    """Read a file. What tokenizers has to say about it is said where the app reads it."""
    with contextlib.suppress(BaseException):
        Tokenizer.from_file(file)


def answer(file: str, seconds: int, memory: int) -> dict[str, Any]:
    """Have a file read. seconds: of a processor, at most; memory: bytes beside what is taken already.

    -> ended: "" where it was read, "time" or "memory" where that was not enough, and bytes: that it took, None where
    nobody can tell
    """
    if not hasattr(os, "fork"):  # Windows, where whoever asked ends this process if it takes too long
        read(file)
        return {"ended": "", "bytes": None}
    copy = os.fork()
    if not copy:
        try:
            os.closerange(0, 2)  # whoever asked hears that this process has ended, whether or not its copy has
            _bound(seconds, memory)
            read(file)
        finally:
            os._exit(0)
    _, status, usage = os.wait4(copy, 0)
    ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    late = ended in (signal.SIGXCPU, signal.SIGALRM)
    return {"ended": "time" if late else "memory" if ended else "", "bytes": _bytes(usage.ru_maxrss)}


def _bound(seconds: int, memory: int) -> None:
    """Bound what this process may take."""
    import resource

    signal.alarm(4 * seconds)  # of the clock, for what waits for ever
    with contextlib.suppress(AttributeError, OSError):  # no Linux
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
    limits = {resource.RLIMIT_CORE: (0, 0), resource.RLIMIT_CPU: (seconds, seconds + 1)}  # at the first it hears why
    if STATM.exists():
        taken = int(STATM.read_text().split()[0]) * resource.getpagesize()
        limits[resource.RLIMIT_AS] = (taken + memory + MORE_SPACE,) * 2
    for kind, bounds in limits.items():
        with contextlib.suppress(OSError, ValueError):  # a lower limit is set already
            resource.setrlimit(kind, bounds)


def _bytes(most: int) -> int:
    return most * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Answer requests until the input ends."""
    for line in sys.stdin:
        said = json.dumps(answer(**json.loads(line))) if line.strip() else "{}"
        sys.stdout.write(said + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
