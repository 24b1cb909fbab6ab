"""How much the words of a stranger's vocabulary may cost, in whichever file they stand, before transformers reads them:
each by its length, all of them by theirs together, and by how many different beginnings they have."""

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from wanda_core.errors import ModelError, shortened_path
from wanda_core.machine.json_file import read_json
from wanda_core.machine.ordinary_file import read_ordinary
from wanda_core.model.tokenizer_cuts import check_cuts
from wanda_core.model.tokenizer_weight import Weight, weight_of_model, weight_of_pieces, weight_of_tekken

MOST_PIECE = 10_000  # letters of a token; 128 are met, in runs of spaces
# Of a piece of a Unigram model, which tries at each letter of a text all pieces that begin there, in one call that
# nobody can end.
MOST_UNIGRAM_PIECE = 500
MOST_BYTES = 8 * 10**6  # of all tokens; 262,144 of Gemma's have 2.3 million
# The sum of the squares of their lengths: where merges are looked for, each is cut in two at every place. 200,000
# tokens of GPT-OSS have 32 million.
MOST_SQUARES = 2 * 10**8
# Beginnings that pieces of a Unigram vocabulary have, all together: each takes 350 bytes in the tree that they are
# looked up in. 262,144 pieces in all the languages of the world have 600,000.
MOST_BEGINNINGS = 1_500_000
# Of tokens that are looked for in each text before it is cut: letters of one, how many there are, and their beginnings
# beside some for each, each of which takes up to 5 µs. Gemma's 6,415 have 76,000 letters; 65,536 are met, which begin
# all alike, and differ in a figure and what is behind it.
MOST_ADDED_PIECE, MOST_ADDED, MOST_ADDED_BEGINNINGS, BEGINNINGS_OF_ONE = 1000, 100_000, 200_000, 5
# Times that transformers compares a special token with another: each that settings list with each that is added, of
# which 50 million take a second. A thousand beside 65,536 are met, or a few thousand that are listed alone.
MOST_COMPARED = 10**8
# So much longer it takes to compare with a token that settings describe, as it does each one that is not among those
# added. Of the 1,600 that whisper lists all are, of the six thousand of gemma too; of 65,536 added 21 need not be.
TIMES_DESCRIBED = 70
NAMED = re.compile(r"tokens?(_decoder)?$")  # settings that hold such tokens
# How a file of tiktoken begins, with whatever space it lets pass; others are protobuf.
TIKTOKEN = re.compile(rb"[\r\n]*[^\S\r\n]*\S+[^\S\r\n]+[+-]?\d[\d_]*[^\S\r\n]*[\r\n]")
MODELS = ("*.model", "*.spm", "*.tiktoken")
WORD_FIELD, FAR = 10, 128  # the byte before a piece's word and its length, and lengths that take another byte
VARINT, FIXED_64, MEASURED, FIXED_32 = 0, 1, 2, 5  # how protobuf writes a field
MOST_TEKKEN_CUTS = 700_000  # of a tekken.json: twice what its 150,000 words have
MOST_FILE = 24 * 10**6  # bytes of a file of these; a larger one is refused by its size
# Fields and lines that are looked at in all these files of a folder, each of which takes up to a microsecond, and 150
# bytes where it holds a word; 262,144 are met, and what stands behind the word of a piece counts for none.
MOST_FIELDS = 600_000
REST = re.compile(rb"(\x15.{4})?(\x18[\x00-\x7f])?", re.DOTALL)  # of a piece: what it is worth, and its kind
COPY = "copy the tokenizer's files of the model it was made from"


def check_vocabulary(rules: dict[str, Any], name: str) -> Weight:
    """Raise ModelError for a tokenizer.json whose words would fill the memory. rules: its content. -> what its words
    weigh"""
    model = rules.get("model")
    given = model if isinstance(model, dict) else {}
    vocabulary = given.get("vocab")
    unigram = given.get("type") == "Unigram" or isinstance(vocabulary, list)
    check_tokens(words_of(vocabulary), name, MOST_BEGINNINGS if unigram else None)
    added = list(words_of(rules.get("added_tokens")))
    check_added(added, name)
    return weight_of_model(given, words_of(vocabulary), added)


