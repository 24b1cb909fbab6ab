"""The engine's errors in the reader's language.

The engine knows no page and words its errors in English, one sentence each. Those that can reach the page stand in
`locales/en/error.json` as they are worded, with names for what is put in; a sentence that fits one of them is said anew
by the same key in the reader's language. What is put in may itself be a phrase of the engine's, below `error.part`.
"""

import re
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
    for key, pattern in _patterns():
        found = pattern.fullmatch(sentence)
        if found:
            return say(key, **{name: _part(value, say) for name, value in found.groupdict().items()})
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
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    """Return key and pattern of every sentence, those with the most fixed letters first."""
    sentences = {key: text for key, text in words(FIRST).items() if key.startswith("error.")}
    patterns = []
    for key, text in sentences.items():
        if key.startswith(PART):
            continue
        fixed = re.split(r"\{(\w+)\}", text)  # text, name, text, name, ..., text
        pattern = "".join(re.escape(part) if n % 2 == 0 else f"(?P<{part}>.+?)" for n, part in enumerate(fixed))
        patterns.append((sum(map(len, fixed[::2])), key, re.compile(pattern, re.DOTALL)))
    return [(key, pattern) for _, key, pattern in sorted(patterns, key=lambda each: -each[0])]
