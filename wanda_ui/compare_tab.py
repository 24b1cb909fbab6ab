"""Compare: one prompt, two answers, streamed side by side."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

import gradio as gr

from wanda_core.errors import WandaError
from wanda_core.generate import Generated, common_tokens, generate
from wanda_core.models import LanguageModel
from wanda_core.progress import Progress, Steps
from wanda_ui import texts
from wanda_ui.studio import Result, Studio

PROMPT = "The sky is blue because"
NOTHING = Generated("", ())


@dataclass(frozen=True)
class CompareTab:
    """The components other files listen to."""

    prompt: gr.Textbox
    chat: gr.Checkbox
    length: gr.Slider
    temperature: gr.Slider
    seed: gr.Number
    button: gr.Button
    dense: gr.HTML
    pruned: gr.HTML
    verdict: gr.HTML

    @property
    def inputs(self) -> list[gr.components.Component]:
        """The inputs of `answers` after the model's name and the variant's key."""
        return [self.prompt, self.chat, self.length, self.temperature, self.seed]

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What `answers` yields."""
        return [self.dense, self.pruned, self.verdict]


def build() -> CompareTab:
    """Two columns on top, the prompt below, as in a conversation."""
    with gr.Row(equal_height=True, elem_classes="wl-columns"):
        dense = gr.HTML(
            texts.answer("dense", "Dense", _hint("The model as it is answers here.")), elem_id="dense-output"
        )
        pruned = gr.HTML(texts.answer("pruned", "Pruned", _hint("Press Prune, then Compare.")), elem_id="pruned-output")
    verdict = gr.HTML("", elem_id="verdict")
    with gr.Row(elem_classes="wl-ask"):
        prompt = gr.Textbox(PROMPT, label="Prompt", lines=1, max_lines=6, max_length=20_000, scale=5, elem_id="prompt")
        button = gr.Button("Compare", elem_id="compare", scale=1, min_width=120)
    with gr.Row(elem_classes="wl-options"):
        length = gr.Slider(
            8, 256, value=48, step=1, label="Length (tokens)", elem_id="length", buttons=[], min_width=150
        )
        temperature = gr.Slider(
            0, 2, value=0, step=0.1, label="Temperature", elem_id="temperature", buttons=[], min_width=150
        )
        seed = gr.Number(0, label="Seed", precision=0, elem_id="answer-seed", min_width=90)
        chat = gr.Checkbox(True, label="Use the chat template, if the model has one", elem_id="chat", min_width=180)
    return CompareTab(prompt, chat, length, temperature, seed, button, dense, pruned, verdict)


def invitation(result: Result) -> tuple[str, str, str]:
    """The columns after a pruning and before a question."""
    spec = result.variant.spec
    return (
        texts.answer("dense", "Dense", _hint("Press Compare for an answer."), perplexity=result.dense.perplexity),
        texts.answer("pruned", spec.label, _hint("Press Compare for an answer."), perplexity=result.pruned.perplexity),
        "",
    )


def answers(
    studio: Studio, name: str, key: str, prompt: str, chat: bool, length: float, temperature: float, seed: float
) -> Iterator[tuple[str, str, str]]:
    """Both answers as they grow. A variant that the server no longer keeps is said, and the dense one answers."""
    result = studio.results.get(key)
    try:
        steps = studio.model_steps(name)
        while True:
            try:
                yield texts.progress(next(steps)), "", ""
            except StopIteration as stop:
                lm = stop.value.lm
                break
        if result is not None and result.loaded.lm is not lm:
            result = None
        settings = {"max_new_tokens": _number(length), "temperature": temperature, "seed": _number(seed), "chat": chat}
        last: tuple[Generated, Generated] = (NOTHING, NOTHING)
        for pair in _turns(studio, lm, result, prompt, settings):
            if isinstance(pair, Progress):
                yield texts.progress(pair), "", ""
                continue
            last = pair
            yield _columns(lm, result, *pair, running=True)
        yield _columns(lm, result, *last, running=False)
    except WandaError as error:
        yield gr.skip(), gr.skip(), texts.problem(str(error))  # type: ignore[misc]


def _turns(
    studio: Studio, lm: LanguageModel, result: Result | None, prompt: str, settings: dict
) -> Iterator[Progress | tuple[Generated, Generated]]:
    """Token by token from both models, holding the engine. Closing it stops both."""
    pairs: list[tuple[Generated, Generated]] = []

    def both() -> Steps[None]:
        streams = [generate(lm, prompt, **settings)]
        if result is not None:
            streams.append(generate(result.variant.lm, prompt, **settings))
        last = [NOTHING] * 2
        try:
            for turn in zip_longest(*streams):
                last = [new or old for new, old in zip([*turn, None][:2], last, strict=True)]
                pairs.append((last[0], last[1]))
                yield Progress("answering", len(pairs), settings["max_new_tokens"])
        finally:
            for stream in streams:
                stream.close()  # type: ignore[attr-defined]

    steps = studio.alone(both())
    try:
        for step in steps:
            yield pairs[-1] if pairs else step
    finally:
        steps.close()


def _columns(
    lm: LanguageModel, result: Result | None, dense: Generated, pruned: Generated, running: bool
) -> tuple[str, str, str]:
    cursor = '<span class="wl-cursor" aria-hidden="true"></span>' if running else ""
    if result is None:
        left = texts.answer("dense", "Dense", texts.marked(dense.text, "", False) + cursor, _length(dense))
        right = texts.answer("pruned", "Pruned", _hint("Press Prune to make the pruned model; then it answers here."))
        return left, right, ""
    same = common_tokens(dense.tokens, pruned.tokens)
    parts = same < min(len(dense.tokens), len(pruned.tokens)) or (
        not running and len(dense.tokens) != len(pruned.tokens)
    )
    shared = lm.decode(dense.tokens[:same]) if same else ""
    left = texts.answer(
        "dense", "Dense", texts.marked(dense.text, shared, parts) + cursor, _length(dense), result.dense.perplexity
    )
    right = texts.answer(
        "pruned",
        result.variant.spec.label,
        texts.marked(pruned.text, shared, parts) + cursor,
        _length(pruned),
        result.pruned.perplexity,
    )
    verdict = ""
    if parts:
        verdict = texts.sentence(
            f"The answers share their first {same} tokens and part at token {same + 1}, where it is marked."
            if same
            else "The answers part at the first token, where it is marked."
        )
    elif not running:
        verdict = texts.sentence(f"Both models give the same {same} tokens.")
    return left, right, verdict


def _length(answer: Generated) -> str:
    return f"{len(answer.tokens)} tokens"


def _hint(text: str) -> str:
    return texts.empty(text)


def _number(value: object) -> object:
    """A whole float from the browser as int; anything else is left for the engine to refuse."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
