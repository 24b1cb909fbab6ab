"""What the sections have in common: a figure with its words, and a job whose progress stands where its result will."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import gradio as gr
import pandas as pd

from wanda_core.errors import WandaError
from wanda_core.progress import Steps
from wanda_ui import markup
from wanda_ui.jobs import AT_ONCE, ENGINE, LIGHT, Cancel, watched
from wanda_ui.language import Say, label, speaker
from wanda_ui.tab_context import TabContext

T = TypeVar("T")


def question(name: str) -> None:
    """The heading of a section and one line on what is done to answer it."""
    gr.Markdown(label(f"outliers.{name}.question"), elem_classes="wl-question")
    gr.Markdown(label(f"outliers.{name}.how"), elem_classes="wl-how")


def listed(say: Say, section: str, columns: str, rows: list[list[object]]) -> str:
    """The table of a section; `columns` are the ends of its keys, divided by blanks. Nothing where there is no row."""
    names = [say(f"outliers.column.{column}") for column in columns.split()]
    return markup.table(say(f"outliers.{section}.table"), pd.DataFrame(rows, columns=names)) if rows else ""


@dataclass(frozen=True)
class Section:
    """A section's own progress line, its two buttons and what it fills."""

    context: TabContext
    status: gr.HTML
    run: gr.Button
    cancel: gr.Button
    outputs: list[gr.components.Component]

    def wire(
        self,
        steps: Callable[..., Steps[T]],
        show: Callable[..., list],
        inputs: Sequence[gr.components.Component],
        again: list[Any] | None = None,
        start: list[Any] | None = None,
    ) -> None:
        """Run `steps(name, *inputs)` on the button and show its result by `show(result, say, *inputs)`.

        again: events, such as a moved slider, that ask for the same; start: events after which it runs if nothing is
        shown yet. A chosen model empties the section.
        """

        cancel = Cancel()

        def work(request: gr.Request, name: str, *given: object) -> Iterator[list]:
            say = speaker(request)
            stop = cancel.since(request, lambda: markup.empty(say("outliers.cancelled")))
            kept: list[T] = []
            rest = [gr.skip()] * len(self.outputs)
            for html in watched(steps(name, *given), kept, say, stop):
                yield [html, *rest]
            if kept:
                try:
                    yield ["", *show(kept[0], say, *given)]
                except WandaError as error:
                    yield [markup.problem(str(error)), *rest]

        def first(request: gr.Request, name: str, shown: str, *given: object) -> Iterator[list]:
            if not shown and name in self.context.state.models:
                yield from work(request, name, *given)

        asked: dict[str, Any] = {"outputs": [self.status, *self.outputs], **ENGINE}
        running: list[Any] = [self.run.click(work, [self.context.model, *inputs], **asked)]
        for event in again or []:
            running.append(event(work, [self.context.model, *inputs], trigger_mode="always_last", **asked))
        title = next(one for one in self.outputs if isinstance(one, gr.HTML))
        for event in start or []:
            running.append(event(first, [self.context.model, title, *inputs], **asked))
        self.cancel.click(cancel.press, None, None, **AT_ONCE)
        blank = [
            None if isinstance(one, gr.Plot) else gr.skip() if isinstance(one, gr.Dropdown) else ""
            for one in self.outputs
        ]
        self.context.model.change(lambda: ["", *blank], None, asked["outputs"], cancels=running, **LIGHT)


def buttons(name: str) -> tuple[gr.Button, gr.Button]:
    """The button that runs a section and the one that stops it."""
    run = gr.Button(
        label(f"outliers.{name}.run"), elem_id=f"{name}-run", variant="primary", scale=0, min_width=150, size="md"
    )
    cancel = gr.Button(label("outliers.cancel"), elem_id=f"{name}-cancel", scale=0, min_width=90, size="md")
    return run, cancel
