"""The lesson's tab: a row of steps, eight questions, and below them the run so far."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from itertools import chain
from typing import Any

import gradio as gr
from gradio.components import Component

from wanda_core.errors import WandaError
from wanda_core.progress import Steps, finish
from wanda_ui import markup
from wanda_ui.gate.arrivals import arrival_of
from wanda_ui.jobs import AT_ONCE, ENGINE, LIGHT, Cancel, Update, watched
from wanda_ui.language import Say, speaker
from wanda_ui.lesson import address, beside, buys, consequences, kept, sentences, summary, terms, weights
from wanda_ui.lesson.answers import Answer, Asked, Record, Run, UnknownError
from wanda_ui.lesson.bar import PRESSED, bar
from wanda_ui.lesson.block_map import FOUND, SPIKE, block_map
from wanda_ui.lesson.layout import StepParts, lay_out
from wanda_ui.lesson.plan import STEPS, Step
from wanda_ui.lesson.stored import stored_for
from wanda_ui.tab_context import Tab, TabContext

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
TO_TOP = "() => requestAnimationFrame(() => document.getElementById('lesson-steps')?.scrollIntoView())"


@dataclass(frozen=True)
class Shared:
    """What all steps share: the visitor's run and step, the row of steps, the ledger, and what the browser keeps."""

    run: gr.State
    now: gr.State
    steps: gr.HTML
    ledger: gr.HTML
    held: gr.Textbox


