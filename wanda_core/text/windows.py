"""Windows of tokens, drawn from calibration text as the published code draws them, without padding."""

import hashlib
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from wanda_core.assets import BUILTIN_CALIBRATION
from wanda_core.checks import DEFAULT_SAMPLES, DEFAULT_SEQ_LEN, MAX_SAMPLES, MAX_SEED, MAX_SEQ_LEN, check_whole
from wanda_core.errors import SHOWN, InputError
from wanda_core.model.language_model import LanguageModel
from wanda_core.text.chats import Document, checked_documents, joined_tokens, tokens_of
from wanda_core.text.corpora import calibration_text, name_of
from wanda_core.text.files import read_text


@dataclass(frozen=True)
class Calibration:
    """Windows of tokens that input statistics are measured on.

    ids: int64 (N, L), on the CPU; source: where the text came from; seed: of the draw; n_tokens: of the whole text;
    bos: whether each window was given the begin token; packed: whether documents were joined.
    """

    ids: Tensor
    source: str
    seed: int
    n_tokens: int
    bos: bool = False
    packed: bool = False

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
        """sha256 of the drawn tokens, begin tokens and all: two calibrations with the same one give the same
        statistics."""
        return fingerprint(self.ids)


def fingerprint(ids: Tensor) -> str:
    """Return the sha256 of windows of tokens, int64 (N, L), on the CPU."""
    return hashlib.sha256(ids.numpy().tobytes() + str(tuple(ids.shape)).encode()).hexdigest()


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
    documents: Sequence[Document],
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
    known: dict[int, list[int]] = {}  # a long one may be drawn for every window
    windows: list[list[int]] = []
    n_tokens = 0
    while len(windows) < samples:
        if len(too_short) == len(documents):
            raise InputError(
                f"none of the {len(documents)} documents of {source[:SHOWN]} has more than {seq_len} tokens, so no "
                f"window of {seq_len} can be drawn; join them (--pack), or choose a smaller length or longer documents"
            )
        index = rng.randint(0, len(documents) - 1)
        if index in too_short:
            continue
        if index not in known:
            known[index] = tokens_of(lm, documents[index])
        tokens = known[index]
        if len(tokens) <= seq_len:
            too_short.add(index)
            del known[index]
            continue
        start = rng.randint(0, len(tokens) - seq_len - 1)
        windows.append(tokens[start : start + seq_len])
        n_tokens += len(tokens)
    return Calibration(torch.tensor(windows, dtype=torch.int64), source, seed, n_tokens)


def calibrate(
    lm: LanguageModel,
    text: str | Sequence[Document] | os.PathLike[str] | None = None,
    *,
    samples: int = DEFAULT_SAMPLES,
    seq_len: int = DEFAULT_SEQ_LEN,
    seed: int = 0,
    source: str | None = None,
    pack: bool | None = None,
    bos: bool = False,
) -> Calibration:
    """Tokenise a text and draw windows from it; of several documents, each window lies within one.

    text: one long text, documents (texts, or chats as lists of messages), or a Path that they are read from; the
    built-in text by default. source: what to call it in reports. pack: join all documents, so that a window may span
    several; by default only where none is long enough for a window. bos: put the begin token before every window.
    Raises InputError for a text that is too short, a number out of range, windows longer than the model can read, and
    a begin token that the model does not have.
    """
    if text is None:
        text, source = read_text(BUILTIN_CALIBRATION), source or "built-in text"
    elif isinstance(text, os.PathLike):
        source = source or name_of(text)
        text = calibration_text(text)
    if bos:
        begin_token(lm)
    settings: dict[str, Any] = {"samples": samples, "seq_len": seq_len, "seed": seed, "source": source or "given text"}
    if isinstance(text, str):
        calibration = draw(lm.encode(text), **settings)
    elif pack or (pack is None and _all_short(lm, checked_documents(text), seq_len)):
        calibration = replace(draw(packed_tokens(lm, text), **settings), packed=True)
    else:
        calibration = draw_from_documents(lm, text, **settings)
    lm.check_length(seq_len)
    return replace(calibration, ids=begun(lm, calibration.ids), bos=True) if bos else calibration


def _all_short(lm: LanguageModel, documents: Sequence[Document], seq_len: int) -> bool:
    """Tell whether no document has more tokens than a window, yet there is more than one."""
    check_whole("seq_len", seq_len, 2, MAX_SEQ_LEN)
    return len(documents) > 1 and all(len(tokens_of(lm, document)) <= seq_len for document in documents)


def packed_tokens(lm: LanguageModel, documents: Sequence[Document]) -> list[int]:
    """Join documents: the end token stands between two, or a blank line where the tokenizer has none."""
    end = lm.tokenizer.eos_token_id
    filled = [
        document for document in checked_documents(documents) if not isinstance(document, str) or document.strip()
    ]
    if end is None:
        return joined_tokens(lm, filled)
    tokens: list[int] = []
    for document in filled:
        if tokens and tokens[-1] != end:  # some tokenizers and templates put it there themselves
            tokens.append(end)
        tokens += tokens_of(lm, document)
    return tokens


def begin_token(lm: LanguageModel) -> int:
    """Return the id of the token that begins a text. Raises InputError for a model that has none."""
    begin = lm.tokenizer.bos_token_id
    if begin is None:
        raise InputError(
            f"{lm.title} has no begin token, so none can stand before a window; leave --bos out, as the paper's "
            "protocol does"
        )
    return int(begin)


def begun(lm: LanguageModel, ids: Tensor) -> Tensor:
    """Put the begin token before every window that lacks it; its last token makes room. ids, result: int64 (N, L)."""
    begin = begin_token(lm)
    return torch.stack([w if w[0] == begin else torch.cat([w.new_tensor([begin]), w[:-1]]) for w in ids])


def begins_texts(lm: LanguageModel) -> bool:
    """Tell whether the tokenizer by itself puts the begin token before a text, and so before a text's first window."""
    return lm.tokenizer.bos_token_id is not None and lm.encode("a")[:1] == [lm.tokenizer.bos_token_id]
