"""What a process does that answers requests, of a `Helper`: it ends with whoever asks, also while it is at work."""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

STACK = 512 * 1024  # bytes, which is plenty for reading lines: some of these processes have little memory


def asked_lines() -> Iterator[str]:
    """Return what is asked, a line each. The end of the input, as it comes with the end of whoever asks, ends this
    process at once: another thread listens, so that this one may work, or wait for a copy that it has made of the
    process, which on Linux ends with the thread that made it.
    """
    lines: SimpleQueue[str] = SimpleQueue()
    before = threading.stack_size(STACK)
    threading.Thread(target=_listen, args=(lines,), name="listening", daemon=True).start()
    threading.stack_size(before)
    while True:
        yield lines.get()


def answer_lines(answer: Callable[..., dict[str, Any]], afterwards: Callable[[], object] | None = None) -> None:
    """Answer what is asked, by a line of JSON each, until the input ends; an empty line by `{}`.

    answer: takes what a line holds by name; afterwards: called after each answer, once nothing is kept of it
    """
    lines = asked_lines()
    while True:
        say(_answered(next(lines), answer))
        if afterwards is not None:
            afterwards()


def say(line: str) -> None:
    """Give an answer."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _answered(line: str, answer: Callable[..., dict[str, Any]]) -> str:
    return json.dumps(answer(**json.loads(line))) if line.strip() else "{}"


def _listen(lines: "SimpleQueue[str]") -> None:
    try:
        for line in sys.stdin:
            lines.put(line)
            del line
    finally:  # also where a line is longer than there is memory for
        os._exit(0)
