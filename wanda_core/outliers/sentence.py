"""A short text through the model: what every block hands on, and how attention looks back at the first token."""

import math
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from wanda_core.errors import InputError, ModelError
from wanda_core.model.devices import overflow_remedy
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import decoder_blocks
from wanda_core.model.tokenizer import text_of
from wanda_core.outliers.hooks import attention_weights, eager_attention
from wanda_core.progress import Progress, Steps, finish

MAX_SENTENCE_TOKENS = 256  # a picture has room for no more
MAX_SENTENCE_CHARACTERS = 10_000  # refused before it is cut into tokens
Change = Callable[[], AbstractContextManager[None]]
PIECES = 8  # tokens a single character may be cut into


@dataclass(frozen=True)
class Sentence:
    """Hidden states and attention of one text of L tokens. B blocks, H heads, S channels of the residual stream.

    tokens: readable texts of the L tokens; hidden: (B, L, S) every block's output, float32 on the CPU;
    to_first: (B, H) mean share of attention that the later tokens give to the first one, a row of NaN for a block
    without attention; None when no block has any, and why_no_attention says so.
    """

    text: str
    tokens: tuple[str, ...]
    hidden: Tensor
    to_first: Tensor | None
    why_no_attention: str = ""


def read_sentence(lm: LanguageModel, text: str, on_progress: Callable[[Progress], object] | None = None) -> Sentence:
    """Run the model over one short text.

    Raises InputError for an empty, too long or unreadable text, ModelError when values are not finite or the blocks
    do not read token by token.
    """
    return finish(read_sentence_steps(lm, text), on_progress)


@torch.no_grad()
def read_sentence_steps(lm: LanguageModel, text: str) -> Steps[Sentence]:
    """`read_sentence` as a generator that yields progress per block; between two steps the model is as it was."""
    tokens = sentence_tokens(lm, text)
    blocks = lm.walk("read")
    ids = torch.tensor([tokens], dtype=torch.int64, device=lm.device)
    yield Progress("sentence", 0, len(blocks), "blocks")
    with eager_attention(lm.model):
        calls, (x,) = blocks.start(ids)
    check_token_by_token(lm, lm.stream_of(x), tokens)
    hidden, looks = [], []
    for index, block, _ in blocks:
        yield Progress("sentence", index, len(blocks), "blocks")
        seen: list[Tensor] = []
        with eager_attention(lm.model), attention_weights(block, _looks_back(seen, len(tokens))):
            (x,) = blocks.carry([calls[index].run(block, x)])
        hidden.append(lm.stream_of(x)[0].float().cpu())
        looks.append(torch.cat(seen) if seen else torch.empty(0, dtype=torch.float32))
    yield Progress("sentence", len(blocks), len(blocks), "blocks")
    states = torch.stack(hidden)
    if not bool(torch.isfinite(states).all()):
        raise ModelError(f"the model's activations are not finite (NaN or infinity); {overflow_remedy(lm.dtype)}")
    why = ""
    if len(tokens) < 2:
        why = "The text is one token long, so no later token looks back at it."
    elif not any(len(look) for look in looks):
        why = f"{lm.title} hands on no attention weights: none of its blocks has softmax attention that can be read."
    return Sentence(text, token_texts(lm, tokens), states, None if why else _rows(looks), why)


@torch.no_grad()
def attention_to_first(lm: LanguageModel, text: str, change: Change = nullcontext) -> Tensor:
    """Mean share of attention that later tokens give to the first, in one pass of the whole model, changed or not.

    change: makes the context in which it runs. -> (B, H), as in `Sentence`. Raises InputError for a text that cannot be
    read, or of one token, or for a model without attention that can be read.
    """
    tokens = sentence_tokens(lm, text)
    _, blocks = decoder_blocks(lm.model)
    ids = torch.tensor([tokens], dtype=torch.int64, device=lm.device)
    looks: list[list[Tensor]] = [[] for _ in blocks]
    with ExitStack() as stack:
        stack.enter_context(eager_attention(lm.model))
        for block, seen in zip(blocks, looks, strict=True):
            stack.enter_context(attention_weights(block, _looks_back(seen, len(tokens))))
        stack.enter_context(change())
        lm.model(ids, use_cache=False)
    if not any(looks):
        raise InputError(
            f"{lm.title} hands on no attention weights for this text; choose another model or a longer text"
        )
    return _rows([torch.cat(seen) if seen else torch.empty(0, dtype=torch.float32) for seen in looks])


