"""Text from a model, streamed token by token, repeatable and stoppable."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from wanda_core.checks import MAX_SEED, check_whole
from wanda_core.errors import InputError, ModelError, WandaError, first_line, shortened
from wanda_core.evaluation.next_logits import next_logits
from wanda_core.model.chat_template import TemplateError, in_template
from wanda_core.model.devices import overflow_remedy
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.tokenizer import text_of
from wanda_core.progress import Progress, Steps

MAX_NEW_TOKENS = 1024
MAX_PROMPT_CHARACTERS = 20_000
MAX_TEMPERATURE = 5.0


@dataclass(frozen=True)
class Generated:
    """The answer so far.

    tokens: new token ids; text: those tokens decoded, as far as no later token changes it; pieces: what each token
    added to the text, which is nothing for a special token or a part of a letter; probabilities: of each token, 0 to 1,
    by the model itself, at temperature 1 whatever the temperature of the draw.
    """

    text: str
    tokens: tuple[int, ...]
    pieces: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()


def generate(
    lm: LanguageModel,
    prompt: str,
    *,
    max_new_tokens: int = 40,
    temperature: float = 0.0,
    seed: int = 0,
    chat: bool = False,
) -> Generator[Generated, None, None]:
    """Yield the growing answer after every token; each is computed when it is asked for, in the thread that asks.

    Of a long prompt, an answer without tokens comes after each piece that has been read.

    temperature: 0 is greedy, the likeliest token whatever the checkpoint's generation settings say. seed: the same
    seed draws the same noise for every model, so that two answers differ because the models do. chat: put the prompt
    into the model's chat template. An answer ends with one of the checkpoint's end tokens or stop strings.

    Answers of several models may be asked for in turns, and of one model too. An answer that is closed runs nothing
    more.
    Raises InputError, at the call, for an empty or too long prompt or a number out of range; ModelError, at a token,
    when the model fails or its predictions are not finite.
    """
    check_settings(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    ids = prompt_ids(lm, prompt, chat=chat)
    return _answer(lm, ids, _room(lm, ids, max_new_tokens), _Choice(lm, float(temperature), seed))


@torch.no_grad()
def greedy_steps(lm: LanguageModel, prompt: str, max_new_tokens: int = 24) -> Steps[str]:
    """The likeliest continuation of a short prompt as a job that yields progress after every token.

    The same text as `generate` at temperature 0, but every token is one pass over all before it, without a cache and
    in the caller's thread: a change of the model can be on during a step alone, and every pass begins at the first
    token.
    """
    ids = prompt_ids(lm, prompt, chat=False).to(lm.device)
    length = _room(lm, ids, check_whole("max_new_tokens", max_new_tokens, 1, MAX_NEW_TOKENS))
    likeliest, ends = _Choice(lm), _Ends(lm)
    made: list[int] = []
    while len(made) < length and not ends.reached(made):
        yield Progress("line", len(made), length, "tokens")
        token = likeliest(lm.model(ids, use_cache=False).logits[0, -1].float())
        ids = torch.cat([ids, token.reshape(1, 1).to(ids.device)], dim=1)
        made.append(int(token))
    yield Progress("line", length, length, "tokens")
    return lm.decode(made)


def check_settings(*, max_new_tokens: object, temperature: object, seed: object) -> None:
    """Raise InputError for a number that `generate` does not take. Needs no model, as `check_prompt` does not."""
    check_whole("max_new_tokens", max_new_tokens, 1, MAX_NEW_TOKENS)
    check_whole("seed", seed, 0, MAX_SEED)
    number = isinstance(temperature, (int, float)) and not isinstance(temperature, bool)
    if not number or not 0 <= temperature <= MAX_TEMPERATURE:  # type: ignore[operator]
        raise InputError(
            f"temperature {shortened(temperature)} is not a number from 0 to {MAX_TEMPERATURE:g}; 0 is greedy"
        )


def check_prompt(prompt: object) -> None:
    """Raise InputError for a prompt that no model takes: no text, blank, too long, or not UTF-8."""
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError("the prompt is empty; write something for the model to continue")
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise InputError(
            f"the prompt has {len(prompt):,} characters and {MAX_PROMPT_CHARACTERS:,} are read at most; shorten it"
        )
    try:
        prompt.encode()
    except UnicodeEncodeError as error:  # half of a pair of surrogates, as a shell may hand over what is not UTF-8
        raise InputError(f"the prompt is not UTF-8 text (character {error.start}); write it in UTF-8") from error


def prompt_ids(lm: LanguageModel, prompt: str, *, chat: bool) -> Tensor:
    """The prompt's tokens, int64 (1, L), with the chat template when asked for and there is one.

    Raises InputError for a prompt that cannot be read, ModelError for a template that fails.
    """
    check_prompt(prompt)
    if chat and lm.tokenizer.chat_template:
        try:
            text = in_template(lm.tokenizer, [{"role": "user", "content": prompt}], answer_follows=True)
        except (TemplateError, ValueError) as error:  # a template is a program of the model's author
            raise ModelError(
                f"the model's chat template failed ({first_line(error)}); switch the template off"
            ) from error
        tokens = lm.encode(text, special=False)
    else:
        tokens = lm.encode(prompt)
    if not tokens:
        raise InputError("the prompt has nothing that the model's tokenizer knows; write something else")
    return torch.tensor([tokens], dtype=torch.int64)


def _room(lm: LanguageModel, ids: Tensor, wanted: int) -> int:
    """How many tokens can follow a prompt, `wanted` at most. Raises InputError where there is room for none."""
    most, given = lm.longest, ids.shape[1]
    if most is None:
        return wanted
    if given >= most:
        raise InputError(f"the prompt has {given} tokens, and the model reads {most - 1} at most; shorten it")
    return min(wanted, most - given)


def common_tokens(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two answers share from the start."""
    for index, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return index
    return min(len(first), len(second))


