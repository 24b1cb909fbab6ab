"""Perplexity by the reference protocol: windows of L tokens without overlap, the remainder dropped."""

import math
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.checks import MAX_SEQ_LEN, check_whole
from wanda_core.errors import InputError, ModelError
from wanda_core.machine.matmul import faster_linear
from wanda_core.model.devices import overflow_remedy
from wanda_core.model.language_model import LanguageModel
from wanda_core.progress import Progress, Steps, finish
from wanda_core.text.chats import Document, joined_tokens
from wanda_core.text.corpora import evaluation_text
from wanda_core.text.files import read_text
from wanda_core.text.windows import begin_token, begun

MAX_WINDOWS = 100_000
Text = str | Sequence[Document] | os.PathLike[str] | None
LOSS_CHUNK = 512  # positions whose float32 log-softmax is held at once


@dataclass(frozen=True)
class Perplexity:
    """exp of the mean cross-entropy in nats. tokens: positions that were predicted, windows · (L - 1);
    bos: whether the begin token stood before every window."""

    perplexity: float
    seq_len: int
    windows: int
    tokens: int
    bos: bool = False

    def to_dict(self) -> dict[str, float | int]:
        """The fields as plain values, for JSON."""
        return asdict(self)


def perplexity(
    lm: LanguageModel,
    text: Text = None,
    *,
    seq_len: int = 512,
    windows: int | None = None,
    bos: bool = False,
    on_progress: Callable[[Progress], object] | None = None,
) -> Perplexity:
    """Perplexity of a model on a text.

    text: the built-in evaluation text when None; documents, such as chats, are joined by blank lines, a Path is read;
    seq_len: L, tokens a window; windows: how many from the start, all when None; bos: put the begin token before every
    window, whose last token makes room.
    Raises InputError when the text does not fill one window.
    """
    return finish(perplexity_steps(lm, text, seq_len=seq_len, windows=windows, bos=bos), on_progress)


def perplexity_steps(
    lm: LanguageModel, text: Text = None, *, seq_len: int = 512, windows: int | None = None, bos: bool = False
) -> Steps[Perplexity]:
    """`perplexity` as a generator that yields progress."""
    growing = growing_perplexity(lm, text, seq_len=seq_len, windows=windows, bos=bos)
    count = next(growing).windows
    for index in range(count):
        yield Progress("perplexity", index, count, "windows")
        measured = next(growing)
    yield Progress("perplexity", count, count, "windows")
    return measured


@torch.no_grad()
def growing_perplexity(
    lm: LanguageModel, text: Text = None, *, seq_len: int = 512, windows: int | None = None, bos: bool = False
) -> Generator[Perplexity, None, None]:
    """Measure window by window: yields first what is to be measured, its perplexity NaN, then that of the windows so
    far. The last is `perplexity`. Raises what that raises, ModelError at the window whose predictions are not finite.
    """
    ids = token_windows(lm, text, seq_len, windows, bos)
    yield Perplexity(math.nan, seq_len, len(ids), len(ids) * (seq_len - 1), bos)
    total = 0.0
    for index, window in enumerate(ids, 1):
        total += _mean_cross_entropy(lm, window[None].to(lm.device))
        if not math.isfinite(total):
            raise ModelError(
                f"the model's predictions are not finite, so there is no perplexity; {overflow_remedy(lm.dtype)}"
            )
        yield Perplexity(_exp(total / index), seq_len, index, index * (seq_len - 1), bos)


@dataclass(frozen=True)
class Agreement:
    """How far one model's next-token distributions are from another's, mean over positions.

    kl: KL(other ‖ model) in nats; top1: share of positions where both find the same token likeliest; bos: whether the
    begin token stood before every window.
    """

    kl: float
    top1: float
    seq_len: int
    windows: int
    tokens: int
    bos: bool = False

    def to_dict(self) -> dict[str, float | int]:
        """The fields as plain values, for JSON."""
        return asdict(self)


