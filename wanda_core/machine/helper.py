"""A process of its own for what a stranger's files have done: it can be ended, and what kills it kills nothing else."""

import atexit
import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wanda_core.machine import threads
from wanda_core.machine.waiting import call_apart

START_SECONDS = 90.0  # of the process, whose imports take seconds of a processor, on a machine that is busy
ROOT = str(Path(__file__).resolve().parents[2])  # where this very package lies
# With the paths of this process, wherever its packages lie.
START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); import {module} as worker; worker.main()"
# Of this process's environment it gets what Python needs to start and to tell the time: no token, no proxy's address,
# and no other paths than these.
NEEDED = re.compile(
    r"PATH|PATHEXT|SYSTEMROOT|SYSTEMDRIVE|WINDIR|COMSPEC|TE?MP|TMPDIR|TZ|LANG|LC_\w+|(LD|DYLD)_\w+|PYTHON(?!PATH$)\w+",
    re.IGNORECASE,
)


def paths() -> list[str]:
    """Return where this process's modules are looked for, but the current folder, which may be a stranger's model: no
    more than it would be by this process, whose own were imported before it came there.
    """
    absolute = [os.path.abspath(path) for path in sys.path if os.path.normpath(path or ".") != "."]
    return absolute if ROOT in map(os.path.realpath, absolute) else [ROOT, *absolute]


class HelperError(Exception):
    """A request that was not answered."""


class LateError(HelperError):
    """No answer in time."""


class EndedError(HelperError):
    """The process ended over it."""


class NotStartedError(HelperError):
    """The process does not start here."""


class Helper:
    """A process that answers requests, one after the other, a line of JSON each; one over which it does not answer ends
    it, and the next starts it anew.

    module: its program, whose `main` answers an empty line with a line and every other with JSON, until there are none.
    settings: of its environment, beside what Python needs
    """

    def __init__(self, module: str, settings: dict[str, str] | None = None) -> None:
        self._module, self._settings = module, settings or {}
        self.forget()
        atexit.register(self._leave)
        if hasattr(os, "register_at_fork"):  # a copy of this process may not write into the same pipe
            os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """Know of no process."""
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def ask(self, request: dict[str, Any], seconds: float, tell: Callable[[], object]) -> dict[str, Any]:
        """Return the answer to a request. Raises HelperError where there is none within so many seconds.

        tell: called now and then meanwhile; an exception from it ends the wait, and the process where it is at work on
        this, so that nobody waits for what nobody wants.
        """
        line, left, at_work = json.dumps(request, default=str), threading.Event(), threading.Event()
        try:
            return call_apart(lambda: self._answer(line, seconds, left, at_work), tell)
        except BaseException:
            left.set()
            with self._turn:  # else another's might have begun meanwhile
                if at_work.is_set() and (process := self._process) is not None:
                    process.kill()
                    process.wait()  # whose answer had come just now: the next one finds that it has ended
            raise

    def _answer(self, line: str, seconds: float, left: threading.Event, at_work: threading.Event) -> dict[str, Any]:
        """Return the answer to a line, once others have theirs. left: set where nobody waits for it any more."""
        with self._lock:
            at_work.set()
            try:
                if not left.is_set() and (self._process is None or self._process.poll() is not None):
                    self._start()
                if left.is_set():
                    raise EndedError
                said, late = self._asked(line, seconds)
                if not said.endswith("\n"):
                    self._end()
            finally:
                with self._turn:  # before a long answer is read, which whoever leaves meanwhile does not end
                    at_work.clear()
        if not said.endswith("\n"):
            raise LateError if late else EndedError
        answer: dict[str, Any] = json.loads(said)
        return answer

    def start(self) -> None:
        """Start the process, so that nobody waits for it. What is asked of it starts it otherwise."""
        with self._lock, contextlib.suppress(NotStartedError):  # as whoever asks is told
            if self._process is None or self._process.poll() is not None:
                self._start()

    def _start(self) -> None:
        self._end()
        # -P: Python would look for what it begins with, as for json, in the current folder first.
        command = [sys.executable, "-P", "-c", START.format(module=self._module), json.dumps(paths())]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        needed = {name: value for name, value in os.environ.items() if NEEDED.fullmatch(name)}
        try:
            self._process = subprocess.Popen(command, text=True, encoding="utf-8", env=needed | self._settings, **pipes)
        except OSError:  # too many processes or open files, or too little memory
            raise NotStartedError from None
        line, _ = self._asked("", START_SECONDS)
        if not line.endswith("\n"):
            self._end()
            raise NotStartedError

    def _asked(self, request: str, seconds: float) -> tuple[str, bool]:
        """Return the line that answers a request, whole only where it ends as a line does, and whether it was late."""
        process, late = self._process, threading.Event()
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, end)
        timer.name, timer.daemon = "helper", True
        threads.start(timer)
        try:
            process.stdin.write(request + "\n")
            process.stdin.flush()
            return process.stdout.readline(), late.is_set()
        except OSError:  # it has gone
            return "", late.is_set()
        except BaseException:  # as where memory ran out: whoever is next would be given this answer
            self._end()
            raise
        finally:
            timer.cancel()
            timer.join()
            if late.is_set():
                process.wait()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def close(self) -> None:
        """End the process, once it has done what it is at work on."""
        with self._lock:
            self._end()

    def _leave(self) -> None:
        """End the process with this one, whatever it is at work on."""
        if (process := self._process) is not None:
            process.kill()
        self.close()