class _Choice:
    """The next token of logits float32 (V,): the likeliest, or drawn from softmax(logits / T).

    The largest of logits + T · Gumbel noise is exactly such a draw. The noise comes from a generator of its own, so
    that two models may draw at the same time.
    """

    def __init__(self, lm: LanguageModel, temperature: float = 0.0, seed: int = 0) -> None:
        self.remedy = overflow_remedy(lm.dtype)
        self.temperature = temperature
        self.noise = torch.Generator().manual_seed(seed)

    def __call__(self, logits: Tensor) -> Tensor:
        """Choose. -> int64 (). Raises ModelError where a logit is NaN or infinity, or all are minus infinity."""
        scores = logits
        if self.temperature:
            uniform = torch.rand(logits.shape, generator=self.noise, dtype=torch.float64).clamp_min(1e-300)
            noise = -torch.log(-torch.log(uniform))
            scores = logits + (self.temperature * noise).to(logits.device, logits.dtype)
        token = scores.argmax()
        if not math.isfinite(scores[token]):  # NaN counts as the largest
            raise ModelError(f"the model's predictions are not finite, so it cannot write; {self.remedy}")
        return token


class _Ends:
    """What ends an answer: the checkpoint's end tokens and stop strings."""

    def __init__(self, lm: LanguageModel) -> None:
        settings = getattr(lm.model, "generation_config", None)
        self.tokenizer = lm.tokenizer
        ends, strings = (_listed(getattr(settings, name, None)) for name in ("eos_token_id", "stop_strings"))
        self.tokens = {token for token in ends if isinstance(token, int)}
        self.strings = [text for text in strings if isinstance(text, str) and text]

    def reached(self, made: list[int]) -> bool:
        """Whether the last of these tokens ends the answer."""
        if not made or not self.strings:
            return bool(made) and made[-1] in self.tokens
        # A stop string is often a special token, which the answer's own text leaves out.
        text = text_of(self.tokenizer, made, special=True)
        return made[-1] in self.tokens or any(string in text for string in self.strings)


def _listed(value: object) -> list[Any]:
    """A setting that may be None, one value or a list of them, as a list."""
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]


def _answer(lm: LanguageModel, ids: Tensor, length: int, choose: _Choice) -> Generator[Generated, None, None]:
    """Write up to `length` tokens after a prompt, int64 (1, L)."""
    ends = _Ends(lm)
    made: list[int] = []
    pieces: list[str] = []
    probabilities: list[float] = []
    text = ""
    try:
        steps = next_logits(lm, ids, length)
        logits = next(steps)
        while logits is None:  # a piece of a long prompt
            yield Generated("", ())
            logits = next(steps)
        while True:
            token = choose(logits)
            made.append(int(token))
            probabilities.append(float(logits.softmax(dim=-1)[token]))
            last = len(made) == length or ends.reached(made)
            pieces.append(_added(text, lm.decode(made), last))
            text += pieces[-1]
            yield Generated(text, tuple(made), tuple(pieces), tuple(probabilities))
            if last:
                return
            logits = cast(Tensor, steps.send(token))
    except WandaError:
        raise
    except Exception as error:
        raise ModelError(f"the model failed while generating: {first_line(error)}; choose another model") from error


def _added(shown: str, text: str, last: bool) -> str:
    """What a longer text adds to what was shown.

    The bytes of one character may lie in several tokens, and decode to U+FFFD until they are complete; these wait.
    """
    settled = text if last else text.rstrip("\ufffd")
    return settled[len(shown) :]
