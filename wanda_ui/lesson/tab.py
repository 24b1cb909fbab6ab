"""The tab: a stepper, in each step a question, a guess, a control, and what comes of it; below, the run so far."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from itertools import chain
from typing import Any

import gradio as gr

from wanda_core.progress import Steps
from wanda_ui import markup
from wanda_ui.jobs import AT_ONCE, ENGINE, LIGHT, RESIZE, Cancel, watched
from wanda_ui.language import Say, label, speaker
from wanda_ui.lesson import address, consequences, sentences, summary, weights
from wanda_ui.lesson.answers import Answer, Asked, Record, Run
from wanda_ui.lesson.plan import STEPS, Control, Slider, Step, Text
from wanda_ui.tab_context import TabContext

ANSWERS: dict[str, Callable[..., Steps[Answer]]] = {
    "two": weights.two,
    "matrix": weights.matrix,
    "meet": sentences.meet,
    "change": sentences.change,
    "sinks": sentences.sinks,
    "ablate": consequences.ablate,
    "masks": consequences.masks,
    "cost": consequences.cost,
}
HTML_PICTURES = ("matrix",)
# A figure has no text that a screen reader could read, so it is told its title, which is a finding.
TELL = """(title) => {
    const plot = document.getElementById('ID'), words = document.createElement('i');
    words.innerHTML = title || '';
    plot?.setAttribute('role', 'img');
    plot?.setAttribute('aria-label', words.textContent);
}"""
# A step begins at its question, also for one who pressed Next at the end of a long step.
TO_TOP = "() => requestAnimationFrame(() => document.getElementById('lesson')?.scrollIntoView())"

# On a narrow screen the set-up stands above the lesson that an address asked for.
TO_STEP = f"() => {{ if (new URL(location).searchParams.has('lesson')) ({TO_TOP})(); }}"


@dataclass(frozen=True)
class Parts:
    """One step's components. outputs: status, finding, picture, explanation, table."""

    guess: gr.Radio
    controls: list[Any]
    see: gr.Button
    cancel: gr.Button | None
    free: gr.Button
    back: gr.Button | None
    next: gr.Button | None
    outputs: list[Any]

    @property
    def inputs(self) -> list[Any]:
        """The guess and the controls, in the order of the address."""
        return [self.guess, *self.controls]


def build(context: TabContext, page: gr.Blocks, tabs: gr.Tabs) -> None:
    """Lay the lesson out and wire it. tabs: those that free play chooses from."""
    run = gr.State({})
    with gr.Walkthrough(selected=1, elem_id="lesson") as walk:
        laid, sides = [], []
        for number, step in enumerate(STEPS, 1):
            with gr.Step(label(f"lesson.{step.name}.title"), id=number, elem_id=f"lesson-{number}") as side:
                laid.append(_lay(number, step))
                sides.append(side)
    ledger = gr.HTML("", elem_id="lesson-run")
    for number, (step, parts, side) in enumerate(zip(STEPS, laid, sides, strict=True), 1):
        _wire(context, number, step, parts, run, ledger)
        remembered: dict[str, Any] = {"inputs": parts.inputs, "js": address.remember(number), **LIGHT}
        for control in parts.inputs:
            control.change(None, **remembered)
        side.select(None, **remembered)
        side.select(None, js=RESIZE, **LIGHT)  # a figure drawn while hidden has no width
        for other, button in ((number - 1, parts.back), (number + 1, parts.next)):
            if button is not None:
                there = laid[other - 1].inputs
                going = button.click(lambda other=other: gr.Walkthrough(selected=other), None, walk, **LIGHT)
                going.then(None, there, js=address.remember(other), **LIGHT).then(None, js=TO_TOP, **LIGHT)
                going.then(None, js=RESIZE, **LIGHT)
        parts.free.click(lambda tab=step.free: gr.Tabs(selected=tab), None, tabs, **LIGHT).then(
            None, js=address.UNHIDE, **LIGHT
        ).then(None, js=RESIZE, **LIGHT)

    def enter(request: gr.Request) -> list:
        """Where the address says; nothing is run, the reader presses See."""
        entry = address.read(request.query_params)
        told: list[list[Any]] = [[gr.skip() for _ in parts.inputs] for parts in laid]
        ledger_words = summary.links({}, speaker(request))
        if entry is None:
            return [gr.skip(), gr.skip(), ledger_words, *chain(*told)]
        values = [entry.guess, *entry.values]
        told[entry.step - 1] = [gr.skip() if value is None else value for value in values]
        return [gr.Tabs(selected="learn"), gr.Walkthrough(selected=entry.step), ledger_words, *chain(*told)]

    page.load(None, js=address.HIDE, **LIGHT)
    entering = page.load(enter, None, [tabs, walk, ledger, *chain(*(parts.inputs for parts in laid))], **LIGHT)
    entering.then(None, js=TO_STEP, **LIGHT)


