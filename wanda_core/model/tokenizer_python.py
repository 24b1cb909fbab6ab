"""How long tokenizers that are written in Python make a text: by files that no tokenizer in Rust has, and what follows
of them."""

import math
from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedTokenizerBase

REPLACED = {" ": "<SP>", "\u3000": "<SP>", "\r\n": "<BR>", "\n": "<BR>", "\r": "<BR>", "\t": "<TAB>"}  # before emoji


def is_of_python(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether a tokenizer cuts a text in Python, whose loops can be ended."""
    return getattr(tokenizer, "backend_tokenizer", None) is None


def growth_of_maps(tokenizer: Any) -> float:
    """Return how many times as long MyT5's maps of bytes make a text at most, or tokens when they are read back."""
    maps = getattr(tokenizer, "byte_maps", None)
    there, back = 1.0, 1.0
    for one in maps.values() if isinstance(maps, dict) else ():
        there *= max([1.0, *(_bytes_in(new) / _bytes_in(old) for old, new in _pairs(one))])
        back *= max([1.0, *(_bytes_in(old) / _bytes_in(new) for old, new in _pairs(one))])
    return max(there, back)


def _bytes_in(written: str) -> int:
    return written.count(" ") + 1


def letters_with_emoji(tokenizer: Any, text: str, most: float) -> float:
    """Return how long a text becomes where a tokenizer, that of GPT-NeoX for Japanese, puts words in the place of
    emoji, one after the other, so that each may grow what another made; infinite where that is more than `most`."""
    emoji = getattr(tokenizer, "emoji", None)
    if not isinstance(emoji, dict):
        return len(text)
    for old, new in [*REPLACED.items(), *_pairs(emoji.get("emoji"))]:
        if len(text) + text.count(old) * (len(new) - len(old)) > most:
            return math.inf
        text = text.replace(old, new)
    return len(text)


def _pairs(given: object) -> Iterator[tuple[str, str]]:
    for old, new in given.items() if isinstance(given, dict) else ():
        if isinstance(old, str) and isinstance(new, str):
            yield old, new
