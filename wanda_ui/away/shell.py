"""A whole page in one file: style, scripts and words inside, and the place for a run; it asks nothing of any server.

The run is put in as JSON, here or in the browser (`assets/view/29-report-file.js`), and drawn by the page's own script.
A policy in the page lets that one script run, which it knows by its hash, and forbids every request.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.errors import InputError, StorageError, shortened, shortened_path
from wanda_core.machine.paths import path_of
from wanda_core.methods import METHODS
from wanda_core.report.files import write_text
from wanda_core.report.plan import TWO_WEIGHTS
from wanda_core.report.run import Run
from wanda_core.text.chats import fingerprint_of
from wanda_core.text.files import read_text
from wanda_ui.away.telling import BUILTIN_SOURCE, completed
from wanda_ui.language import LANGUAGES, say, words
from wanda_ui.view_files import FAVICON, leaf_style, scripts_of, style

Kind = Literal["report", "site"]

PARTS = ("view", "page", "leaf")  # of the words
# Numbers of the scripts that stay behind: what a server answers, and of a report also what is moved by hand.
SERVERS = frozenset({6, 10, 15, 17, 21, 23, 24, 25, 27, 30})
LEFT_OUT: dict[Kind, frozenset[int]] = {"report": SERVERS | {8, 11, 14, 16, 26, 50, 52}, "site": SERVERS}
MOST_TITLE = 200  # characters
MOST_BYTES = 1_500_000  # of a page with its run: what a phone opens without waiting
OPENING = '<script type="application/json" id="wl-run">'
IN_A_PAGE = re.compile("[<\u2028\u2029\ud800-\udfff]")  # could end the element around it, or is in no file of UTF-8
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def answer(given: Mapping[str, Any]) -> dict[str, Any]:
    """Answer the page's question `report`: the report's page without a run. given: the `language` it begins in.

    Raises InputError for another language.
    """
    language = given.get("language")
    if not isinstance(language, str) or language not in LANGUAGES:
        raise InputError(f"the language {shortened(language)} is none of the page's; load the page again")
    return {"html": shell("report", language)}


@cache
def shell(kind: Kind, language: str) -> str:
    """Write a page without a run, that begins in one language and offers all."""
    script = script_of(kind)
    offered = {code: {"name": name, "words": _words(code)} for code, name in LANGUAGES.items()}
    measuring = [method.name for method in METHODS.values() if method.needs_norms]
    told = as_json(
        {"kind": kind, "language": language, "languages": offered, "measuring": measuring}
        | {"two_weights": TWO_WEIGHTS, "builtin": BUILTIN_SOURCE}
        | {"evaluation": fingerprint_of(read_text(BUILTIN_EVALUATION))}
    )
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    icon = quote(FAVICON.read_text(encoding="utf-8"))
    silent = " ".join(say(code, "leaf.no_script") for code in sorted(LANGUAGES, key=lambda code: code != language))
    return (
        f'<!doctype html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(say(language, 'leaf.name'))}</title>\n"
        f'<link rel="icon" type="image/svg+xml" href="data:image/svg+xml,{icon}">\n'
        f"<style>{style()}{leaf_style()}</style>\n</head>\n<body>\n"
        f'<div id="wl-leaf"></div>\n<noscript><p>{escape(silent)}</p></noscript>\n'
        f'<script type="application/json" id="wl-words">{told}</script>\n{OPENING}null</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def filled(page: str, run: Mapping[str, Any], title: str, head: str = "") -> str:
    """Put a run into a page that holds none. title: of the document; head: HTML for its head, of `shell`'s caller.

    Raises InputError where the page would be larger than MOST_BYTES.
    """
    named = escape(UNSEEN.sub(" ", title)[:MOST_TITLE])
    start, _, rest = page.partition("<title>")
    page = f"{start}<title>{named}</title>\n{head}{rest.partition('</title>')[2].removeprefix(chr(10))}"
    start, opening, rest = page.partition(OPENING)
    page = f"{start}{opening}{as_json(run)}{rest.removeprefix('null')}"
    size = len(page.encode())
    if size > MOST_BYTES:
        raise InputError(
            f"the page would have {size:,} bytes and {MOST_BYTES:,} are the most; leave out prompts, or pictures of "
            "linears, of the run"
        )
    return page


def write_report(run: Run, path: str | Path, language: str) -> Path:
    """Write the report of a run as one file. -> its absolute path.

    Raises InputError for a run too large for a page, StorageError for a file that is there or cannot be written.
    """
    target = path_of(path, "report")
    if os.path.lexists(target):
        raise StorageError(f"{shortened_path(path)} is there already and is not replaced; choose another name")
    title = say(language, "leaf.report.title", model=run["made"]["model"])
    return write_text(filled(shell("report", language), completed(run), title), target, "report")


def as_json(value: Any) -> str:
    """Write a value as JSON that can stand in a page, whatever its texts. A number that is not finite is an error."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return IN_A_PAGE.sub(lambda sign: f"\\u{ord(sign[0]):04x}", text)


def script_of(kind: Kind) -> str:
    """Join the scripts of a kind of page."""
    return scripts_of(lambda number: number not in LEFT_OUT[kind])


def _words(language: str) -> dict[str, str]:
    return {key: text for key, text in words(language).items() if key.split(".")[0] in PARTS}


def _hash(script: str) -> str:
    """Return the name that a policy has for a script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