def sentence_tokens(lm: LanguageModel, text: str) -> list[int]:
    """The tokens of a text that is short and readable. Raises InputError otherwise."""
    if not isinstance(text, str) or not text.strip():
        raise InputError("the sentence is empty; write a few words")
    if len(text) > MAX_SENTENCE_CHARACTERS:
        raise InputError(
            f"the sentence has {len(text):,} characters and {MAX_SENTENCE_TOKENS} tokens are read at most; shorten it"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"character {error.start + 1} of the sentence is half of a character and cannot be read; remove it"
        ) from error
    tokens = lm.encode(text)
    if not tokens:
        raise InputError("the sentence gives no tokens in this model; write a few words")
    if len(tokens) > MAX_SENTENCE_TOKENS:
        raise InputError(
            f"the sentence has {len(tokens):,} tokens and {MAX_SENTENCE_TOKENS} are read at most; shorten it"
        )
    lm.check_length(len(tokens))
    return tokens


def check_token_by_token(lm: LanguageModel, stream: Tensor, tokens: Sequence[int]) -> None:
    """Raise ModelError for a model whose blocks read several tokens as one. stream: (1, L, S) that enters them."""
    if stream.shape[1] != len(tokens):
        raise ModelError(
            f"the blocks of {lm.title} read {stream.shape[1]} pieces where the sentence has {len(tokens)} tokens, so "
            "nothing can be told of a token; choose another model"
        )


def token_texts(lm: LanguageModel, tokens: Sequence[int]) -> tuple[str, ...]:
    """A readable text for every token; pieces of one character are told as `🙂 1/3`, `🙂 2/3`, `🙂 3/3`."""
    texts: list[str] = []
    while len(texts) < len(tokens):
        start = len(texts)
        run = 1
        for length in range(1, min(PIECES, len(tokens) - start) + 1):
            if "\ufffd" not in _decoded(lm, tokens[start : start + length]):
                run = length
                break
        shown = readable(_decoded(lm, tokens[start : start + run]))
        texts += [shown] if run == 1 else [f"{shown} {piece + 1}/{run}" for piece in range(run)]
    return tuple(texts)


def readable(text: str) -> str:
    """A token's text as it can stand on an axis: blanks and characters without a shape of their own are named."""
    stripped = text.strip(" ")
    if not stripped:
        return "␣" * len(text) or "(nothing)"
    names = {"\n": "⏎", "\t": "⇥"}
    return "".join(
        names.get(c, f"U+{ord(c):04X}" if unicodedata.category(c) in {"Cc", "Cf", "Zl", "Zp"} else c) for c in stripped
    )


def _decoded(lm: LanguageModel, tokens: Sequence[int]) -> str:
    return text_of(lm.tokenizer, tokens, special=True)


def _looks_back(seen: list[Tensor], length: int) -> Callable[[Tensor], None]:
    def look(weights: Tensor) -> None:
        """(1, H, L, L), rows the queries -> (H,) mean of the later queries' share for the first key."""
        if weights.shape[-1] == length and length > 1:
            seen.append(weights[0, :, 1:, 0].float().mean(dim=1).cpu())

    return look


def _rows(looks: list[Tensor]) -> Tensor:
    """Blocks may have other numbers of heads: NaN where there is none. -> (B, H)."""
    heads = max(len(look) for look in looks)
    return torch.stack(
        [torch.cat([look, torch.full((heads - len(look),), math.nan, dtype=torch.float32)]) for look in looks]
    )
