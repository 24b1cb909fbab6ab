"""The same measurement with the model changed in several ways: perplexity and, when asked for, a generated line.

A change is on only while the model computes: between two steps anybody may use the model and finds it as it was.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar, cast

from wanda_core.checks import check_whole
from wanda_core.errors import InputError
from wanda_core.evaluation.generation import greedy_steps, prompt_ids
from wanda_core.evaluation.perplexity import Perplexity, Text, perplexity_steps
from wanda_core.model.language_model import LanguageModel
from wanda_core.progress import Progress, Stage, Steps, inside

LEAST_DRAWS, MOST_DRAWS = 5, 50  # fewer draws show no spread
MAX_PROMPT_TOKENS = 256  # every token of a line is a pass over all before it
LINE_TOKENS, MAX_LINE_TOKENS = 24, 128

T = TypeVar("T")
Change = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Intervention:
    """name: what progress calls it; change: makes a context in which the model runs changed."""

    name: str
    change: Change = nullcontext


@dataclass(frozen=True)
class Outcome:
    """Measurement under one intervention. line: what the changed model writes after the prompt, None without one."""

    perplexity: Perplexity
    line: str | None


def interventions_steps(
    lm: LanguageModel,
    text: Text,
    interventions: Sequence[Intervention],
    *,
    stage: Stage,
    seq_len: int = 512,
    windows: int = 8,
    prompt: str | None = None,
    line_tokens: int = LINE_TOKENS,
) -> Steps[list[Outcome]]:
    """Measure under each intervention. -> outcomes in order. Raises InputError for a bad prompt, before any is run."""
    if prompt is not None:
        check_prompt(lm, prompt, line_tokens)
    outcomes = []
    for number, intervention in enumerate(interventions):
        outer = Progress(stage, number, len(interventions), "settings", intervention.name)
        measuring = changed_steps(perplexity_steps(lm, text, seq_len=seq_len, windows=windows), intervention.change)
        if prompt is None:
            outcomes.append(Outcome((yield from inside(measuring, outer)), None))
            continue
        measured = yield from inside(inside(measuring, Progress("perplexity", 0, 2, "parts")), outer)
        writing = changed_steps(greedy_steps(lm, prompt, line_tokens), intervention.change)
        line = yield from inside(inside(writing, Progress("line", 1, 2, "parts")), outer)
        outcomes.append(Outcome(measured, line))
    return outcomes


def check_prompt(lm: LanguageModel, prompt: str, line_tokens: int) -> None:
    """Raise InputError for a prompt that is empty or too long, or a length out of range."""
    check_whole("line_tokens", line_tokens, 1, MAX_LINE_TOKENS)
    length = prompt_ids(lm, prompt, chat=False).shape[1]
    if length > MAX_PROMPT_TOKENS:
        raise InputError(
            f"the prompt has {length:,} tokens and {MAX_PROMPT_TOKENS} are read at most for a line; shorten it"
        )


def changed_steps(steps: Steps[T], change: Change) -> Steps[T]:
    """The same job with the change on during each of its steps, and off between them and after the last."""
    try:
        while True:
            try:
                with change():
                    step = next(steps)
            except StopIteration as stop:
                return cast(T, stop.value)
            yield step
    finally:
        steps.close()


def spread(perplexities: Iterable[float]) -> tuple[float, float]:
    """The smallest and the largest."""
    values = list(perplexities)
    return min(values), max(values)
