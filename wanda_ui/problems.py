"""The engine's errors in the reader's language.

The engine knows no page and words its errors in English, one sentence each. Those that can reach the page stand in
`locales/en/error.json` as they are worded, with names for what is put in; a sentence that fits one of them is said anew
by the same key in the reader's language. What is put in may itself be a phrase of the engine's, below `error.part`.
"""

import re
from collections.abc import Sequence
from contextvars import ContextVar
from functools import cache

from wanda_ui.language import FIRST, Say, words

MOST_CHARACTERS = 2_000  # of a sentence that is looked up; the engine's are a tenth of that
PART = "error.part."
ROOT = r"(?:~?/(?!/)|[A-Za-z]:[\\/]|\\\\)"  # how an absolute path begins
PATH = re.compile(
    rf"""(?P<quote>['"]){ROOT}(?P<quoted>(?:(?!(?P=quote)).)*)(?P=quote)|(?<![^\s(\[=:,]){ROOT}(?P<bare>[^\s'"(),;:]+)"""
)

# Whether sentences name files without the folders they lie in: whoever reads them is not at home on this machine.
names_only: ContextVar[bool] = ContextVar("names_only", default=False)


def problem_words(error: Exception, say: Say) -> str:
    """Return an error's sentence in the reader's language; as it is where nobody has put it into words there."""
    sentence = str(error)
    return translated(without_folders(sentence) if names_only.get() else sentence, say)


def without_folders(sentence: str) -> str:
    """Leave of every absolute path in a sentence the name at its end."""
    return PATH.sub(_name_in_quotes, sentence)


def _name_in_quotes(path: re.Match[str]) -> str:
    quote, parts = path["quote"] or "", re.findall(r"[^/\\]+", path["quoted"] or path["bare"] or "")
    return f"{quote}{parts[-1]}{quote}" if parts else path[0]


def translated(sentence: str, say: Say) -> str:
    """Say a sentence of the engine's in the reader's language; one that is not known stays as it is."""
    if len(sentence) > MOST_CHARACTERS:
        return sentence
    for key, parts in _sentences():
        values = filled_in(sentence, parts)
        if values is not None:
            return say(key, **{name: _part(value, say) for name, value in values.items()})
    return sentence


def _part(phrase: str, say: Say) -> str:
    """Say a phrase that the engine put into a sentence; names and numbers stay as they are."""
    key = _parts().get(phrase)
    return say(key) if key else phrase


@cache
def _parts() -> dict[str, str]:
    """Return the phrases that are put into sentences, by what they are in English."""
    return {text: key for key, text in words(FIRST).items() if key.startswith(PART)}


@cache
def _sentences() -> list[tuple[str, tuple[str, ...]]]:
    """Return key and parts of every sentence, those with the most fixed letters first."""
    sentences = {key: text for key, text in words(FIRST).items() if key.startswith("error.")}
    parts = [(key, tuple(re.split(r"\{(\w+)\}", text))) for key, text in sentences.items() if not key.startswith(PART)]
    return sorted(parts, key=lambda each: -sum(map(len, each[1][::2])))


def filled_in(sentence: str, parts: Sequence[str]) -> dict[str, str] | None:
    """Return what stands in a sentence for each name, as little as can for the first ones; None where it is another.

    parts: of what it may be: text, name, text, name, …, text. One pass: a pattern of as many groups would try all ways
    to divide a sentence that is made for it.
    """
    first, last = parts[0], parts[-1]
    if len(parts) == 1:
        return {} if sentence == first else None
    end = len(sentence) - len(last)
    if not (sentence.startswith(first) and sentence.endswith(last)):
        return None
    values, place = {}, len(first)
    for name, text in zip(parts[1:-2:2], parts[2:-2:2], strict=True):
        found = sentence.find(text, place + 1, end)
        if found < 0:
            return None
        values[name], place = sentence[place:found], found + len(text)
    if place >= end:
        return None
    return values | {parts[-2]: sentence[place:end]}
