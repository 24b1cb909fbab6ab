"""A section of the lab: its question, and a job whose progress stands where its answer will."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import gradio as gr
import pandas as pd
from gradio.components import Component

from wanda_core.errors import WandaError
from wanda_core.progress import Steps
from wanda_ui import markup
from wanda_ui.gate.arrivals import arrival_of
from wanda_ui.jobs import AT_ONCE, ENGINE, LIGHT, Cancel, Update, no_change, watched
from wanda_ui.language import Say, label, speaker
from wanda_ui.picture import Picture
from wanda_ui.problems import problem_words
from wanda_ui.tab_context import TabContext

T = TypeVar("T")


def question(name: str) -> None:
    """Lay out the heading of a section and one line on what is done to answer it."""
    gr.Markdown(label(f"outliers.{name}.question"), elem_classes="wl-question")
    gr.Markdown(label(f"outliers.{name}.how"), elem_classes="wl-how")


def buttons(name: str) -> tuple[gr.Button, gr.Button]:
    """Lay out the button that runs a section and the one that stops it."""
    run = gr.Button(
        label(f"outliers.{name}.run"), elem_id=f"{name}-run", variant="primary", scale=0, min_width=150, size="md"
    )
    cancel = gr.Button(
        label("outliers.cancel"),
        elem_id=f"{name}-cancel",
        elem_classes="wl-cancel",
        scale=0,
        min_width=90,
        size="md",
    )
    return run, cancel


def section_table(say: Say, section: str, columns: Sequence[str], rows: list[list[object]]) -> str:
    """Write the table of a section, nothing where there is no row. columns: their keys below `outliers.column`."""
    names = [say(f"outliers.column.{column}") for column in columns]
    return markup.table(say(f"outliers.{section}.table"), pd.DataFrame(rows, columns=names)) if rows else ""


@dataclass(frozen=True)
class Section:
    """A section's own progress line, its two buttons and what it fills.

    pictures: the title of the first is empty as long as nothing is shown; tables: other HTML; model_choices: controls
    that offer what the model has, such as its blocks.
    """

    context: TabContext
    status: gr.HTML
    run: gr.Button
    cancel: gr.Button
    pictures: Sequence[Picture]
    tables: Sequence[gr.HTML] = ()
    model_choices: Sequence[gr.Dropdown] = ()

    @property
    def outputs(self) -> list[Component]:
        """List the outputs of every event of the section."""
        shown = [output for picture in self.pictures for output in picture.outputs]
        return [self.status, *self.model_choices, *shown, *self.tables]

    def tell(self, html: str) -> Update:
        """Put a progress bar or a message into the progress line."""
        return {self.status: html}

    def clear(self) -> Update:
        """Empty everything that was shown; the choices stay until the next answer."""
        update = self.tell("")
        for picture in self.pictures:
            update |= picture.clear()
        return update | dict.fromkeys(self.tables, "")

    def wire(
        self,
        steps: Callable[..., Steps[T]],
        show: Callable[..., Update],
        inputs: Sequence[Component],
        again: Sequence[Any] = (),
        start: Sequence[Any] = (),
    ) -> None:
        """Run `steps(name, *inputs)` on the button and show its result by `show(result, say, *inputs)`.

        again: events, such as a moved slider, that ask for the same; start: events after which it runs if nothing is
        shown yet. A chosen model empties the section.
        """
        cancel = Cancel()

        def work(request: gr.Request, name: str, *given: object) -> Iterator[Update]:
            say = speaker(request)
            stop = cancel.since(request, lambda: markup.empty(say("outliers.cancelled")))
            result = yield from watched(steps(name, *given), self.tell, say, stop, arrival_of(request))
            if result is None:
                return
            try:
                yield {**self.tell(""), **show(result, say, *given)}
            except WandaError as error:
                yield self.tell(markup.problem(problem_words(error, say)))

        def first(request: gr.Request, name: str, shown: str, *given: object) -> Iterator[Update]:
            if shown or self.context.state.loaded(name) is None:
                yield no_change()  # a generator that yields nothing would empty what is shown
            else:
                yield from work(request, name, *given)

        asked: dict[str, Any] = {"outputs": self.outputs, **ENGINE}
        model = self.context.model
        running: list[Any] = [self.run.click(work, [model, *inputs], **asked)]
        running += [event(work, [model, *inputs], trigger_mode="always_last", **asked) for event in again]
        running += [event(first, [model, self.pictures[0].title, *inputs], **asked) for event in start]
        self.cancel.click(cancel.press, None, None, **AT_ONCE)
        model.change(self.clear, None, self.outputs, cancels=running, **LIGHT)
