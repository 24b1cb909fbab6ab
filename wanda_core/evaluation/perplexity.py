"""Perplexity by the reference protocol: windows of L tokens without overlap, the remainder dropped."""

import math
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.checks import MAX_SEQ_LEN, check_whole
from wanda_core.errors import InputError, ModelError
from wanda_core.machine.matmul import FasterLinear
from wanda_core.model.devices import overflow_remedy
from wanda_core.model.language_model import LanguageModel
from wanda_core.progress import Progress, Steps, finish
from wanda_core.text.files import read_text

MAX_WINDOWS = 100_000
LOSS_CHUNK = 512  # positions whose float32 log-softmax is held at once


@dataclass(frozen=True)
class Perplexity:
    """exp of the mean cross-entropy in nats. tokens: positions that were predicted, windows · (L - 1)."""

    perplexity: float
    seq_len: int
    windows: int
    tokens: int

    def to_dict(self) -> dict[str, float | int]:
        """The fields as plain values, for JSON."""
        return asdict(self)


def perplexity(
    lm: LanguageModel,
    text: str | None = None,
    *,
    seq_len: int = 512,
    windows: int | None = None,
    on_progress: Callable[[Progress], object] | None = None,
) -> Perplexity:
    """Perplexity of a model on a text.

    text: the built-in evaluation text when None; seq_len: L, tokens a window; windows: how many from the start, all
    when None.
    Raises InputError when the text does not fill one window.
    """
    return finish(perplexity_steps(lm, text, seq_len=seq_len, windows=windows), on_progress)


def perplexity_steps(
    lm: LanguageModel, text: str | None = None, *, seq_len: int = 512, windows: int | None = None
) -> Steps[Perplexity]:
    """`perplexity` as a generator that yields progress."""
    growing = growing_perplexity(lm, text, seq_len=seq_len, windows=windows)
    count = next(growing).windows
    for index in range(count):
        yield Progress("perplexity", index, count, "windows")
        measured = next(growing)
    yield Progress("perplexity", count, count, "windows")
    return measured


@torch.no_grad()
def growing_perplexity(
    lm: LanguageModel, text: str | None = None, *, seq_len: int = 512, windows: int | None = None
) -> Generator[Perplexity, None, None]:
    """Measure window by window: yields first what is to be measured, its perplexity NaN, then that of the windows so
    far. The last is `perplexity`. Raises what that raises, ModelError at the window whose predictions are not finite.
    """
    ids = token_windows(lm, text, seq_len, windows)
    yield Perplexity(math.nan, seq_len, len(ids), len(ids) * (seq_len - 1))
    total = 0.0
    for index, window in enumerate(ids, 1):
        total += _mean_cross_entropy(lm, window[None].to(lm.device))
        if not math.isfinite(total):
            raise ModelError(
                f"the model's predictions are not finite, so there is no perplexity; {overflow_remedy(lm.dtype)}"
            )
        yield Perplexity(_exp(total / index), seq_len, index, index * (seq_len - 1))


@dataclass(frozen=True)
class Agreement:
    """How far one model's next-token distributions are from another's, mean over positions.

    kl: KL(other ‖ model) in nats; top1: share of positions where both find the same token likeliest.
    """

    kl: float
    top1: float
    seq_len: int
    windows: int
    tokens: int

    def to_dict(self) -> dict[str, float | int]:
        """The fields as plain values, for JSON."""
        return asdict(self)


def agreement(
    dense: LanguageModel,
    lm: LanguageModel,
    text: str | None = None,
    *,
    seq_len: int = 512,
    windows: int | None = None,
    on_progress: Callable[[Progress], object] | None = None,
) -> Agreement:
    """How far `lm` predicts otherwise than `dense`, on the windows that `perplexity` reads.

    Raises InputError when the two do not share their tokens.
    """
    return finish(agreement_steps(dense, lm, text, seq_len=seq_len, windows=windows), on_progress)


@torch.no_grad()
def agreement_steps(
    dense: LanguageModel,
    lm: LanguageModel,
    text: str | None = None,
    *,
    seq_len: int = 512,
    windows: int | None = None,
) -> Steps[Agreement]:
    """`agreement` as a generator that yields progress."""
    ids = token_windows(lm, text, seq_len, windows)
    if not torch.equal(ids, token_windows(dense, text, seq_len, windows)):
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
    return Agreement(max(0.0, divergence / positions), same / positions, seq_len, len(ids), positions)


def token_windows(lm: LanguageModel, text: str | None, seq_len: int, windows: int | None) -> Tensor:
    """The windows of a text, the built-in one when None. -> int64 (K, L)."""
    check_whole("seq_len", seq_len, 2, MAX_SEQ_LEN)
    lm.check_length(seq_len)
    tokens = lm.encode(read_text(BUILTIN_EVALUATION) if text is None else text)
    available = len(tokens) // seq_len
    if not available:
        raise InputError(
            f"the text has {len(tokens)} tokens and one window takes {seq_len}; give a longer text or a smaller length"
        )
    wanted = available if windows is None else check_whole("windows", windows, 1, MAX_WINDOWS)
    count = min(available, wanted)
    return torch.tensor(tokens[: count * seq_len], dtype=torch.int64).reshape(count, seq_len)


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
    with FasterLinear():
        return cast(Tensor, lm.model(ids, use_cache=False).logits[0, :-1])


def _exp(mean: float) -> float:
    return math.exp(mean) if mean < 700 else math.inf
