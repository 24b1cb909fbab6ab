"""How often the words of a stranger's vocabulary can be cut in two others.

Of a vocabulary that comes without merges transformers makes them of these cuts, one for each place where both halves of
a word are words, and each takes up to 600 bytes until the tokenizer is made, and more of a long word.
"""

from collections.abc import Iterable
from typing import AnyStr

from wanda_core.errors import ModelError, shortened_path

# All that are allowed, and fewer of fewer words: 262,144 of Gemma's have 515,000, 199,998 of GPT-OSS's 446,000, and
# none that is met more than 2.3 for each word. The runs of spaces and lines that a few words may be have more.
MOST_CUTS, CUTS_OF_ONE, CUTS_OF_FEW = 1_100_000, 5, 20_000
LONG = 50  # letters, or bytes, of a word: for so many each its cuts count once more
LOOKED = 4  # places before which there is a word that count as a cut; 4 for each word are met


def check_cuts(words: Iterable[AnyStr], name: str, most: int = MOST_CUTS) -> None:
    """Raise ModelError for words that can be cut in two others at more places than those of any vocabulary. name: of
    the model."""
    given = set(words)
    most = min(most, CUTS_OF_FEW + CUTS_OF_ONE * len(given))
    if cuts_of(given, most) > most:
        raise ModelError(
            f"the tokenizer of {shortened_path(name)} has {len(given):,} tokens that can be cut in two others at more "
            f"than {most:,} places, or fewer of long ones, which is the most that is read; copy the tokenizer's files "
            "of the model it was made from"
        )


def cuts_of(words: set[AnyStr], most: int) -> int:
    """Count the places at which words can be cut so that both halves are words, until these are more than so many.

    Those of a long word count for more, and those with a word before them alone for a little, as they are looked at.
    """
    cuts = looked = 0
    begun: list[AnyStr] = []  # the words that the last one begins with, each of which begins the next
    for word in sorted(words):
        while begun and not word.startswith(begun[-1]):
            begun.pop()
        weight = 1 + len(word) // LONG
        for half in begun:
            if word[len(half) :] in words:
                cuts += weight
        looked += len(begun)
        if max(cuts, looked // LOOKED) > most:
            break
        if word:
            begun.append(word)
    return max(cuts, looked // LOOKED)