@dataclass(frozen=True)
class LessonStep:
    """One step with its components, and the run that it is part of. number: from 1."""

    context: TabContext
    number: int
    step: Step
    parts: StepParts
    shared: Shared

    def wire(self) -> None:
        """Answer See, Cancel and Enter; sliders answer at once after the first See."""
        parts, shared, cancel = self.parts, self.shared, Cancel()
        needs_model = self.step.needs_model

        def see(request: gr.Request, values: dict[Component, Any]) -> Iterator[Update]:
            say = speaker(request)
            stop = cancel.since(request, lambda: markup.empty(say("lesson.cancelled")))
            guess, name = values[parts.guess], values[self.context.model]
            if guess not in self.step.guesses:
                yield parts.tell(markup.problem(say("lesson.problem.guess")))
                return
            run = values[shared.run] | self.let_go(values, name, say)
            now = values[shared.now] if run == values[shared.run] else self.number
            asked = Asked(say, self.context.state, name)
            given = parts.values(values)
            steps = ANSWERS[self.step.name](asked, *given)
            answer = yield from watched(steps, parts.tell, say, stop, arrival_of(request))
            if answer is not None:
                before = run.get(self.number)
                # Who moves a slider after the answer, as the step asks, has answered before.
                moved = (
                    not needs_model and before is not None and before.guess == guess and before.values != tuple(given)
                )
                record = before if moved else recorded(self.context, self.step, guess, given, answer, name)
                run = {**run, self.number: record}
                counted = self.counted(run, name, values[shared.held], now, say)
                yield self.show(answer, record, say, moved) | counted

        def see_again(request: gr.Request, values: dict[Component, Any]) -> Iterator[Update]:
            held = kept.read(values[shared.held], values[self.context.model])
            if self.number in values[shared.run] or self.number in held:
                yield from see(request, values)

        settings: dict[str, Any] = {
            "inputs": {self.context.model, shared.run, shared.now, shared.held, *parts.inputs},
            "outputs": [parts.side, *parts.outputs, shared.run, shared.now, shared.steps, shared.ledger, shared.held],
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

    def let_go(self, values: dict[Component, Any], name: str, say: Say) -> Run:
        """Return what the browser keeps of the run and the server does not: of many visitors it lets the oldest go."""
        run, held = values[self.shared.run], values[self.shared.held]
        return {number: record for number, _, record in answered_before(self.context, held, run, name, say)}

    def show(self, answer: Answer, record: Record, say: Say, moved: bool = False) -> Update:
        """Show an answer, and whether the guess fits it. moved: whether the guess was about other values."""
        table = "" if answer.table.empty else markup.folded_table(say("lesson.table"), answer.table)
        date = markup.sentence(say("lesson.stored", date=answer.date)) if answer.date else ""
        picture = f"<div class='wl-lesson-figure'>{answer.picture}</div>{beside.truth(self.step.name, answer)}"
        side: Update = {}
        if self.step.name in FOUND:
            drawn = block_map(self.step.name, say, found=True, channel=_spike(self.step.name, answer))
            side = {self.parts.side: drawn}
        return {
            **side,
            self.parts.status: "",
            self.parts.finding: markup.figure_title(answer.finding),
            self.parts.picture: picture,
            self.parts.explanation: explained(self.step, record, answer, say, moved) + date,
            self.parts.table: table,
        }

    def counted(self, run: Run, name: str, held: object, now: int, say: Say) -> Update:
        """Show how far the run is, and have the browser keep it, with what it keeps already.

        name: of the chosen model; held: what the browser keeps; now: the step.
        """
        shared = self.shared
        return {
            shared.run: run,
            shared.now: now,
            shared.steps: bar(run, now, say),
            shared.ledger: summary.links(run, say),
            shared.held: kept.written(run, name, held),
        }


def build(context: TabContext) -> Tab:
    """Lay the lesson out and wire it."""
    page = context.page
    run, now = gr.State({}), gr.State(1)
    steps_row = gr.HTML("", elem_id="lesson-steps", js_on_load=PRESSED)
    laid: list[StepParts] = []
    with gr.Walkthrough(selected=1, elem_id="lesson") as walkthrough:
        for number, step in enumerate(STEPS, 1):
            with gr.Step(str(number), id=number, elem_id=f"lesson-{number}"):
                parts = lay_out(number, step)
                with parts.beside:
                    beside.sketch_place(number, step.name)
                with parts.below:
                    if step.name == beside.BEAT:
                        beside.beat_place(context)
                    if number == len(STEPS):
                        buys.lay_out(context, number)
            laid.append(parts)
            for control in parts.inputs:
                control.change(None, inputs=parts.inputs, js=address.remember(number), **LIGHT)
        with gr.Step(str(beside.END), id=beside.END, elem_id=f"lesson-{beside.END}"):
            beside.end(context)
    ledger = gr.HTML("", elem_id="lesson-run")
    held = gr.Textbox("", visible="hidden", max_length=kept.MOST_CHARACTERS, elem_id="lesson-held")
    held.change(None, held, js=kept.SAVE, **LIGHT)
    shared = Shared(run, now, steps_row, ledger, held)
    wired = [
        LessonStep(context, number, step, parts, shared)
        for number, (step, parts) in enumerate(zip(STEPS, laid, strict=True), 1)
    ]

    def going(request: gr.Request, values: dict[Component, Any], number: int) -> Update:
        """Go to a step."""
        return {
            walkthrough: gr.Walkthrough(selected=number),
            now: number,
            steps_row: bar(values[run], number, speaker(request)),
        }

    def gone(request: gr.Request, values: dict[Component, Any], event: gr.EventData) -> Update:
        return going(request, values, beside.told_whole(event, "step", 1, beside.END))

    there: dict[str, Any] = {"inputs": {run, now}, "outputs": [walkthrough, now, steps_row], **LIGHT}
    asked = [*chain(*(parts.inputs for parts in laid))]
    pressed = steps_row.go(gone, **there)  # type: ignore[attr-defined] # an event of the row's own
    pressed.then(None, asked, js=address.REMEMBER_ALL, **LIGHT)
    for each in wired:
        each.wire()
        for other, button in ((each.number - 1, each.parts.back), (each.number + 1, each.parts.onward)):
            if button is not None:

                def to_other(request: gr.Request, values: dict[Component, Any], other: int = other) -> Update:
                    return going(request, values, other)

                to_there = button.click(to_other, **there)
                to_there.then(None, asked, js=address.REMEMBER_ALL, **LIGHT).then(None, js=TO_TOP, **LIGHT)
        leaving = each.parts.free.click(None, js=address.UNHIDE, **LIGHT)
        leaving.then(None, js=f"() => WandaLab.page.go({json.dumps(each.step.free)})", **LIGHT)

    def enter(request: gr.Request, values: dict[Component, Any]) -> Update:
        """Word the page, show what was answered before, and go where the address says; nothing is measured."""
        say, name = speaker(request), values[context.model]
        update: Update = {}
        answered: Run = {}
        held_answers = stored_for(context.state, name)
        channel = held_answers["meet"]["channel"] if held_answers is not None else None
        for each in wired:
            update[each.parts.side] = block_map(each.step.name, say, channel=channel)
            update[each.parts.terms] = terms.cards(each.step.name, say)
        for number, answer, record in answered_before(context, values[held], {}, name, say):
            each, answered = wired[number - 1], {**answered, number: record}
            update |= each.show(answer, record, say)
            update |= dict(zip(each.parts.inputs, (record.guess, *record.values), strict=True))
        entry = address.read(request.query_params)
        number = entry.step if entry is not None else 1
        if entry is not None and number <= len(STEPS):
            inputs = zip(laid[number - 1].inputs, (entry.guess, *entry.values), strict=True)
            update |= {component: value for component, value in inputs if value is not None}
        update |= {walkthrough: gr.Walkthrough(selected=number), run: answered, now: number}
        return update | {steps_row: bar(answered, number, say), ledger: summary.links(answered, say)}

    page.load(None, js=address.HIDE, **LIGHT)
    filled = [[p.side, p.terms, *p.outputs, *p.inputs] for p in laid]
    everything = [walkthrough, run, now, steps_row, ledger, *chain(*filled)]
    page.load(None, None, held, js=kept.LOAD, **LIGHT).then(enter, {context.model, held}, everything, **LIGHT)
    return Tab()


def answered_before(
    context: TabContext, held: object, run: Run, name: str, say: Say
) -> Iterator[tuple[int, Answer, Record]]:
    """Give the answers anew that a browser keeps and a run lacks, as far as they are known; nothing is measured.

    held: what the browser sends; name: of the chosen model.
    """
    asking = Asked(say, context.state, name, only_known=True)
    for number, (guess, given) in kept.read(held, name).items():
        if number not in run:
            step = STEPS[number - 1]
            with suppress(UnknownError, WandaError):
                answer = finish(ANSWERS[step.name](asking, *given))
                yield number, answer, recorded(context, step, guess, given, answer, name)


def recorded(context: TabContext, step: Step, guess: str, values: list[Any], answer: Answer, name: str) -> Record:
    """Put an answer down for the run. name: of the chosen model."""
    model, state = "", context.state
    if step.needs_model:
        loaded, held = state.loaded(name), stored_for(state, name)
        model = loaded.lm.title if loaded is not None else held["made"]["model"] if held is not None else name
    return Record(guess, answer.right, answer.finding, dict(answer.numbers), model, tuple(values))


def _spike(step: str, answer: Answer) -> int:
    """Return the channel of the spike that an answer tells of."""
    return int(answer.data["channel"] if step == SPIKE else answer.data["first"]["strongest"][0])


def explained(step: Step, record: Record, answer: Answer, say: Say, moved: bool = False) -> str:
    """Write whether the guess fits, and the explanation; moved: of other values than those that were guessed about."""
    guess = say(f"lesson.{step.name}.guess.{record.guess}")
    if moved:
        right = " / ".join(say(f"lesson.{step.name}.guess.{each}") for each in answer.right)
        verdict, kind = say("lesson.verdict.moved" if right else "lesson.verdict.moved_open", right=right), "moved"
    elif summary.fits(record):
        verdict, kind = say("lesson.verdict.fits"), "fits"
    elif not record.right:
        verdict, kind = say("lesson.verdict.open"), "open"
    else:
        right = " / ".join(say(f"lesson.{step.name}.guess.{each}") for each in record.right)
        verdict, kind = say("lesson.verdict.differs", guess=guess, right=right), "differs"
    return (
        f"<div role='status'><p class='wl-verdict wl-{kind}'>{escape(verdict)}</p>"
        f"<div class='wl-explained'>{terms.marked(answer.explanation, step.name, say)}</div></div>"
    )
