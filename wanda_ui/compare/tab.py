"""Compare: one prompt, two answers, streamed side by side."""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest

import gradio as gr

from wanda_core.errors import WandaError
from wanda_core.evaluation.generation import Generated, common_tokens, generate
from wanda_core.evaluation.perplexity import Perplexity
from wanda_core.model.language_model import LanguageModel
from wanda_core.progress import Progress, Steps
from wanda_ui import markup
from wanda_ui.app_state import AppState, Result
from wanda_ui.inputs import as_int
from wanda_ui.jobs import Stop
from wanda_ui.language import Say, label

PROMPT = "The sky is blue because"  # in English in every language: the built-in model speaks little else
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
    return CompareTab(prompt, chat, length, temperature, seed, button, dense, pruned, verdict)


def welcome(say: Say) -> tuple[str, str, str]:
    """The columns before anything is pruned."""
    return (
        markup.answer("dense", say("compare.dense"), markup.empty(say("compare.dense_hint"))),
        markup.answer("pruned", say("compare.pruned"), markup.empty(say("compare.pruned_hint"))),
        "",
    )


def invitation(result: Result, say: Say) -> tuple[str, str, str]:
    """The columns after a pruning and before a question."""
    ask = markup.empty(say("compare.ask"))
    return (
        markup.answer("dense", say("compare.dense"), ask, cost=_cost(result.dense, say)),
        markup.answer("pruned", result.variant.spec.label, ask, cost=_cost(result.pruned, say)),
        "",
    )


def answers(
    state: AppState,
    say: Say,
    stop: Stop,
    name: str,
    key: str,
    prompt: str,
    chat: bool,
    length: float,
    temperature: float,
    seed: float,
) -> Iterator[tuple[str, str, str]]:
    """Both answers as they grow. A variant that the server no longer keeps is said, and the dense one answers.

    stop: whether they are to end where they are.
    """
    result = state.results.get(key)
    try:
        steps = state.model_steps(name)
        while True:
            try:
                yield markup.progress(next(steps), say), "", ""
            except StopIteration as loaded:
                lm = loaded.value.lm
                break
            if stop() is not None:
                steps.close()
                yield welcome(say)
                return
        if result is not None and result.loaded.lm is not lm:
            result = None
        settings = {"max_new_tokens": as_int(length), "temperature": temperature, "seed": as_int(seed), "chat": chat}
        last: tuple[Generated, Generated] = (NOTHING, NOTHING)
        with closing(_turns(state, lm, result, prompt, settings)) as turns:
            for pair in turns:
                if stop() is not None:
                    yield _stopped(lm, result, last, say)
                    return
                if isinstance(pair, Progress):
                    yield markup.progress(pair, say), "", ""
                    continue
                last = pair
                yield _columns(lm, result, *pair, say, running=True)
        yield _columns(lm, result, *last, say, running=False)
    except WandaError as error:
        yield gr.skip(), gr.skip(), markup.problem(str(error))  # type: ignore[misc]


def _stopped(
    lm: LanguageModel, result: Result | None, last: tuple[Generated, Generated], say: Say
) -> tuple[str, str, str]:
    """The columns as far as they came; what differs later nobody knows."""
    if last == (NOTHING, NOTHING):
        return welcome(say) if result is None else invitation(result, say)
    dense, pruned, _ = _columns(lm, result, *last, say, running=False)
    return dense, pruned, ""


def _turns(
    state: AppState, lm: LanguageModel, result: Result | None, prompt: str, settings: dict
) -> Generator[Progress | tuple[Generated, Generated], None, None]:
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
                yield Progress("answering", len(pairs), settings["max_new_tokens"], "tokens")
        finally:
            for stream in streams:
                stream.close()  # type: ignore[attr-defined]

    steps = state.alone(both())
    try:
        for step in steps:
            yield pairs[-1] if pairs else step
    finally:
        steps.close()


def _columns(
    lm: LanguageModel, result: Result | None, dense: Generated, pruned: Generated, say: Say, running: bool
) -> tuple[str, str, str]:
    cursor = '<span class="wl-cursor" aria-hidden="true"></span>' if running else ""
    if result is None:
        left = markup.answer(
            "dense", say("compare.dense"), markup.marked(dense.text, "", "") + cursor, _length(dense, say)
        )
        return left, markup.answer("pruned", say("compare.pruned"), markup.empty(say("compare.prune_first"))), ""
    same = common_tokens(dense.tokens, pruned.tokens)
    parts = same < min(len(dense.tokens), len(pruned.tokens)) or (
        not running and len(dense.tokens) != len(pruned.tokens)
    )
    shared = lm.decode(dense.tokens[:same]) if same else ""
    mark = say("compare.mark") if parts else ""
    left, right = (
        markup.answer(which, title, markup.marked(one.text, shared, mark) + cursor, _length(one, say), _cost(cost, say))
        for which, title, one, cost in (
            ("dense", say("compare.dense"), dense, result.dense),
            ("pruned", result.variant.spec.label, pruned, result.pruned),
        )
    )
    verdict = ""
    if parts:
        verdict = say("compare.part", same=same, next=same + 1) if same else say("compare.part_at_once")
    elif not running:
        verdict = say("compare.same", same=same)
    return left, right, markup.sentence(verdict) if verdict else ""


def _length(answer: Generated, say: Say) -> str:
    return say("compare.tokens", count=len(answer.tokens))


def _cost(found: Perplexity, say: Say) -> str:
    return say("compare.perplexity", value=markup.number(found.perplexity))