def check_added(tokens: Iterable[str], name: str) -> None:
    """Raise ModelError for tokens that are looked for in every text, and are too long or too many for that."""
    added = set(tokens)
    _at_most(max(map(len, added), default=0), MOST_ADDED_PIECE, "an added token of {} letters", name)
    _at_most(len(added), MOST_ADDED, "{} added tokens", name)
    check_tokens(added, name, MOST_ADDED_BEGINNINGS + BEGINNINGS_OF_ONE * len(added))


def check_compared(listed: int, added: int, name: str, missing: int = 0, described: int = 0, among: int = 0) -> None:
    """Raise ModelError for so many special tokens that to compare each with each takes long. listed: in settings, each
    as often as it stands there; added: all together; missing: of those listed, not among the added; described: by more
    than a text, so that it takes longer to compare with them; among: how many of the missing are described so, each of
    which is compared with those before it and with those behind."""
    most = int(MOST_COMPARED / max(added, 1))
    _at_most(listed, most, f"{{}} special tokens in its settings beside {added:,} added ones", name)
    most = int(MOST_COMPARED / TIMES_DESCRIBED / max(described + 2 * among, 1))
    what = f"{{}} special tokens in its settings that are none of the {described + among:,} it adds"
    _at_most(missing, most, what, name)


def check_tokens(tokens: Iterable[str | bytes], name: str, beginnings: int | None) -> None:
    """Raise ModelError for words that are too long, each or all together. beginnings: how many they may have."""
    given = set(tokens)
    check_longest(max(map(len, given), default=0), name)
    words = [word.encode(errors="surrogatepass") if isinstance(word, str) else word for word in given]
    _at_most(sum(map(len, words)), MOST_BYTES, "tokens of {} bytes together", name)
    if beginnings is not None and sum(map(len, words)) > beginnings:
        begun, last = 0, b""
        for word in sorted(words):
            begun += len(word) - _alike(last, word)
            last = word
        _at_most(begun, beginnings, "tokens of {} different beginnings", name)
    _at_most(sum(len(word) ** 2 for word in words), MOST_SQUARES, "tokens with {} as their squared lengths' sum", name)


def _alike(one: bytes, other: bytes) -> int:
    """Return how many bytes two words have in common at their beginnings."""
    least, most = 0, min(len(one), len(other))
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if one[least:middle] == other[least:middle] else (least, middle - 1)
    return least


def check_longest(length: int, name: str, most: int = MOST_PIECE) -> None:
    """Raise ModelError for a tokenizer whose longest token has more letters, or bytes, than any."""
    _at_most(length, most, "a token of {} letters", name)


def _at_most(given: int, most: int, what: str, name: str) -> None:
    if given > most:
        raise ModelError(
            f"the tokenizer of {shortened_path(name)} has {what.format(f'{given:,}')}, and at most {most:,} are read; "
            f"{COPY}"
        )


def words_of(entries: object) -> Iterator[str]:
    """Yield the words of a list or a mapping of a tokenizer's files, in whichever form it has them."""
    for entry in entries if isinstance(entries, (dict, list)) else ():
        word = entry.get("content") if isinstance(entry, dict) else entry
        word = word[0] if isinstance(word, list) and word else word
        if isinstance(word, str):
            yield word


def named_tokens(settings: dict[str, Any], but: str = "") -> Iterator[str]:
    """Yield the tokens that settings name, each by itself or in lists, by whichever key but one."""
    waiting: list[Any] = [value for key, value in settings.items() if NAMED.search(key) and key != but]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, (list, dict)):
            waiting += value.values() if isinstance(value, dict) else value


def listed_tokens(settings: dict[str, Any], but: str) -> Iterator[tuple[str | None, bool]]:
    """Yield what transformers takes for special tokens in settings, by whichever key but one, as often as it stands
    there: its text, or None for what is no text to it, and is compared with all others all the same; and whether it is
    more than a text, with which others are compared for longer."""
    for key, value in settings.items():
        if not NAMED.search(key) or key == but:
            continue
        described = isinstance(value, dict) and "content" in value
        within = value.values() if isinstance(value, dict) and not described else value
        for entry in [value] if described or not isinstance(value, (dict, list)) else within:
            text = entry.get("content") if isinstance(entry, dict) and (described or "__type" in entry) else entry
            if text is not None:
                yield text if isinstance(text, str) else None, not isinstance(entry, str)


