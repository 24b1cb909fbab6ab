"""Long jobs of the page: how their events are queued, their progress bar, and Cancel."""

import time
from collections.abc import Callable, Generator
from threading import Lock
from typing import Any, TypeVar

import gradio as gr
from gradio.blocks import Block

from wanda_core.errors import WandaError, is_fault
from wanda_core.progress import Progress, Steps
from wanda_ui import markup
from wanda_ui.engine.queue import arrived
from wanda_ui.faults import note, unexpected
from wanda_ui.language import Say
from wanda_ui.problems import problem_words

T = TypeVar("T")
Update = dict[Block, Any]  # new values for some of an event's outputs, by component; the others stay as they are
Stop = Callable[[], str | None]  # returns the last words of a job that is to end now, else None

# Settings of events. Jobs that run a model wait in the engine's own queue, where they can say so and be cancelled, so
# Gradio's lets all of them begin. Light events only read or draw. A press of Cancel must not wait behind a job.
MOST_EVENTS = 200  # that run or wait at once; each holds a thread, which costs little while it waits
ENGINE: dict[str, Any] = {
    "concurrency_id": "engine",
    "concurrency_limit": None,
    "show_progress": "hidden",
    "api_visibility": "undocumented",
}
LIGHT: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
AT_ONCE: dict[str, Any] = {**LIGHT, "queue": False}

TICK = 0.15  # seconds between updates of the progress bar


def no_change() -> Update:
    """Return an update that changes nothing; an empty dictionary would be a value to Gradio."""
    return {**gr.skip()}


class Cancel:
    """A Cancel button: the visitor's jobs that it belongs to ask, step by step, whether it was pressed.

    So a job says itself that it was cancelled. Were it ended from outside, its progress could still arrive after that.
    """

    MOST_VISITORS = 1000  # remembered, the latest; jobs of the others have ended by then

    def __init__(self) -> None:
        self._pressed: dict[str, float] = {}  # by visitor
        self._lock = Lock()

    def press(self, request: gr.Request) -> None:
        """Remember that this visitor pressed now; the event of the button."""
        visitor = str(request.session_hash)
        with self._lock:
            self._pressed.pop(visitor, None)
            self._pressed[visitor] = time.monotonic()
            while len(self._pressed) > self.MOST_VISITORS:
                del self._pressed[next(iter(self._pressed))]

    def since(self, request: gr.Request, word: Callable[[], str]) -> Stop:
        """Return the question that a job which begins now asks: `word()` once this visitor has pressed, else None."""
        visitor, began = str(request.session_hash), time.monotonic()
        return lambda: word() if self._pressed.get(visitor, 0.0) > began else None


def watched(
    steps: Steps[T], show: Callable[[str], Update], say: Say, stop: Stop | None = None, arrival: int | None = None
) -> Generator[Update, None, T | None]:
    """Run a job, yield `show(html)` with its progress bar and return its result, None if it was stopped or failed.

    The bar comes not more often than a person can see. stop: asked between two steps; its answer is shown last;
    arrival: number of the event's request, which places the job in the engine's queue. An error is shown as a sentence
    and not raised; one that nobody foresaw is noted in the log besides.
    """
    last = 0.0
    try:
        while True:
            with arrived(arrival):
                step: Progress = next(steps)
            word = stop() if stop is not None else None
            if word is not None:
                steps.close()
                yield show(word)
                return None
            if time.monotonic() - last >= TICK:
                last = time.monotonic()
                yield show(markup.progress(step, say))
    except StopIteration as finished:
        result: T = finished.value
        return result
    except WandaError as error:
        yield show(markup.problem(problem_words(error, say)))
        return None
    except BaseException as error:  # nobody foresaw it
        if not is_fault(error):
            raise
        note("job", error)
        yield show(markup.problem(unexpected(error, say)))
        return None
    finally:
        steps.close()
