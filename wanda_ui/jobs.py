"""What the tabs' events have in common: how they are queued, and how a long job is shown while it runs."""

import time
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any

import gradio as gr

from wanda_core.errors import WandaError
from wanda_core.progress import Progress, Steps
from wanda_ui import markup
from wanda_ui.language import Say

# Jobs wait for the state's own lock, where they can say so and be cancelled; as many may begin as the queue holds.
MOST_JOBS = 20
ENGINE: dict[str, Any] = {
    "concurrency_id": "engine",
    "concurrency_limit": MOST_JOBS,
    "show_progress": "hidden",
    "api_visibility": "undocumented",
}
LIGHT: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
RESIZE = (
    "() => requestAnimationFrame(() => window.dispatchEvent(new Event('resize')))"  # for a figure drawn while hidden
)
TICK = 0.15  # seconds between updates of the progress bar


Stop = Callable[[], str | None]  # what a job says last if it is to end now, else None
AT_ONCE: dict[str, Any] = {**LIGHT, "queue": False}  # a press must not wait behind what it ends


class Cancel:
    """What a Cancel button does: the visitor's jobs that it belongs to look, step by step, whether it was pressed.

    So a job says itself that it was cancelled. Were it ended from outside, its progress could still arrive after that.
    """

    MOST_VISITORS = 1000  # remembered, the latest; jobs of the others have ended by then

    def __init__(self) -> None:
        self._pressed: dict[str, float] = {}  # by visitor
        self._lock = Lock()

    def press(self, request: gr.Request) -> None:
        """The button's event."""
        visitor = str(request.session_hash)
        with self._lock:
            self._pressed.pop(visitor, None)
            self._pressed[visitor] = time.monotonic()
            while len(self._pressed) > self.MOST_VISITORS:
                del self._pressed[next(iter(self._pressed))]

    def since(self, request: gr.Request, word: Callable[[], str]) -> Stop:
        """For a job that begins now: `word()` once this visitor has pressed."""
        visitor, began = str(request.session_hash), time.monotonic()
        return lambda: word() if self._pressed.get(visitor, 0.0) > began else None


def watched(steps: Steps, keep: list, say: Say, stop: Stop | None = None) -> Iterator[str]:
    """Yield the progress bar as HTML, not more often than a person can see; the result goes into `keep`.

    stop: asked between two steps; what it answers is the last that is yielded.
    Raises nothing for a WandaError: it is yielded as a message and `keep` stays empty.
    """
    last = 0.0
    try:
        while True:
            step: Progress = next(steps)
            word = stop() if stop is not None else None
            if word is not None:
                steps.close()
                yield word
                return
            if time.monotonic() - last >= TICK:
                last = time.monotonic()
                yield markup.progress(step, say)
    except StopIteration as finished:
        keep.append(finished.value)
    except WandaError as error:
        yield markup.problem(str(error))
    finally:
        steps.close()
