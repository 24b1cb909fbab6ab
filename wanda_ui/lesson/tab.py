"""The lesson's tab: a stepper with eight questions, and below it the run so far."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from itertools import chain
from typing import Any

import gradio as gr
from gradio.components import Component

from wanda_core.progress import Steps
from wanda_ui import markup
from wanda_ui.gate.arrivals import arrival_of
from wanda_ui.jobs import AT_ONCE, ENGINE, LIGHT, Cancel, Update, watched
from wanda_ui.language import Say, label, speaker
from wanda_ui.lesson import address, consequences, sentences, summary, weights
from wanda_ui.lesson.answers import Answer, Asked, Record, Run
from wanda_ui.lesson.layout import StepParts, lay_out
from wanda_ui.lesson.plan import STEPS, Step
from wanda_ui.tab_context import RESIZE, Tab, TabContext

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
# A step begins at its question, also for one who pressed Next at the end of a long step.
TO_TOP = "() => requestAnimationFrame(() => document.getElementById('lesson')?.scrollIntoView())"


@dataclass(frozen=True)
class LessonStep:
    """One step with its components, and the run that it is part of. number: from 1."""

    context: TabContext
    number: int
    step: Step
    parts: StepParts
    run: gr.State
    ledger: gr.HTML

    def wire(self) -> None:
        """Answer See, Cancel and Enter; sliders answer at once after the first See."""
        parts, cancel = self.parts, Cancel()

        def see(request: gr.Request, values: dict[Component, Any]) -> Iterator[Update]:
            say = speaker(request)
            stop = cancel.since(request, lambda: markup.empty(say("lesson.cancelled")))
            guess, name = values[parts.guess], values[self.context.model]
            if guess not in self.step.guesses:
                yield parts.tell(markup.problem(say("lesson.problem.guess")))
                return
            asked = Asked(say, self.context.state, name)
            steps = ANSWERS[self.step.name](asked, *parts.values(values))
            answer = yield from watched(steps, parts.tell, say, stop, arrival_of(request))
            if answer is not None:
                yield self._show(guess, answer, name, values[self.run], say)

        def see_again(request: gr.Request, values: dict[Component, Any]) -> Iterator[Update]:
            if self.number in values[self.run]:
                yield from see(request, values)

        needs_model = self.step.needs_model
        settings: dict[str, Any] = {
            "inputs": {self.context.model, self.run, *parts.inputs},
            "outputs": [*parts.outputs, self.run, self.ledger],
            **(ENGINE if needs_model else LIGHT),
        }
        parts.see.click(see, **settings)
        for control in parts.controls:
            if needs_model:
                control.submit(see, **settings)
            else:
                control.change(see_again, trigger_mode="always_last", **settings)
        if parts.cancel is not None:
            parts.cancel.click(cancel.press, None, None, **AT_ONCE)

    def _show(self, guess: str, answer: Answer, name: str, before: Run, say: Say) -> Update:
        """Show an answer and add it to the run. name: of the chosen model."""
        loaded = self.context.state.loaded(name) if self.step.needs_model else None
        model = loaded.lm.title if loaded else ""
        record = Record(guess, answer.right, answer.finding, dict(answer.numbers), model)
        run = {**before, self.number: record}
        opened = self.step.name == "cost"  # there the lines of text are the point
        table = "" if answer.table.empty else markup.folded_table(say("lesson.table"), answer.table, opened)
        return {
            self.parts.status: "",
            self.parts.finding: markup.figure_title(answer.finding),
            self.parts.picture: answer.picture,
            self.parts.explanation: explained(self.step, record, answer.explanation, say),
            self.parts.table: table,
            self.run: run,
            self.ledger: summary.links(run, say),
        }


def build(context: TabContext) -> Tab:
    """Lay the lesson out and wire it."""
    page = context.page
    run = gr.State({})
    laid: list[StepParts] = []
    with gr.Walkthrough(selected=1, elem_id="lesson") as walkthrough:
        for number, step in enumerate(STEPS, 1):
            with gr.Step(label(f"lesson.{step.name}.title"), id=number, elem_id=f"lesson-{number}") as side:
                parts = lay_out(number, step)
            laid.append(parts)
            _remember(number, parts, side)
    ledger = gr.HTML("", elem_id="lesson-run")
    for number, (step, parts) in enumerate(zip(STEPS, laid, strict=True), 1):
        LessonStep(context, number, step, parts, run, ledger).wire()
        for other, button in ((number - 1, parts.back), (number + 1, parts.onward)):
            if button is not None:
                going = button.click(lambda other=other: gr.Walkthrough(selected=other), None, walkthrough, **LIGHT)
                there = laid[other - 1].inputs
                going.then(None, there, js=address.remember(other), **LIGHT).then(None, js=TO_TOP, **LIGHT)
                going.then(None, js=RESIZE, **LIGHT)
        leaving = parts.free.click(None, js=address.UNHIDE, **LIGHT)
        leaving.then(None, js=f"() => WandaLab.page.go({json.dumps(step.free)})", **LIGHT)

    def enter(request: gr.Request) -> Update:
        """Go where the address says; nothing is run, the reader presses See."""
        update: Update = {ledger: summary.links({}, speaker(request))}
        entry = address.read(request.query_params)
        if entry is not None:
            update[walkthrough] = gr.Walkthrough(selected=entry.step)
            inputs = zip(laid[entry.step - 1].inputs, (entry.guess, *entry.values), strict=True)
            update |= {component: value for component, value in inputs if value is not None}
        return update

    page.load(None, js=address.HIDE, **LIGHT)
    everything = [walkthrough, ledger, *chain(*(parts.inputs for parts in laid))]
    page.load(enter, None, everything, **LIGHT)
    return Tab()


def _remember(number: int, parts: StepParts, side: gr.Step) -> None:
    """Keep the address at the step that is looked at, with its guess and its controls."""
    written: dict[str, Any] = {"inputs": parts.inputs, "js": address.remember(number), **LIGHT}
    for control in parts.inputs:
        control.change(None, **written)
    side.select(None, **written)
    side.select(None, js=RESIZE, **LIGHT)  # a figure drawn while hidden has no width


def explained(step: Step, record: Record, explanation: str, say: Say) -> str:
    """Write whether the guess fits, and the explanation."""
    guess = say(f"lesson.{step.name}.guess.{record.guess}")
    if summary.fits(record):
        verdict, kind = say("lesson.verdict.fits"), "fits"
    elif record.right is None:
        verdict, kind = say("lesson.verdict.open"), "differs"
    else:
        right = say(f"lesson.{step.name}.guess.{record.right}")
        verdict, kind = say("lesson.verdict.differs", guess=guess, right=right), "differs"
    return (
        f"<div role='status'><p class='wl-verdict wl-{kind}'>{escape(verdict)}</p>"
        f"<p class='wl-explained'>{escape(explanation)}</p></div>"
    )
