"""A step of the lesson on the page: the map, the question, a guess, a control, and the place for what comes of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from wanda_ui.jobs import Update
from wanda_ui.language import label
from wanda_ui.lesson.plan import Control, Slider, Step, Text

SLOT = '<div class="wl-slot"></div>'  # where a script of `assets/lesson` draws


@dataclass(frozen=True)
class StepParts:
    """The components of one step. cancel, back and onward: None where there is nothing to cancel or no such step.

    side: the map; terms: the words that are new in this step; beside, below: empty places between the guess and the
    button, and between the answer and the way on, for what a step offers besides.
    """

    side: gr.HTML
    terms: gr.HTML
    guess: gr.Radio
    beside: gr.Column
    controls: list[Any]  # gr.Slider or gr.Textbox
    see: gr.Button
    cancel: gr.Button | None
    free: gr.Button
    back: gr.Button | None
    onward: gr.Button | None
    status: gr.HTML
    finding: gr.HTML
    picture: gr.HTML
    explanation: gr.HTML
    table: gr.HTML
    below: gr.Column

    @property
    def inputs(self) -> list[Any]:
        """List the guess and the controls, in the order of the address."""
        return [self.guess, *self.controls]

    @property
    def outputs(self) -> list[Component]:
        """List what an answer fills."""
        return [self.status, self.finding, self.picture, self.explanation, self.table]

    def tell(self, html: str) -> Update:
        """Put a progress bar or a message into the status."""
        return {self.status: html}

    def values(self, given: Mapping[Component, Any]) -> list[Any]:
        """Pick the controls' values out of an event's inputs."""
        return [given[control] for control in self.controls]


def lay_out(number: int, step: Step) -> StepParts:
    """Lay out a step from the question to the way on. number: from 1."""
    with gr.Row(elem_classes="wl-lesson"):
        side = gr.HTML("", elem_id=f"lesson-{number}-map", elem_classes="wl-lesson-side")
        with gr.Column(elem_classes="wl-lesson-main", scale=1, min_width=280):
            return _main(number, step, side)


def _main(number: int, step: Step, side: gr.HTML) -> StepParts:
    words = f"lesson.{step.name}"
    with gr.Column(elem_classes="wl-ask-step"):  # one label a piece: of several in one HTML the browser words one
        gr.HTML(f"<h2>{label(words + '.question')}</h2>")
        gr.HTML(f"<p>{label(words + '.story')}</p>")
        terms = gr.HTML("", elem_id=f"lesson-{number}-terms")
    guesses: list[Any] = [(label(f"{words}.guess.{name}"), name) for name in step.guesses]
    guess = gr.Radio(guesses, label=label("lesson.guess"), elem_id=f"lesson-{number}-guess", elem_classes="wl-guess")
    beside = gr.Column(elem_id=f"lesson-{number}-beside")
    with gr.Row(elem_classes="wl-controls"):
        controls = [_control(number, words, control) for control in step.controls]
    with gr.Row(elem_classes="wl-buttons wl-step-buttons"):
        see = gr.Button(
            label("lesson.see"), variant="primary", scale=2, elem_id=f"lesson-{number}-see", elem_classes="wl-see"
        )
        free = gr.Button(label("lesson.free"), elem_id=f"lesson-{number}-free", elem_classes="wl-free")
        cancel = cancel_button(f"lesson-{number}-cancel") if step.needs_model else None
    status = gr.HTML("", elem_id=f"lesson-{number}-status")
    finding = gr.HTML("", elem_id=f"lesson-{number}-finding")
    with gr.Row(elem_classes="wl-told"):
        picture = gr.HTML("", elem_id=f"lesson-{number}-picture", elem_classes="wl-lesson-picture")
        explanation = gr.HTML("", elem_id=f"lesson-{number}-explanation", elem_classes="wl-lesson-text")
    table = gr.HTML("", elem_id=f"lesson-{number}-table")
    below = gr.Column(elem_id=f"lesson-{number}-below")
    with gr.Row(elem_classes="wl-buttons wl-onward"):
        back = gr.Button(label("lesson.back"), elem_id=f"lesson-{number}-back") if number > 1 else None
        onward = gr.Button(label("lesson.next"), elem_id=f"lesson-{number}-next")
    return StepParts(
        side=side,
        terms=terms,
        guess=guess,
        beside=beside,
        controls=controls,
        see=see,
        cancel=cancel,
        free=free,
        back=back,
        onward=onward,
        status=status,
        finding=finding,
        picture=picture,
        explanation=explanation,
        table=table,
        below=below,
    )


def cancel_button(name: str) -> gr.Button:
    """Make a button that is seen while there is something to cancel. name: its id."""
    return gr.Button(label("lesson.cancel"), elem_id=name, elem_classes="wl-cancel")


def _control(number: int, words: str, control: Control) -> gr.Slider | gr.Textbox:
    """Lay out one control of a step. words: the key of the step's words."""
    name, element = label(f"{words}.control.{control.name}"), f"lesson-{number}-{control.name}"
    if isinstance(control, Slider):
        span = (control.low, control.high, control.start)
        return gr.Slider(*span, step=control.step, label=name, elem_id=element, buttons=[], min_width=150)
    if isinstance(control, Text):
        return gr.Textbox(control.start, label=name, lines=1, max_lines=4, elem_id=element)
    return gr.Textbox("", label=name, lines=1, max_lines=1, elem_id=element)  # a gr.Number that is empty sends 0
