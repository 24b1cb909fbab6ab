"""Windows of tokens, drawn from calibration text as the published code draws them, without padding."""

import hashlib
import math
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

from wanda_core.assets import BUILTIN_CALIBRATION
from wanda_core.checks import DEFAULT_SAMPLES, DEFAULT_SEQ_LEN, MAX_SAMPLES, MAX_SEED, MAX_SEQ_LEN, check_whole
from wanda_core.errors import SHOWN, InputError
from wanda_core.model.language_model import LanguageModel
from wanda_core.progress import Progress, Steps, finish
from wanda_core.text.chats import Document, checked_documents, in_words
from wanda_core.text.corpora import calibration_text, name_of
from wanda_core.text.files import read_text

MOST_KEPT = 4 * 10**6  # tokens of documents that are kept while windows are drawn from them


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


class _Cut:
    """Documents that are cut into tokens when they are asked for, and kept for the next time while there is room.

    patience: seconds that putting all chats into the model's template may take.
    """

    def __init__(self, lm: LanguageModel, documents: Sequence[Document], patience: float = math.inf) -> None:
        self.lm, self.documents, self.left = lm, documents, patience
        self.known: dict[int, list[int]] = {}
        self.room = MOST_KEPT

    def words(self, index: int) -> str:
        """Text of one document. Raises InputError as `in_words` does, and when patience has run out."""
        document = self.documents[index]
        if isinstance(document, str):
            return document
        begun = time.monotonic()
        words = in_words(self.lm, document)
        self.left -= time.monotonic() - begun
        if self.left < 0:
            raise InputError(
                f"the chat template of {self.lm.title} took too long for the {len(self.documents):,} chats of the "
                "text; give fewer, or name a column of text (--column)"
            )
        return words

    def tokens(self, index: int) -> list[int]:
        """Tokens of one document, with the special tokens that the tokenizer, or the chat template, puts there. Raises
        InputError as `words`."""
        if index not in self.known:
            tokens = self.lm.encode(self.words(index), special=isinstance(self.documents[index], str))
            if len(tokens) > self.room:
                return tokens
            self.room -= len(tokens)
            self.known[index] = tokens
        return self.known[index]


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
    return finish(_from_documents(_Cut(lm, documents), samples, seq_len, seed, source))


def _from_documents(cut: _Cut, samples: int, seq_len: int, seed: int, source: str) -> Steps[Calibration]:
    check_whole("samples", samples, 1, MAX_SAMPLES)
    check_whole("seq_len", seq_len, 2, MAX_SEQ_LEN)
    check_whole("seed", seed, 0, MAX_SEED)
    rng = random.Random(seed)
    count = len(cut.documents)
    too_short: set[int] = set()  # so that the search ends where no document is long enough
    windows: list[list[int]] = []
    n_tokens = 0
    while len(windows) < samples:
        if len(too_short) == count:
            raise InputError(
                f"none of the {count} documents of {source[:SHOWN]} has more than {seq_len} tokens, so no "
                f"window of {seq_len} can be drawn; join them (--pack), or choose a smaller length or longer documents"
            )
        index = rng.randint(0, count - 1)
        if index in too_short:
            continue
        yield Progress("reading", len(windows), samples, "windows")
        tokens = cut.tokens(index)
        if len(tokens) <= seq_len:
            too_short.add(index)
            continue
        start = rng.randint(0, len(tokens) - seq_len - 1)
        windows.append(tokens[start : start + seq_len])
        n_tokens += len(tokens)
    return Calibration(torch.tensor(windows, dtype=torch.int64), source, seed, n_tokens)


class Drawing(TypedDict, total=False):
    """How `calibrate` draws, with what holds where a value is not given: 16 windows of 256 tokens, seed 0."""

    samples: int
    seq_len: int
    seed: int
    source: str | None
    pack: bool | None
    bos: bool


def calibrate(
    lm: LanguageModel,
    text: str | Sequence[Document] | os.PathLike[str] | None = None,
    **drawing: Unpack[Drawing],
) -> Calibration:
    """Tokenise a text and draw windows from it; of several documents, each window lies within one.

    text: one long text, documents (texts, or chats as lists of messages), or a Path that they are read from; the
    built-in text by default. samples: number of windows; seq_len: tokens of each; seed: of the draw; source: what to
    call the text in reports. pack: join all documents, so that a window may span several; by default only where none is
    long enough for a window. bos: put the begin token before every window.
    Raises InputError for a text that is too short, a number out of range, windows longer than the model can read, and
    a begin token that the model does not have.
    """
    return finish(calibrate_steps(lm, text, **drawing))


def calibrate_steps(
    lm: LanguageModel,
    text: str | Sequence[Document] | os.PathLike[str] | None = None,
    *,
    samples: int = DEFAULT_SAMPLES,
    seq_len: int = DEFAULT_SEQ_LEN,
    seed: int = 0,
    source: str | None = None,
    pack: bool | None = None,
    bos: bool = False,
    patience: float = math.inf,
) -> Steps[Calibration]:
    """As `calibrate`, with a step for each document. patience: seconds that the model's chat template may take for all
    of them."""
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
    else:
        cut = _Cut(lm, checked_documents(text), patience)
        if pack or (pack is None and (yield from _all_short(cut, seq_len))):
            calibration = replace(draw((yield from _packed_tokens(cut)), **settings), packed=True)
        else:
            calibration = yield from _from_documents(cut, **settings)
    lm.check_length(seq_len)
    return replace(calibration, ids=begun(lm, calibration.ids), bos=True) if bos else calibration


def _all_short(cut: _Cut, seq_len: int) -> Steps[bool]:
    """Tell whether no document has more tokens than a window, yet there is more than one."""
    check_whole("seq_len", seq_len, 2, MAX_SEQ_LEN)
    count = len(cut.documents)
    for index in range(count if count > 1 else 0):
        yield Progress("reading", index, count, "parts")
        if len(cut.tokens(index)) > seq_len:
            return False
    return count > 1


def _packed_tokens(cut: _Cut) -> Steps[list[int]]:
    """Join documents: the end token stands between two, or a blank line where the tokenizer has none."""
    end = cut.lm.tokenizer.eos_token_id
    filled = [n for n, document in enumerate(cut.documents) if not isinstance(document, str) or document.strip()]
    if end is None:
        words = []
        for number, index in enumerate(filled):
            yield Progress("reading", number, len(filled), "parts")
            words.append(cut.words(index))
        return cut.lm.encode("\n\n".join(words), special=all(isinstance(cut.documents[n], str) for n in filled))
    tokens: list[int] = []
    for number, index in enumerate(filled):
        yield Progress("reading", number, len(filled), "parts")
        if tokens and tokens[-1] != end:  # some tokenizers and templates put it there themselves
            tokens.append(end)
        tokens += cut.tokens(index)
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
