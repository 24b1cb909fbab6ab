"""Compare: one prompt, two answers, streamed side by side."""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import gradio as gr
from gradio.components import Component

from wanda_core.errors import WandaError
from wanda_core.evaluation.generation import generate
from wanda_core.progress import Progress, Steps
from wanda_ui import markup
from wanda_ui.app_state import AppState, Result
from wanda_ui.compare import columns
from wanda_ui.compare.columns import Answers, Columns
from wanda_ui.inputs import as_int, some_text
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
        answers: Answers | None = None
        try:
            with closing(answering(context.state, name, key, prompt, settings)) as steps:
                for step in steps:
                    if isinstance(step, Answers):
                        answers = step
                    if stop() is not None:
                        yield tab.show(columns.stopped(answers, say))
                        return
                    if isinstance(step, Progress):
                        yield tab.show(Columns(markup.progress(step, say), ""))
                    elif step.begun:
                        yield tab.show(columns.running(step, say))
        except WandaError as error:
            yield {verdict: markup.problem(str(error))}
        else:
            if answers is not None:
                yield tab.show(columns.ended(answers, say))

    settings: dict[str, Any] = {
        "inputs": [*context.choice, prompt, chat, length, temperature, seed],
        "outputs": tab.outputs,
        **ENGINE,
    }
    button.click(ask, **settings)
    prompt.submit(ask, **settings)
    return tab


def answering(
    state: AppState, name: str, key: str, prompt: str, settings: dict[str, Any]
) -> Generator[Progress | Answers, None, None]:
    """Load the model, then answer token by token from it and its variant, holding the engine. Closing it stops both.

    Yields progress while it waits, once empty answers, then longer ones. Where the server no longer keeps the variant
    of that key, or it was made from another model, the dense model answers alone. Raises InputError, before any wait,
    for a blank prompt.
    """
    some_text(prompt, "prompt")
    result = state.results.get(key)
    lm = (yield from state.model_steps(name)).lm
    if result is not None and result.loaded.lm is not lm:
        result = None
    answers = Answers(lm, result)
    yield answers

    def turns() -> Steps[None]:
        nonlocal answers
        streams = [generate(lm, prompt, **settings)]
        if result is not None:
            streams.append(generate(result.variant.lm, prompt, **settings))
        try:
            for turn, (dense, *pruned) in enumerate(zip_longest(*streams), start=1):
                answers = Answers(lm, result, dense or answers.dense, *(new or answers.pruned for new in pruned))
                yield Progress("answering", turn, settings["max_new_tokens"], "tokens")
        finally:
            for stream in streams:
                stream.close()  # type: ignore[attr-defined]

    with closing(state.alone(turns())) as steps:
        for step in steps:
            yield answers if step.stage == "answering" else step