def check_other_vocabularies(folder: Path, name: str) -> tuple[int | None, dict[str, Weight]]:
    """Raise ModelError as `check_vocabulary` does for the other files that hold words: of tekken, of tiktoken and of
    sentencepiece. What is wrong with one otherwise is said by what reads it next.

    -> how many words the smallest of tiktoken has, None where there is none; and what each file's words weigh
    """
    try:
        read = read_json(folder / "tekken.json")
    except (OSError, ValueError):
        read = None
    tekken = read if isinstance(read, dict) else {}
    entries, special = tekken.get("vocab"), tekken.get("special_tokens")
    listed = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    words = set(_decoded(entry.get("token_bytes") for entry in listed))
    check_tokens(words, name, None)
    check_cuts(words, name, MOST_TEKKEN_CUTS)
    added = list(named_tokens({"tokens": special}))
    check_added(added, name)
    weights = {"tekken.json": weight_of_tekken(listed, added)}
    looked, least = _Looked(name), None
    for path in sorted(folder.iterdir()):
        if any(fnmatchcase(path.name, pattern) for pattern in MODELS):
            try:
                content = read_ordinary(path, MOST_FILE)
            except OSError:
                continue
            if TIKTOKEN.match(content):
                looked.at(content.count(b"\n") + content.count(b"\r"))  # both end a line
                words = set(_decoded(word for line in content.splitlines() for word in line.split(None, 1)[:1]))
                check_tokens(words, name, None)
                least = len(words) if least is None else min(least, len(words))
                weights[path.name] = Weight(len(content))
            else:
                words = set(_pieces(content, looked))
                check_tokens(words, name, MOST_BEGINNINGS)
                weights[path.name] = weight_of_pieces(words)
            check_cuts(words, name)
    return least, weights


@dataclass
class _Looked:
    """How many fields and lines of a folder's files have been looked at. name: of the model, for messages."""

    name: str
    count: int = 0

    def at(self, more: int) -> None:
        """Raise ModelError where these are too many."""
        self.count += more
        if self.count > MOST_FIELDS:
            raise ModelError(
                f"the tokenizer of {shortened_path(self.name)} has files of sentencepiece or tiktoken with more than "
                f"{MOST_FIELDS:,} fields or lines, which is the most that is read; {COPY}"
            )


def _decoded(encoded: Iterable[Any]) -> Iterator[bytes]:
    for text in encoded:
        try:
            yield base64.b64decode(text)
        except (ValueError, TypeError):
            continue


def _pieces(content: bytes, looked: _Looked) -> Iterator[bytes]:
    """Yield the pieces of a file of sentencepiece, in protobuf: the first field of every first field."""
    for piece in _first_fields(memoryview(content), looked):
        length = piece[1] if len(piece) > 1 and piece[0] == WORD_FIELD else FAR
        if length < FAR and REST.fullmatch(piece, 2 + length):  # nearly all of them
            yield bytes(piece[2 : 2 + length])
        else:
            yield from map(bytes, _first_fields(piece, looked))


def _first_fields(content: memoryview, looked: _Looked) -> Iterator[memoryview]:
    """Yield the fields of number 1 of a message of protobuf that have a length, until it ends or is none any more."""
    at = 0
    try:
        while at < len(content):
            looked.at(1)
            tag, at = _varint(content, at)
            kind = tag & 7
            if not tag >> 3:  # no field has this number
                return
            if kind == MEASURED:
                length, at = _varint(content, at)
                if tag >> 3 == 1:
                    yield content[at : at + length]
                at += length
            elif kind == VARINT:
                _, at = _varint(content, at)
            elif kind in (FIXED_64, FIXED_32):
                at += 8 if kind == FIXED_64 else 4
            else:
                return
    except IndexError:
        return


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """Read a whole number that says itself where it ends. -> it, and the place after it"""
    value, places = 0, 0
    while places < 10:  # what protobuf reads
        byte = content[at]
        value |= (byte & 127) << (7 * places)
        at, places = at + 1, places + 1
        if byte < 128:
            break
    return value, at
