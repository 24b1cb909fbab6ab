"""The vocabulary of a GGUF file, looked at with the bounds of every other one before transformers makes a tokenizer of
it."""

import struct
from pathlib import Path

from wanda_core.machine.ordinary_file import open_ordinary
from wanda_core.model.gguf_header import STRING, VOCABULARY, WHOLE, Header
from wanda_core.model.tokenizer_cuts import check_cuts
from wanda_core.model.tokenizer_vocabulary import (
    MOST_BEGINNINGS,
    MOST_UNIGRAM_PIECE,
    check_added,
    check_longest,
    check_tokens,
)

NUMBERS = {**WHOLE, 6: "f", 7: "?", 12: "d"}  # as `struct` has them
UNIGRAM = "t5"  # the one kind of tokenizer that is made a Unigram model, of those that transformers reads
ADDED = (3, 4)  # types of tokens, control and of users, that are added, so that they are looked for in every text


def check_words(gguf: Path, header: Header, name: str) -> None:
    """Raise ModelError for a vocabulary that would take long, or fill the memory. name: of the model."""
    words = _words(gguf, header)
    unigram = header.tokenizer == UNIGRAM
    if unigram:
        check_longest(max((len(word.decode(errors="replace")) for word in words), default=0), name, MOST_UNIGRAM_PIECE)
    check_tokens(words, name, MOST_BEGINNINGS if unigram else None)
    types = _types(gguf, header)
    added = (word.decode(errors="replace") for word, its in zip(words, types, strict=False) if its in ADDED)
    check_added(added, name)
    if not unigram and not header.lists.get(f"{VOCABULARY}merges"):
        check_cuts(words, name)


def _words(gguf: Path, header: Header) -> list[bytes]:
    """Read the tokens, whose lengths the walk through the head has found to be true."""
    kind, count, at = header.begins.get(f"{VOCABULARY}tokens", (STRING, 0, 0))
    if kind != STRING:
        return []
    length, words = struct.Struct(f"{header.order}Q"), []
    with open_ordinary(gguf) as opened:
        opened.seek(at)
        for _ in range(count):
            (letters,) = length.unpack(opened.read(length.size))
            words.append(opened.read(letters))
    return words


def _types(gguf: Path, header: Header) -> tuple[float, ...]:
    """Read the types of the tokens, () where none are told."""
    kind, count, at = header.begins.get(f"{VOCABULARY}token_type", (STRING, 0, 0))
    if kind not in NUMBERS:
        return ()
    with open_ordinary(gguf) as opened:
        opened.seek(at)
        form = f"{header.order}{count}{NUMBERS[kind]}"
        return struct.unpack(form, opened.read(struct.calcsize(form)))
