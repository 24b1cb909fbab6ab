"""Compare: one prompt, two answers, streamed side by side."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from gradio.components import Component

from wanda_core.errors import WandaError
from wanda_core.evaluation.generation import check_prompt, check_settings
from wanda_core.progress import Progress
from wanda_ui import markup
from wanda_ui.app_state import AppState
from wanda_ui.compare import columns
from wanda_ui.compare.columns import NOTHING, Columns, Shown
from wanda_ui.engine.loaded import Result
from wanda_ui.engine.queue import arrived
from wanda_ui.engine.work import Answers
from wanda_ui.gate.arrivals import arrival_of
from wanda_ui.inputs import as_int
from wanda_ui.jobs import ENGINE, Update
from wanda_ui.language import Say, label, speaker
from wanda_ui.tab_context import Tab, TabContext

PROMPT = "The sky is blue because"  # in English in every language: the built-in model speaks little else


@dataclass(frozen=True)
class CompareTab(Tab):
    """The two columns and the line below them."""

    dense_column: gr.HTML
    pruned_column: gr.HTML
    verdict: gr.HTML

    @property
    def outputs(self) -> list[Component]:
        """List the components that show an answer."""
        return [self.dense_column, self.pruned_column, self.verdict]

    def show(self, shown: Columns) -> Update:
        """Fill the columns."""
        return {self.dense_column: shown.dense, self.pruned_column: shown.pruned, self.verdict: shown.verdict}

    def welcome(self, say: Say) -> Update:
        """Say what the columns are for."""
        return self.show(columns.welcome(say))

    def pruned(self, result: Result, say: Say) -> Update:
        """Ask for a question to both models."""
        return self.show(columns.invitation(result, say))


def build(context: TabContext) -> CompareTab:
    """Lay out two columns on top and the prompt below, as in a conversation, and what happens when it is sent."""
    with gr.Row(equal_height=True, elem_classes="wl-columns"):
        dense = gr.HTML("", elem_id="dense-output")
        pruned = gr.HTML("", elem_id="pruned-output")
    verdict = gr.HTML("", elem_id="verdict")
    with gr.Row(elem_classes="wl-ask"):
        prompt = gr.Textbox(
            PROMPT,
            label=label("compare.prompt"),
            lines=1,
            max_lines=6,
            max_length=20_000,
            scale=5,
            elem_id="prompt",
        )
        button = gr.Button(label("compare.compare"), elem_id="compare", scale=1, min_width=120)
    with gr.Row(elem_classes="wl-options"):
        length = gr.Slider(
            8, 256, value=48, step=1, label=label("compare.length"), elem_id="length", buttons=[], min_width=150
        )
        temperature = gr.Slider(
            0,
            2,
            value=0,
            step=0.1,
            label=label("compare.temperature"),
            elem_id="temperature",
            buttons=[],
            min_width=150,
        )
        seed = gr.Number(0, label=label("compare.seed"), precision=0, elem_id="answer-seed", min_width=90)
        chat = gr.Checkbox(True, label=label("compare.chat"), elem_id="chat", min_width=180)
    tab = CompareTab(dense, pruned, verdict)

    def ask(
        request: gr.Request,
        name: str,
        key: str,
        prompt: str,
        chat: bool,
        length: float,
        temperature: float,
        seed: float,
    ) -> Iterator[Update]:
        """Show both answers as they grow; Cancel leaves them where they are."""
        say = speaker(request)
        stop = context.cancel.since(request, str)
        settings = {"max_new_tokens": as_int(length), "temperature": temperature, "seed": as_int(seed), "chat": chat}
        shown: Shown | None = None
        arrival = arrival_of(request)
        with closing(answering(context.state, name, key, prompt, settings)) as steps:
            try:
                while True:
                    with arrived(arrival):
                        step = next(steps)
                    if isinstance(step, Shown):
                        shown = step
                    if stop() is not None:
                        yield tab.show(columns.stopped(shown, say))
                        return
                    if isinstance(step, Progress):
                        yield tab.show(Columns(markup.progress(step, say), ""))
                    elif step.begun:
                        yield tab.show(columns.running(step, say))
            except StopIteration as whole:
                yield tab.show(columns.ended(whole.value, say))
            except WandaError as error:
                yield tab.show(replace(columns.stopped(shown, say), verdict=markup.problem(str(error))))

    settings: dict[str, Any] = {
        "inputs": [*context.choice, prompt, chat, length, temperature, seed],
        "outputs": tab.outputs,
        **ENGINE,
    }
    button.click(ask, **settings)
    prompt.submit(ask, **settings)
    return tab


def answering(
    state: AppState, name: str, key: str, prompt: str, settings: Mapping[str, Any]
) -> Generator[Progress | Shown, None, Shown]:
    """Load the model, then answer token by token from it and its variant. Closing it stops both. -> the whole answers.

    Yields progress while it waits, once empty answers, then longer ones. A variant that made room for others is made
    again first. Where that key is of no variant, or of another model's, the dense model answers alone.
    """
    check_settings(**{name: value for name, value in settings.items() if name != "chat"})
    check_prompt(prompt)
    loaded = yield from state.model_steps(name)
    again = state.variants.let_go(key) is not None
    result = yield from state.variant_steps(key)
    if result is not None and not result.is_of(loaded):
        result = None
    shown = Shown(result, loaded.lm.decode, again=again)
    yield shown
    with closing(state.answer_steps(name, result, prompt, settings)) as steps:
        try:
            while True:
                step = next(steps)
                yield _shown(shown, step) if isinstance(step, Answers) else step
        except StopIteration as stop:
            return _shown(shown, stop.value)


def _shown(shown: Shown, answers: Answers) -> Shown:
    """Put longer answers into what is shown."""
    return replace(shown, dense=answers.dense, pruned=answers.pruned or NOTHING)