def _lay(number: int, step: Step) -> Parts:
    """A step from the question to the way on."""
    words = f"lesson.{step.name}"
    with gr.Column(elem_classes="wl-ask-step"):  # one label a piece: of several in one HTML the browser words one
        gr.HTML(f"<span>{number} / {len(STEPS)} · {label(words + '.title')}</span>")
        gr.HTML(f"<h2>{label(words + '.question')}</h2>")
        gr.HTML(f"<p>{label(words + '.story')}</p>")
    choices: list[Any] = [(label(f"{words}.guess.{name}"), name) for name in step.guesses]
    guess = gr.Radio(choices, label=label("lesson.guess"), elem_id=f"lesson-{number}-guess", elem_classes="wl-guess")
    with gr.Row(elem_classes="wl-controls"):
        controls = [_control(number, words, control) for control in step.controls]
    with gr.Row(elem_classes="wl-buttons wl-step-buttons"):
        see = gr.Button(
            label("lesson.see"), variant="primary", scale=2, elem_id=f"lesson-{number}-see", elem_classes="wl-see"
        )
        cancel = gr.Button(label("lesson.cancel"), elem_id=f"lesson-{number}-cancel") if step.needs_model else None
        free = gr.Button(label("lesson.free"), elem_id=f"lesson-{number}-free")
    status = gr.HTML("", elem_id=f"lesson-{number}-status")
    finding = gr.HTML("", elem_id=f"lesson-{number}-finding")
    picture: Any
    if step.name in HTML_PICTURES:
        picture = gr.HTML("", elem_id=f"lesson-{number}-picture")
    else:
        picture = gr.Plot(show_label=False, elem_id=f"lesson-{number}-picture", elem_classes="wl-figure")
        picture.change(None, finding, None, js=TELL.replace("ID", f"lesson-{number}-picture"), **LIGHT)
    explanation = gr.HTML("", elem_id=f"lesson-{number}-explanation")
    table = gr.HTML("", elem_id=f"lesson-{number}-table")
    with gr.Row(elem_classes="wl-buttons wl-onward"):
        back = gr.Button(label("lesson.back"), elem_id=f"lesson-{number}-back") if number > 1 else None
        onward = gr.Button(label("lesson.next"), elem_id=f"lesson-{number}-next") if number < len(STEPS) else None
    return Parts(guess, controls, see, cancel, free, back, onward, [status, finding, picture, explanation, table])


def _control(number: int, words: str, control: Control) -> Any:
    name, ident = label(f"{words}.control.{control.name}"), f"lesson-{number}-{control.name}"
    if isinstance(control, Slider):
        span = (control.low, control.high, control.start)
        return gr.Slider(*span, step=control.step, label=name, elem_id=ident, buttons=[], min_width=150)
    if isinstance(control, Text):
        return gr.Textbox(control.start, label=name, lines=1, max_lines=4, elem_id=ident)
    return gr.Textbox("", label=name, lines=1, max_lines=1, elem_id=ident)  # a gr.Number that is empty sends 0


def _wire(context: TabContext, number: int, step: Step, parts: Parts, run: gr.State, ledger: gr.HTML) -> None:
    """See, Cancel, and sliders that answer at once after the first See."""

    cancel = Cancel()

    def work(request: gr.Request, name: str, before: Run, guess: str | None, *values: object) -> Iterator[list]:
        say = speaker(request)
        stop = cancel.since(request, lambda: markup.empty(say("lesson.cancelled")))
        rest = [gr.skip()] * (len(parts.outputs) - 1 + 2)
        if guess not in step.guesses:
            yield [markup.problem(say("lesson.problem.guess")), *rest]
            return
        kept: list[Answer] = []
        steps = ANSWERS[step.name](Asked(say, context.state, name), *values)
        for html in watched(steps, kept, say, stop):
            yield [html, *rest]
        if not kept:
            return
        answer = kept[0]
        loaded = context.state.models.get(name) if step.needs_model else None
        model = loaded.lm.title if loaded else ""
        record = Record(guess, answer.right, answer.finding, dict(answer.numbers), model)
        after = {**before, number: record}
        yield ["", *_shown(step, record, answer, say), after, summary.links(after, say)]

    def moved(request: gr.Request, name: str, before: Run, guess: str | None, *values: object) -> Iterator[list]:
        if number in before:
            yield from work(request, name, before, guess, *values)

    inputs = [context.model, run, *parts.inputs]
    settings: dict[str, Any] = {"outputs": [*parts.outputs, run, ledger], **(ENGINE if step.needs_model else LIGHT)}
    parts.see.click(work, inputs, **settings)
    if step.needs_model:
        for control in parts.controls:
            control.submit(work, inputs, **settings)
    else:
        for control in parts.controls:
            control.change(moved, inputs, trigger_mode="always_last", **settings)
    if parts.cancel is not None:
        parts.cancel.click(cancel.press, None, None, **AT_ONCE)


def _shown(step: Step, record: Record, answer: Answer, say: Say) -> list:
    """Values for finding, picture, explanation and table."""
    guess = say(f"lesson.{step.name}.guess.{record.guess}")
    if summary.fits(record):
        verdict, kind = say("lesson.verdict.fits"), "fits"
    elif record.right is None:
        verdict, kind = say("lesson.verdict.open"), "differs"
    else:
        right = say(f"lesson.{step.name}.guess.{record.right}")
        verdict, kind = say("lesson.verdict.differs", guess=guess, right=right), "differs"
    words = (
        f"<div role='status'><p class='wl-verdict wl-{kind}'>{escape(verdict)}</p>"
        f"<p class='wl-explained'>{escape(answer.explanation)}</p></div>"
    )
    table = "" if answer.table.empty else markup.table(say("lesson.table"), answer.table)
    if table:
        caption, _, rest = table.partition("</h3>")
        inside = caption.removeprefix('<h3 class="wl-finding">')
        opened = " open" if step.name == "cost" else ""  # there the lines of text are the point
        table = f"<details class='wl-twin'{opened}><summary>{inside}</summary>{rest}</details>"
    return [markup.figure_title(answer.finding), answer.picture, words, table]
