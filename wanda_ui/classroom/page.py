"""The page `/class`: where a class opens the lesson, large enough for the back row, and what it handed in as a sheet.

Handed-in files are read in the browser and sent nowhere: a policy in the page forbids every request and every script
but its own, whatever stands in a file. `/CODE` leads to the lesson with the class's code in its address.
"""

import base64
import hashlib
from functools import cache
from html import escape
from urllib.parse import quote

from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from wanda_ui.away.shell import as_json
from wanda_ui.classroom import qr
from wanda_ui.classroom.network import LENGTH, LETTERS, Class
from wanda_ui.language import LANGUAGES, choose, next_language, say, words
from wanda_ui.lesson.plan import STEPS
from wanda_ui.view_files import FAVICON, class_scripts, class_style, leaf_style, style

PATH = "/class"
A_CODE = rf"[{LETTERS}{LETTERS.lower()}]{{{LENGTH}}}"
PATHS = rf"{PATH}|/{A_CODE}"  # of a request, as the gate lets it through
HEADERS = {"referrer-policy": "no-referrer", "x-content-type-options": "nosniff", "cache-control": "no-cache"}
PARTS = ("class",)  # of the words, that its script needs


def write_page(language: str, joined: Class | None, dark: bool | None = None) -> str:
    """Write the page in one language. joined: where a class opens the lesson, None where only this machine may.

    dark: what the address asks for, None to follow the browser.
    """
    script, icon = _script(), quote(FAVICON.read_text(encoding="utf-8"))
    spoken = {key: text for key, text in words(language).items() if key.split(".")[0] in PARTS}
    titles = [[step.name, say(language, f"lesson.{step.name}.title")] for step in STEPS]
    told = as_json({"words": spoken, "steps": titles})
    other = next_language(language)
    theme = "" if dark is None else ' data-theme="dark"' if dark else ' data-theme="light"'
    return (
        f'<!doctype html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(say(language, 'class.title'))}</title>\n"
        f'<link rel="icon" type="image/svg+xml" href="data:image/svg+xml,{icon}">\n'
        f"<style>{style()}{leaf_style()}{class_style()}</style>\n</head>\n<body{theme}>\n"
        f'<div id="wl-leaf" class="wl-class"><header><p class="wl-brand">Wanda Lab</p>'
        f'<a class="wl-quiet" lang="{other}" href="?lang={other}">{escape(LANGUAGES[other])}</a></header>\n<main>'
        f"{_joining(language, joined)}<section id='wl-sheet'></section></main></div>\n"
        f'<script type="application/json" id="wl-words">{told}</script>\n<script>{script}</script>\n</body>\n</html>\n'
    )


def _joining(language: str, joined: Class | None) -> str:
    """Write where a class opens the lesson: to type, and to point a camera at."""
    if joined is None:
        alone, command = escape(say(language, "class.alone")), "wanda-lab app --lan"
        return f"<section class='wl-alone'><p>{alone} <code>{command}</code></p></section>"
    host, _, code = joined.typed.rpartition("/")
    others = ""
    if joined.others:
        listed = ", ".join(f"<b>{escape(address)}</b>" for address in joined.others)
        others = f"<p class='wl-lead'>{escape(say(language, 'class.others'))} {listed}</p>"
    return (
        f"<section class='wl-join'><div><h1>{escape(say(language, 'class.join'))}</h1>"
        f"<p class='wl-typed-address'>{escape(host)}/<wbr><b>{escape(code)}</b></p>"
        f"<p class='wl-lead'>{escape(say(language, 'class.type_or_scan'))}</p>{others}</div>"
        f"<figure role='img' aria-label='{escape(say(language, 'class.picture'))}'>{qr.svg(joined.url)}</figure>"
        "</section>"
    )


@cache
def _script() -> str:
    return class_scripts()


@cache
def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


async def _page(request: Request) -> Response:
    language = choose(request.query_params.get("lang"), request.headers.get("accept-language"))
    theme = request.query_params.get("__theme")
    joined = request.scope["app"].get_blocks().joined
    dark = theme == "dark" if theme in ("dark", "light") else None
    return HTMLResponse(write_page(language, joined, dark), headers=HEADERS)


async def _lesson(request: Request) -> Response:
    """Lead a class's code to the lesson, which keeps it in its own address."""
    return RedirectResponse(f"./?lesson=1&class={request.path_params['code'].upper()}", 302, headers=HEADERS)


class CodeConvertor(StringConvertor):
    """The code of a class in a path, and no other word of as many letters."""

    regex = A_CODE


register_url_convertor("class_code", CodeConvertor())
ROUTES = [
    Route(PATH, _page, methods=["GET", "HEAD"]),
    Route("/{code:class_code}", _lesson, methods=["GET", "HEAD"]),
]
