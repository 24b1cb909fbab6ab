"""Putting messages into a model's chat template, a stranger's program, in a process that can be ended.

jinja2's sandbox keeps a template from the machine, yet not from looping for ever or from filling the memory.
"""

import atexit
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from wanda_core.errors import ModelError, first_line, shortened_path

MOST_SECONDS = 3.0  # of a template at work; a tenth of a second is much
START_SECONDS = 30.0  # of the process, on a machine that is busy
# With the paths of this process, wherever its packages lie.
START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); import wanda_core.model.template_worker as w; w.main()"
)
# Of this process's environment it gets what Python needs to start and to tell the time: no token, no proxy's address.
NEEDED = re.compile(
    r"PATH|PATHEXT|SYSTEMROOT|SYSTEMDRIVE|WINDIR|COMSPEC|TE?MP|TMPDIR|TZ|LANG|LC_\w+|(LD|DYLD)_\w+|PYTHON\w+",
    re.IGNORECASE,
)
# Letters that a template makes, beside some for each letter of the messages; 10,000 are met, of instructions.
MORE_LETTERS, TIMES_LETTERS = 100_000, 20
TRIED = [{"role": "user", "content": "Why is the sky blue?"}]


class TemplateError(Exception):
    """A template that fails with these messages."""


class EndlessTemplateError(TemplateError):
    """A template that takes too long or too much, or reaches for what the sandbox does not give."""


class _Worker:
    """A process that renders templates one after the other; one that does not end ends it, and it is started anew."""

    def __init__(self) -> None:
        self.forget()
        atexit.register(self.close)
        if hasattr(os, "register_at_fork"):  # a copy of this process may not write into the same pipe
            os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """Know of no process."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def render(self, request: str) -> dict[str, str]:
        """Return the answer of the process. Raises EndlessTemplateError where there is none in time."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            line, late = self._asked(request, MOST_SECONDS)
            if line.endswith("\n"):
                answer: dict[str, str] = json.loads(line)
                return answer
            self._end()
        if late:
            raise EndlessTemplateError(f"it does not end within {MOST_SECONDS:g} s")
        raise EndlessTemplateError("it takes more memory than a template may")

    def _start(self) -> None:
        self._end()
        command = [sys.executable, "-c", START, json.dumps(sys.path)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        needed = {name: value for name, value in os.environ.items() if NEEDED.fullmatch(name)}
        self._process = subprocess.Popen(command, text=True, encoding="utf-8", env=needed, **pipes)
        line, _ = self._asked("", START_SECONDS)
        if not line.endswith("\n"):
            self._end()
            raise TemplateError("the process that renders chat templates does not start here")

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
        timer.daemon = True
        timer.start()
        try:
            process.stdin.write(request + "\n")
            process.stdin.flush()
            return process.stdout.readline(), late.is_set()
        except OSError:  # it has gone
            return "", late.is_set()
        finally:
            timer.cancel()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()


_worker = _Worker()


def end_worker() -> None:
    """End the process that renders templates, one for all models, so that nothing of theirs stays in it; the next
    template starts it anew."""
    _worker.close()


def in_template(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, Any]], *, answer_follows: bool = False
) -> str:
    """Put messages into a tokenizer's chat template, as `apply_chat_template` does, within bounds of time and memory.

    answer_follows: whether the beginning of an answer is added. Raises TemplateError for a template that fails.
    """
    if type(tokenizer).apply_chat_template is not PreTrainedTokenizerBase.apply_chat_template:  # one without templates
        options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": answer_follows}
        try:
            return str(tokenizer.apply_chat_template(list(messages), **options))
        except Exception as error:
            raise TemplateError(first_line(error)) from error
    names = {key: str(value) for key, value in tokenizer.special_tokens_map.items()}
    request = {
        "template": tokenizer.get_chat_template(),
        "messages": list(messages),
        "names": {**names, "add_generation_prompt": answer_follows},
    }
    answered = _worker.render(json.dumps(request, default=str))
    if "text" in answered:
        text, most = answered["text"], MORE_LETTERS + TIMES_LETTERS * len(json.dumps(request["messages"], default=str))
        if len(text) > most:
            raise EndlessTemplateError(f"it makes {len(text):,} letters, and at most {most:,} are read")
        return text
    raise (TemplateError if answered["kind"] == "template" else EndlessTemplateError)(answered["error"])


def check_template(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raise ModelError for a chat template that does not end, fills the memory or reaches out of its sandbox.

    One that fails in another way may take other messages; it is told where it is used. name: of the model.
    """
    if not tokenizer.chat_template:
        return
    try:
        in_template(tokenizer, TRIED, answer_follows=True)
    except EndlessTemplateError as error:
        raise ModelError(
            f"{shortened_path(name)} has a chat template that is not run ({first_line(error)}); take the template away "
            "or choose another model"
        ) from error
    except (TemplateError, ValueError):  # ValueError: several templates, none of them the default
        return
