"""The page as it is sent: with the stored run and what draws it, so that it is alive before anything is loaded.

ASGI middleware changes the HTML of the page itself: it says which language it is in and what the page is
(`greeting.py`), and it stands a head and a first view in front of Gradio's own part. That view moves into its component
(`compare/tab.py`) as soon as that stands.
"""

import gzip
import json
from collections import OrderedDict
from dataclasses import asdict
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import gradio

from wanda_core.evaluation.generation import MAX_PROMPT_CHARACTERS
from wanda_core.methods import METHODS
from wanda_core.model import builtin
from wanda_core.presets import RECIPES
from wanda_core.report.keys import SHRINKS
from wanda_core.runtimes import CHECKED, RUNTIMES
from wanda_ui.away.shell import as_json
from wanda_ui.greeting import address_of, greet
from wanda_ui.language import LANGUAGES, choose, in_language, say, words
from wanda_ui.lesson.beside import told_to_page
from wanda_ui.models import models_of
from wanda_ui.replay import replay
from wanda_ui.settings import Settings
from wanda_ui.view_files import lesson_style, scripts, style

Key = tuple[Any, ...]
Page = tuple[dict[str, Any], bytes]
MOST_PAGES = 16  # kept: a language, packed or not, at an address
# Headers that Gradio makes the page's address of.
ADDRESSED_BY = (b"host", b"x-forwarded-host", b"x-forwarded-proto", b"x-gradio-server")
PARTS = ("view", "page", "try")  # of the words, that the view needs
COMPRESSION = 5  # of 9: the page is compressed for every visitor
# Gradio's base says what holds without it. With one, Plotly names its gradients and clip paths by the page's whole
# address, and what a figure draws with them is gone as soon as the address tells another tab.
BASE = '<base href="./" />'


@cache
def scripts_for_later() -> list[str]:
    """Find what the figures of other tabs need, a megabyte of Plotly in a file of Gradio's with a hash in its name: the
    browser brings it when it has nothing else to do, and the first of these tabs opens at once."""
    folder = Path(gradio.__file__).parent / "templates" / "frontend" / "assets"
    return [f"assets/{path.name}" for path in sorted(folder.glob("PlotlyPlot-*.js"))[:1]]


def view_data(language: str, settings: Settings) -> dict[str, Any]:
    """Collect what the first view is drawn from, in one language."""
    needed = {key: text for key, text in words(language).items() if key.split(".")[0] in PARTS}
    models = [
        [name, say(language, shown.key) if hasattr(shown, "key") else shown] for shown, name in models_of(settings)
    ]
    return {
        "replay": replay(),
        "words": needed,
        "language": language,
        "later": scripts_for_later(),
        "languages": LANGUAGES,
        "title": say(language, "page.title"),
        "chip": f"{builtin.TITLE} · {say(language, 'view.stored')}",
        "settings": {
            "models": models,
            "open": settings.models is None,
            "methods": {method.name: list(method.groups) for method in METHODS.values()},
            "presets": list(RECIPES),
            "shrinks": list(SHRINKS),
            "runtimes": {"checked": CHECKED, "rows": [asdict(runtime) for runtime in RUNTIMES]},
            "upload_bytes": settings.upload_bytes,
            "prompt_characters": min(settings.prompt_characters, MAX_PROMPT_CHARACTERS),
        },
    }


def first_view(language: str, settings: Settings) -> str:
    """Write the head and the stage with their data and scripts."""
    data = json.dumps(view_data(language, settings), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    lesson = as_json(told_to_page(language))
    return (
        f"<style>{style()}{lesson_style()}</style><header id='wl-head'></header><div id='wl-stage'></div>"
        f"<script type='application/json' id='wl-data'>{data}</script>"
        f"<script type='application/json' id='wl-lesson'>{lesson}</script><script>{scripts()}</script>"
    )


class FirstView:
    """ASGI middleware that changes the page itself and passes everything else on.

    To make a page takes a tenth of a second, in which the server does nothing else; the latest ones are kept.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self._first: dict[str, str] = {}  # by language
        self._pages: OrderedDict[Key, Page] = OrderedDict()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer with the changed page where the page is asked for."""
        if scope["type"] != "http" or scope["path"] not in ("", "/") or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("lang", [None])[0]
        language = choose(asked, headers.get(b"accept-language"))
        key = _key(scope, headers, language)
        made = self._pages.pop(key, None) if key is not None else None
        if made is None:
            made = await self._made(scope, receive, headers, language)
        if key is not None and made[0]["status"] == HTTPStatus.OK:
            self._pages[key] = made
            while len(self._pages) > MOST_PAGES:
                self._pages.popitem(last=False)
        start, body = made
        await send(start)
        await send({"type": "http.response.body", "body": body})

    async def _made(self, scope: dict[str, Any], receive: Any, headers: dict[bytes, str], language: str) -> Page:
        """Have Gradio make its page, and change it. -> how the answer starts, its body"""
        start: dict[str, Any] = {}
        parts: list[bytes] = []

        async def heard(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                parts.append(message.get("body", b""))

        await self.app(scope, receive, heard)
        body = b"".join(parts)
        kept = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
        if any(name.lower() == b"content-type" and b"text/html" in value for name, value in kept):
            page = scope["app"].get_blocks()
            if language not in self._first:
                self._first[language] = first_view(language, page.settings)
            address = address_of(headers, scope.get("scheme", "http"), page.root_path or "")
            html = in_language(greet(body.decode("utf-8"), language, address), language).replace(BASE, "", 1)
            body = html.replace("<gradio-app", f"{self._first[language]}<gradio-app", 1).encode("utf-8")
            if "gzip" in headers.get(b"accept-encoding", ""):
                body = gzip.compress(body, COMPRESSION, mtime=0)
                kept += [(b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")]
        return {**start, "headers": [*kept, (b"content-length", str(len(body)).encode())]}, body


def _key(scope: dict[str, Any], headers: dict[bytes, str], language: str) -> Key | None:
    """Return what a page depends on; None where it may depend on more, as on who asks where there is a log-in."""
    app = scope["app"]
    if getattr(app, "auth", None) is not None or getattr(app, "auth_dependency", None) is not None:
        return None
    if b"all_endpoints" in scope["query_string"]:  # which Gradio looks for
        return None
    seen = (scope["path"], scope.get("scheme"), scope.get("root_path"), scope.get("server"))
    return language, "gzip" in headers.get(b"accept-encoding", ""), *seen, *(headers.get(name) for name in ADDRESSED_BY)