def agreement(
    dense: LanguageModel,
    lm: LanguageModel,
    text: Text = None,
    *,
    seq_len: int = 512,
    windows: int | None = None,
    bos: bool = False,
    on_progress: Callable[[Progress], object] | None = None,
) -> Agreement:
    """How far `lm` predicts otherwise than `dense`, on the windows that `perplexity` reads.

    Raises InputError when the two do not share their tokens.
    """
    return finish(agreement_steps(dense, lm, text, seq_len=seq_len, windows=windows, bos=bos), on_progress)


@torch.no_grad()
def agreement_steps(
    dense: LanguageModel,
    lm: LanguageModel,
    text: Text = None,
    *,
    seq_len: int = 512,
    windows: int | None = None,
    bos: bool = False,
) -> Steps[Agreement]:
    """`agreement` as a generator that yields progress."""
    ids = token_windows(lm, text, seq_len, windows, bos)
    if not torch.equal(ids, token_windows(dense, text, seq_len, windows, bos)):
        raise InputError(
            f"{dense.title} and {lm.title} cut the text into different tokens, so their predictions cannot be "
            "compared; choose models with the same tokenizer"
        )
    divergence, same = 0.0, 0
    for index, window in enumerate(ids):
        yield Progress("agreement", index, len(ids), "windows")
        p, q = (_logits(model, window[None].to(model.device)) for model in (dense, lm))
        if p.shape != q.shape:
            raise InputError(
                f"{dense.title} predicts {p.shape[-1]} tokens and {lm.title} {q.shape[-1]}, so they cannot be "
                "compared; choose models with the same vocabulary"
            )
        for start in range(0, len(p), LOSS_CHUNK):
            part = slice(start, start + LOSS_CHUNK)
            ours, theirs = q[part].to(p.device).float(), p[part].float()
            divergence += kl_div(ours.log_softmax(-1), theirs.log_softmax(-1), log_target=True, reduction="sum").item()
            same += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
    yield Progress("agreement", len(ids), len(ids), "windows")
    positions = len(ids) * (seq_len - 1)
    if not math.isfinite(divergence):
        raise ModelError(f"predictions are not finite, so they cannot be compared; {overflow_remedy(lm.dtype)}")
    return Agreement(max(0.0, divergence / positions), same / positions, seq_len, len(ids), positions, bos)


def token_windows(lm: LanguageModel, text: Text, seq_len: int, windows: int | None, bos: bool = False) -> Tensor:
    """The windows of a text, the built-in one when None. bos: with the begin token before each. -> int64 (K, L)."""
    check_whole("seq_len", seq_len, 2, MAX_SEQ_LEN)
    lm.check_length(seq_len)
    if bos:
        begin_token(lm)
    if text is None:
        text = read_text(BUILTIN_EVALUATION)
    elif isinstance(text, os.PathLike):
        text = evaluation_text(text)
    tokens = joined_tokens(lm, text)
    available = len(tokens) // seq_len
    if not available:
        raise InputError(
            f"the text has {len(tokens)} tokens and one window takes {seq_len}; give a longer text or a smaller length"
        )
    wanted = available if windows is None else check_whole("windows", windows, 1, MAX_WINDOWS)
    count = min(available, wanted)
    ids = torch.tensor(tokens[: count * seq_len], dtype=torch.int64).reshape(count, seq_len)
    return begun(lm, ids) if bos else ids


def _mean_cross_entropy(lm: LanguageModel, ids: Tensor) -> float:
    """ids int64 (1, L) -> mean over the L - 1 predicted tokens, in nats."""
    logits = _logits(lm, ids)
    targets = ids[0, 1:]
    loss = 0.0
    for start in range(0, len(targets), LOSS_CHUNK):
        part = slice(start, start + LOSS_CHUNK)
        loss += cross_entropy(logits[part].float(), targets[part], reduction="sum").item()
    return loss / len(targets)


def _logits(lm: LanguageModel, ids: Tensor) -> Tensor:
    """ids int64 (1, L) -> what is predicted after each token but the last, (L - 1, V)."""
    with faster_linear(ids.device):
        return cast(Tensor, lm.model(ids, use_cache=False).logits[0, :-1])


def _exp(mean: float) -> float:
    return math.exp(mean) if mean < 700 else math.inf
