"""How much of a tokenizer's files is words: the time and the memory that it may take to be made follow from these, so
that nothing else that stands there gives it more."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

# Letters of a word that count; 128 are met. To make one of a word takes more than its letters do: with few long ones a
# file would have the time of many.
LONGEST = 500
# Letters beside those of a word, as it is written with its number, with what it is worth, as a merge or described.
OF_WORD, OF_PIECE, OF_MERGE, OF_ADDED, OF_TEKKEN = 10, 25, 8, 130, 60
TIMES_MERGES = 4  # what merges weigh at most, of their words; 2.3 are met
MAPS = ("decompose_map", "merge_map")  # of byte_maps.json


@dataclass(frozen=True)
class Weight:
    """Letters of a file's words, in bytes, as they would be written without blanks. pieces: of these, such as are put
    into a tree; added: such as are added to a vocabulary."""

    words: int = 0
    pieces: int = 0
    added: int = 0


def letters_of(words: Iterable[str], each: int) -> int:
    """Count the bytes of words, and some beside for each."""
    given = [word[:LONGEST] for word in words]
    return len("".join(given).encode(errors="surrogatepass")) + each * len(given)


def weight_of_model(model: dict[str, Any], words: Iterable[str], added: Iterable[str]) -> Weight:
    """Weigh a tokenizer.json. model: that of its content; words: of this; added: tokens."""
    listed = isinstance(model.get("vocab"), list)
    vocabulary, beside = letters_of(words, OF_PIECE if listed else OF_WORD), letters_of(added, OF_ADDED)
    merges, whole = model.get("merges"), vocabulary
    if isinstance(merges, list) and not listed and model.get("type") in (None, "BPE"):  # no other has them
        whole += min(letters_of(chain.from_iterable(map(_halves, merges)), OF_MERGE // 2), TIMES_MERGES * vocabulary)
    return Weight(whole + beside, vocabulary if listed else 0, beside)


def _halves(merge: object) -> Iterable[str]:
    if isinstance(merge, str):
        return (merge,)
    return [half for half in merge if isinstance(half, str)] if isinstance(merge, list) else ()


def weight_of_pieces(pieces: Iterable[bytes]) -> Weight:
    """Weigh a file of sentencepiece."""
    return Weight(sum(min(len(piece), LONGEST) + OF_WORD for piece in pieces))


def weight_of_tekken(entries: Iterable[dict[str, Any]], special: Iterable[str]) -> Weight:
    """Weigh a tekken.json, of whose words each stands there twice."""
    encoded = [text for entry in entries if isinstance(text := entry.get("token_bytes"), str)]
    return Weight(2 * letters_of(encoded, OF_TEKKEN // 2) + letters_of(special, OF_TEKKEN))


def weight_of_numbered(content: object) -> Weight:
    """Weigh a vocab.json, whose words are numbered, or those of each language, of which one is read; or the maps of a
    byte_maps.json."""
    if not isinstance(content, dict):
        return Weight()
    maps = [content[name] for name in MAPS if isinstance(content.get(name), dict)]
    if maps:
        return Weight(letters_of(chain.from_iterable(map(_both, maps)), OF_WORD))
    within = [letters_of(inner, OF_WORD) for inner in content.values() if isinstance(inner, dict)]
    return Weight(letters_of(content, OF_WORD) + max(within, default=0))


def _both(map_: dict[str, object]) -> Iterator[str]:
    for old, new in map_.items():
        yield old
        if isinstance(new, str):
            yield new
