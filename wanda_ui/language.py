"""Words of the page, in the language its reader chose.

`locales/<language>/<part>.json` holds the words, for translators to edit: nested keys, values in the manner of Python's
`str.format`. Labels that stand in the page from the start are sent as keys and put into words by the browser
(`gr.I18n`); what is computed is put into words here, by the `Say` of the request.
"""

import json
import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.i18n import I18nData

LOCALES = Path(__file__).resolve().parent / "locales"
FIRST = "en"  # spoken where none of the languages is asked for
KEPT_HERE = ("error",)  # parts that are said by the server alone, so no page need carry them
SWITCH = "page.other_language"  # the label that names the next one
MARK = "__i18n__"  # by which Gradio's page finds a label in any text, also in HTML
BROKEN_MARK = "__i18n\u2060__"  # reads the same, for what is between has no width
MARKED = re.compile(rf'{MARK}(?:\{{"__type__": "translation_metadata", "key": "(?P<key>[^"\\]+)"\}})?')
Say = Callable[..., str]  # say("lesson.two_weights.question", w=0.5) -> words


@cache
def words(language: str) -> dict[str, str]:
    """Read all words of a language, `part.key.key` -> text."""
    texts: dict[str, str] = {}
    for path in sorted((LOCALES / language).glob("*.json")):
        texts |= _flat(json.loads(path.read_text(encoding="utf-8")), path.stem)
    return texts


def names_below(key: str) -> list[str]:
    """List the last parts of all keys right below one, in the order of the English file: `magnitude`, `ria`, …"""
    return [name.removeprefix(f"{key}.") for name in words(FIRST) if name.startswith(f"{key}.")]


def _flat(tree: dict[str, Any], prefix: str) -> dict[str, str]:
    """Flatten nested keys: {"a": {"b": text}} below `part` -> {"part.a.b": text}."""
    texts: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}.{key}"
        texts |= _flat(value, name) if isinstance(value, dict) else {name: str(value)}
    return texts


def _languages() -> dict[str, str]:
    """Find the languages: the folders of `locales/`, each with the name it has for itself; English comes first."""
    folders = sorted(path.name for path in LOCALES.iterdir() if (path / "page.json").is_file())
    return {code: words(code)["page.language"] for code in sorted(folders, key=lambda code: code != FIRST)}


LANGUAGES = _languages()


def say(language: str, key: str, **values: object) -> str:
    """Return the words for a key, with values put in. Raises KeyError for a key that no file has."""
    return words(language)[key].format(**values)


def label(key: str) -> Any:
    """Make a label that the browser puts into the reader's language. Raises KeyError for a key that no file has."""
    assert key == SWITCH or words(FIRST)[key]
    return I18nData(key)


def unmarked(value: Any) -> Any:
    """Return a value that goes to a browser with no label in it but the page's own, in whatever its lists hold.

    Gradio's page puts what follows its mark into words in every text it is sent, HTML too, and of a key that it does
    not know it writes the key itself, as JSON has it: what was escaped here would stand there as an element.
    """
    if isinstance(value, str):
        return MARKED.sub(_own_label, value) if MARK in value else value
    if isinstance(value, dict):
        return {name: unmarked(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [unmarked(each) for each in value]
    return value


def _own_label(mark: re.Match[str]) -> str:
    """Leave a label of the page's own; of all else break the mark."""
    own = mark["key"] == SWITCH or mark["key"] in words(FIRST)
    return mark[0] if own else mark[0].replace(MARK, BROKEN_MARK)


def labels() -> gr.I18n:
    """Collect what the browser needs for every `label`."""
    switch = {language: {SWITCH: LANGUAGES[next_language(language)]} for language in LANGUAGES}
    shown = {
        language: {key: text for key, text in words(language).items() if key.split(".")[0] not in KEPT_HERE}
        for language in LANGUAGES
    }
    return gr.I18n(**{language: shown[language] | switch[language] for language in LANGUAGES})


def choose(asked: str | None, accepted: str | None) -> str:
    """Choose the language to speak. asked: `?lang=` of the address; accepted: the browser's Accept-Language header."""
    if asked in LANGUAGES:
        return asked
    wishes: list[tuple[float, int, str]] = []
    for part in (accepted or "").split(","):
        name, _, quality = part.strip().partition(";q=")
        weight = float(quality) if re.fullmatch(r"[01](\.\d+)?", quality) else 1.0 if not quality else 0.0
        wishes.append((-weight, len(wishes), name.lower().split("-")[0]))
    return next((name for _, _, name in sorted(wishes) if name in LANGUAGES), FIRST)


def language_of(request: gr.Request | None) -> str:
    """Return the language of an event's page."""
    if request is None:
        return FIRST
    return choose(request.query_params.get("lang"), request.headers.get("accept-language"))


def speaker(request: gr.Request | None) -> Say:
    """Return `say` in the language of an event's page."""
    return partial(say, language_of(request))


ENGLISH: Say = partial(say, FIRST)


def next_language(language: str) -> str:
    """Return the language that the switch leads to."""
    order = list(LANGUAGES)
    return order[(order.index(language) + 1) % len(order)]


def in_language(html: str, language: str) -> str:
    """Put the language into the page's HTML: for screen readers, and for the labels."""
    script = f"<script>for (const [k, v] of [['language', '{language}'], ['languages', ['{language}']]])"
    script += " Object.defineProperty(navigator, k, { get: () => v });</script>"
    html = html.replace('lang="en"', f'lang="{language}"', 1)
    return html.replace("<head>", f"<head>{script}", 1)
