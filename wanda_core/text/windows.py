"""Windows of tokens, drawn from calibration text as the published code draws them, without padding."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wanda_core.assets import BUILTIN_CALIBRATION
from wanda_core.checks import DEFAULT_SAMPLES, DEFAULT_SEQ_LEN, MAX_SAMPLES, MAX_SEED, MAX_SEQ_LEN, check_whole
from wanda_core.errors import SHOWN, InputError
from wanda_core.model.language_model import LanguageModel
from wanda_core.text.files import read_text


@dataclass(frozen=True)
class Calibration:
    """Windows of tokens that input statistics are measured on.

    ids: int64 (N, L), on the CPU; source: where the text came from; seed: of the draw; n_tokens: of the whole text.
    """

    ids: Tensor
    source: str
    seed: int
    n_tokens: int

    @property
    def samples(self) -> int:
        """Number of windows, N."""
        return self.ids.shape[0]

    @property
    def seq_len(self) -> int:
        """Tokens in a window, L."""
        return self.ids.shape[1]

    @property
    def fingerprint(self) -> str:
        """sha256 of the drawn tokens: two calibrations with the same one give the same statistics."""
        return hashlib.sha256(self.ids.numpy().tobytes() + str(tuple(self.ids.shape)).encode()).hexdigest()


def draw(
    tokens: Sequence[int],
    *,
    samples: int = DEFAULT_SAMPLES,
    seq_len: int = DEFAULT_SEQ_LEN,
    seed: int = 0,
    source: str = "tokens",
) -> Calibration:
    """Draw `samples` windows of `seq_len` tokens at random places of one long text, as the published code does.

    Raises InputError for a text that is too short or a number out of range.
    """
    check_whole("samples", samples, 1, MAX_SAMPLES)
    check_whole("seq_len", seq_len, 2, MAX_SEQ_LEN)
    check_whole("seed", seed, 0, MAX_SEED)
    if len(tokens) < seq_len + 1:
        raise InputError(
            f"the calibration text ({source[:SHOWN]}) has {len(tokens)} tokens and {seq_len + 1} are needed for "
            f"windows of {seq_len}; give a longer text or a smaller length"
        )
    rng = random.Random(seed)
    starts = [rng.randint(0, len(tokens) - seq_len - 1) for _ in range(samples)]
    ids = torch.tensor([list(tokens[start : start + seq_len]) for start in starts], dtype=torch.int64)
    return Calibration(ids, source, seed, len(tokens))


def draw_from_documents(
    lm: LanguageModel,
    documents: Sequence[str],
    *,
    samples: int = DEFAULT_SAMPLES,
    seq_len: int = DEFAULT_SEQ_LEN,
    seed: int = 0,
    source: str = "documents",
) -> Calibration:
    """Draw `samples` windows, each from a random document longer than `seq_len` tokens, as the published code does
    with C4.

    Raises InputError when no document is long enough, or a number is out of range.
    """
    check_whole("samples", samples, 1, MAX_SAMPLES)
    check_whole("seq_len", seq_len, 2, MAX_SEQ_LEN)
    check_whole("seed", seed, 0, MAX_SEED)
    rng = random.Random(seed)
    too_short: set[int] = set()  # so that the search ends where no document is long enough
    windows: list[list[int]] = []
    n_tokens = 0
    while len(windows) < samples:
        if len(too_short) == len(documents):
            raise InputError(
                f"none of the {len(documents)} documents of {source[:SHOWN]} has more than {seq_len} tokens, so no "
                f"window of {seq_len} can be drawn; choose a smaller length or longer documents"
            )
        index = rng.randint(0, len(documents) - 1)
        if index in too_short:
            continue
        tokens = lm.encode(documents[index])
        if len(tokens) <= seq_len:
            too_short.add(index)
            continue
        start = rng.randint(0, len(tokens) - seq_len - 1)
        windows.append(tokens[start : start + seq_len])
        n_tokens += len(tokens)
    return Calibration(torch.tensor(windows, dtype=torch.int64), source, seed, n_tokens)


def calibrate(
    lm: LanguageModel,
    text: str | Sequence[str] | None = None,
    *,
    samples: int = DEFAULT_SAMPLES,
    seq_len: int = DEFAULT_SEQ_LEN,
    seed: int = 0,
    source: str | None = None,
) -> Calibration:
    """Tokenise a text and draw windows from it; of several documents, each window lies within one.

    text: one long text, or documents; the built-in text by default. source: what to call it in reports.
    Raises InputError for a text that is too short, a number out of range, or windows longer than the model can read.
    """
    if text is None:
        text, source = read_text(BUILTIN_CALIBRATION), source or "built-in text"
    settings: dict[str, Any] = {"samples": samples, "seq_len": seq_len, "seed": seed, "source": source or "given text"}
    if isinstance(text, str):
        calibration = draw(lm.encode(text), **settings)
    else:
        calibration = draw_from_documents(lm, text, **settings)
    lm.check_length(seq_len)
    return calibration
