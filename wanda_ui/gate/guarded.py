"""The page, whose events never fail without a sentence: the one place where their exceptions end."""

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, nullcontext
from html import escape
from pathlib import Path
from typing import Any, Protocol

import gradio as gr
from gradio.components import Component

from wanda_core.errors import WandaError, is_fault
from wanda_ui.classroom.network import Class
from wanda_ui.faults import note, unexpected
from wanda_ui.gate.download import Download
from wanda_ui.gate.kept import tidied
from wanda_ui.gate.queue import LastingQueue
from wanda_ui.gate.rules import check_covered
from wanda_ui.gate.sessions import LightStates
from wanda_ui.gate.states import States
from wanda_ui.jobs import Update, no_change
from wanda_ui.language import Say, speaker, unmarked
from wanda_ui.owned import Visitors
from wanda_ui.problems import names_only, problem_words
from wanda_ui.settings import Settings


class Assistants(Protocol):
    """Answers requests of assistants, an ASGI application that has to run first."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Async context manager: requests are answered inside."""

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""


class GuardedPage(gr.Blocks):
    """Gradio's page with the settings that the gate applies to it, and with words for whatever an event raises.

    questions: by name, what the gate answers by itself at `/wanda/NAME`, outside of Gradio's queue: a function of a
    JSON object, the visitor's `say` and who asks that returns another, in a thread of its own; it never runs a model
    and never waits for the engine. downloads: by name, what is sent at `/wanda/NAME/SECRET/FILE`: a function of these
    two, None where nothing is kept there. tools: numbers of the events that are tools; assistants: answers a request
    for them by the Model Context Protocol, within `running`. Both are for programs of this machine alone, and empty
    unless its owner switched them on. states: of its sessions. joined: where a class opens the page, None where it is
    served to this machine alone.
    """

    settings = Settings()
    _queue: LastingQueue  # once it is set

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.questions: dict[str, Callable[[dict[str, Any], Say, Visitors], dict[str, Any]]] = {}
        self.downloads: dict[str, Callable[[str, str], Download | None]] = {}
        self.tools: frozenset[int] = frozenset()
        self.assistants: Assistants | None = None
        self.joined: Class | None = None
        self.states = States()

    def queue(self, *given: Any, **more: Any) -> "GuardedPage":
        """Set the queue, as Gradio does: one that goes on whatever happens in it, and of which nobody has all."""
        super().queue(*given, **more)
        self._queue = LastingQueue(self._queue, lambda: self.settings)
        return self

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Async context manager: the page is served inside, by Gradio's application, which keeps visitors' states."""
        self.app.state_holder = LightStates()
        self.app.state_holder.set_blocks(self)
        self.app.state_holder.session_data = self.states
        assistants = self.assistants.running() if self.assistants is not None else nullcontext()
        async with assistants, tidied(Path(self.app.uploaded_file_dir)):
            yield

    def guard(self, settings: Settings) -> None:
        """Set what the page allows, once all events are there. Raises LookupError where an input has no rule."""
        check_covered(self)
        self.settings = settings
        # At every message of any event Gradio's page looks through its whole tree for every component that ever was to
        # show an event's progress, by default all outputs: a look at two recipes cost a minute of the browser's time.
        # None of them shows any, so the first one stands for all.
        components = [block for block in self.blocks.values() if isinstance(block, Component)]
        shown = (component for component in components if not isinstance(component, gr.State))
        place = [component for component in shown if component.visible != "hidden"][:1] or None
        for event in self.fns.values():
            event.show_progress_on = place
            if inspect.isgeneratorfunction(event.fn):
                event.fn = answered(event.fn)

    def get_config_file(self) -> Any:
        """Describe the page to the browser, as Gradio does, with no labels in it but the page's own."""
        return unmarked(super().get_config_file())

    async def postprocess_data(self, block_fn: Any, *given: Any, **more: Any) -> list[Any]:
        """Make ready what an event shows, as Gradio does; no text of a visitor's or a model's is a label there.

        Here and not later, when only what has changed since the last answer is sent. Tools answer programs, which know
        no labels and are given texts as they are.
        """
        data = await super().postprocess_data(block_fn, *given, **more)
        return data if block_fn._id in self.tools else [unmarked(each) for each in data]

    async def process_api(self, block_fn: Any, *args: Any, **more: Any) -> Any:
        """Run an event; what it raises becomes a sentence for the visitor and a line in the log."""
        names_only.set(self.settings.public)
        try:
            return await super().process_api(block_fn, *args, **more)
        except BaseException as error:
            if not is_fault(error):
                raise
            if isinstance(error, gr.Error) and not error.print_exception:
                raise
            request = more.get("request")
            say = speaker(request[0] if isinstance(request, list) else request)
            if isinstance(error, WandaError):
                raise self._error(block_fn, problem_words(error, say)) from None
            note(f"event {getattr(block_fn, 'name', block_fn)}", error)
            words = unexpected(error, say)
            raise self._error(block_fn, words) from None

    def _error(self, block_fn: Any, sentence: str) -> gr.Error:
        """Make the error that ends an event. Gradio's page shows it as HTML; a tool's is read by a program."""
        shown = sentence if block_fn._id in self.tools else escape(unmarked(sentence), quote=False)
        return gr.Error(shown, print_exception=False)


def answered(event: Callable[..., Iterator[Update]]) -> Callable[..., Iterator[Update]]:
    """Have an event that yields nothing change nothing: Gradio would empty all its outputs."""

    @functools.wraps(event)
    def at_least_once(*given: Any) -> Iterator[Update]:
        with closing(event(*given)) as updates:  # type: ignore[type-var] # a generator
            yield next(updates, no_change())
            yield from updates

    return at_least_once
