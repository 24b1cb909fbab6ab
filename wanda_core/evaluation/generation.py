"""Text from a model, streamed token by token, repeatable and stoppable."""

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from wanda_core.checks import MAX_SEED, check_whole
from wanda_core.errors import InputError, ModelError, first_line
from wanda_core.model.language_model import LanguageModel
from wanda_core.progress import Progress, Steps

MAX_NEW_TOKENS = 1024
MAX_PROMPT_CHARACTERS = 20_000
MAX_TEMPERATURE = 5.0


@dataclass(frozen=True)
class Generated:
    """The answer so far. tokens: new token ids; text: those tokens decoded."""

    text: str
    tokens: tuple[int, ...]


def generate(
    lm: LanguageModel,
    prompt: str,
    *,
    max_new_tokens: int = 40,
    temperature: float = 0.0,
    seed: int = 0,
    chat: bool = False,
) -> Iterator[Generated]:
    """Yield the growing answer after every token; closing the iterator stops the model.

    temperature: 0 is greedy. seed: the same seed draws the same noise for every model, so that two
    answers differ because the models do. chat: put the prompt into the model's chat template.
    Raises InputError for an empty or too long prompt or a number out of range.
    """
    ids = prompt_ids(lm, prompt, chat=chat)
    check_whole("max_new_tokens", max_new_tokens, 1, MAX_NEW_TOKENS)
    check_whole("seed", seed, 0, MAX_SEED)
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float)) or not 0 <= temperature <= 5:
        raise InputError(f"temperature {temperature!r} is not a number from 0 to {MAX_TEMPERATURE:g}; 0 is greedy")
    return _stream(lm, ids, _room(lm, ids, max_new_tokens), float(temperature), seed)


@torch.no_grad()
def greedy_steps(lm: LanguageModel, prompt: str, max_new_tokens: int = 24) -> Steps[str]:
    """The likeliest continuation of a short prompt as a job that yields progress after every token.

    The same text as `generate` at temperature 0, but every token is one pass over all before it, without a cache and
    in the caller's thread: a change of the model can be on during a step alone, and every pass begins at the first
    token.
    """
    ids = prompt_ids(lm, prompt, chat=False).to(lm.device)
    length = _room(lm, ids, check_whole("max_new_tokens", max_new_tokens, 1, MAX_NEW_TOKENS))
    ends = getattr(getattr(lm.model, "generation_config", None), "eos_token_id", None)
    ends = set(ends if isinstance(ends, list) else [ends])
    made: list[int] = []
    while len(made) < length and not (made and made[-1] in ends):
        yield Progress("line", len(made), length, "tokens")
        token = lm.model(ids, use_cache=False).logits[0, -1].argmax()
        ids = torch.cat([ids, token.reshape(1, 1)], dim=1)
        made.append(int(token))
    yield Progress("line", length, length, "tokens")
    return lm.decode(made)


def _room(lm: LanguageModel, ids: Tensor, wanted: int) -> int:
    """How many tokens can follow a prompt, `wanted` at most. Raises InputError where there is room for none."""
    room = (getattr(lm.model.config, "max_position_embeddings", None) or ids.shape[1] + wanted) - ids.shape[1]
    if room < 1:
        raise InputError(
            f"the prompt has {ids.shape[1]} tokens, and the model reads {ids.shape[1] + room - 1} at most; shorten it"
        )
    return min(wanted, room)


def prompt_ids(lm: LanguageModel, prompt: str, *, chat: bool) -> Tensor:
    """The prompt's tokens, int64 (1, L), with the chat template when asked for and there is one."""
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError("the prompt is empty; write something for the model to continue")
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise InputError(
            f"the prompt has {len(prompt):,} characters and {MAX_PROMPT_CHARACTERS:,} are read at most; shorten it"
        )
    if chat and lm.tokenizer.chat_template:
        try:
            text = lm.tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
            )
        except Exception as error:  # a template is a program of the model's author
            raise ModelError(
                f"the model's chat template failed ({first_line(error)}); switch the template off"
            ) from error
        tokens = lm.tokenizer(str(text), add_special_tokens=False)["input_ids"]
    else:
        tokens = lm.encode(prompt)
    return torch.tensor([tokens], dtype=torch.int64)


def common_tokens(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two answers share from the start."""
    for index, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return index
    return min(len(first), len(second))


class _Stop(StoppingCriteria):
    def __init__(self) -> None:
        self.event = threading.Event()

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: object) -> Tensor:
        return torch.full((input_ids.shape[0],), self.event.is_set(), dtype=torch.bool, device=input_ids.device)


class _Gumbel(LogitsProcessor):
    """Greedy choice over logits/T + Gumbel noise is exactly a draw from softmax(logits/T), with noise of
    our own generator: nothing global, so two models may draw at the same time."""

    def __init__(self, temperature: float, seed: int) -> None:
        self.temperature = temperature
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        uniform = torch.rand(scores.shape, generator=self.generator, dtype=torch.float64).clamp_min(1e-300)
        noise = -torch.log(-torch.log(uniform))
        return scores / self.temperature + noise.to(scores.device, scores.dtype)


class _Tokens(BaseStreamer):
    def __init__(self) -> None:
        self.queue: queue.Queue[int | Exception | None] = queue.Queue()
        self.prompt_seen = False

    def put(self, value: Tensor) -> None:
        if not self.prompt_seen:
            self.prompt_seen = True
            return
        for token in value.flatten().tolist():
            self.queue.put(token)

    def end(self) -> None:
        """The thread says when it is over, after an exception too."""


def _stream(lm: LanguageModel, ids: Tensor, length: int, temperature: float, seed: int) -> Iterator[Generated]:
    stop, tokens = _Stop(), _Tokens()
    noise = LogitsProcessorList([_Gumbel(temperature, seed)] if temperature else [])

    def work() -> None:
        try:
            lm.model.generate(  # type: ignore[operator]
                ids.to(lm.device),
                attention_mask=torch.ones_like(ids).to(lm.device),
                max_new_tokens=length,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                num_beams=1,
                logits_processor=noise,
                stopping_criteria=StoppingCriteriaList([stop]),
                streamer=tokens,
                pad_token_id=lm.tokenizer.pad_token_id,
            )
            tokens.queue.put(None)
        except Exception as error:
            tokens.queue.put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    made: list[int] = []
    try:
        while (item := tokens.queue.get()) is not None:
            if isinstance(item, Exception):
                raise ModelError(f"the model failed while generating: {first_line(item)}") from item
            made.append(item)
            yield Generated(lm.decode(made), tuple(made))
    finally:
        stop.event.set()
        thread.join()
