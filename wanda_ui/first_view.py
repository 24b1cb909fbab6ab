"""The page as it is sent: with the stored run and what draws it, so that it is alive before anything is loaded.

ASGI middleware changes the HTML of the page itself: it says which language it is in and what the page is
(`greeting.py`), and it stands a head and a first view in front of Gradio's own part. That view moves into its component
(`compare/tab.py`) as soon as that stands.
"""

import asyncio
import json
from dataclasses import asdict, dataclass
from functools import cache, partial
from html import escape
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import gradio
from anyio import to_thread
from gradio.route_utils import get_root_url
from starlette.requests import Request

from wanda_core.evaluation.generation import MAX_PROMPT_CHARACTERS
from wanda_core.methods import METHODS
from wanda_core.model import builtin
from wanda_core.presets import RECIPES
from wanda_core.report.keys import SHRINKS
from wanda_core.runtimes import CHECKED, RUNTIMES
from wanda_ui.addressed import GRADIOS, OWN, Addressed
from wanda_ui.away.shell import as_json
from wanda_ui.greeting import address_of, greet
from wanda_ui.language import LANGUAGES, choose, in_language, say, words
from wanda_ui.lesson.beside import told_to_page
from wanda_ui.models import models_of
from wanda_ui.replay import replay
from wanda_ui.settings import Settings
from wanda_ui.view_files import lesson_style, scripts, style

Key = tuple[str, bool]
HOME, CONFIG, ENDPOINTS = ("", "/"), "/config", "/gradio_api/info"  # the page itself, what it is made of, its tools
PARTS = ("view", "page", "try")  # of the words, that the view needs
COMPRESSION = 6  # of 9
# Gradio's base says what holds without it. With one, Plotly names its gradients and clip paths by the page's whole
# address, and what a figure draws with them is gone as soon as the address tells another tab.
BASE = '<base href="./" />'


@dataclass(frozen=True)
class Page:
    """What is kept of a page: how its answer starts, and its body."""

    start: dict[str, Any]
    body: Addressed


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
    """ASGI middleware that changes the page itself, keeps what it and `/config` are made of, and passes all else on.

    Both are the same for everybody but for the address, so that one of each language is made and kept.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self._pages: dict[Key, Page] = {}
        self._making = asyncio.Lock()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer with the changed page where the page is asked for."""
        if scope["type"] != "http" or not _is_kept(scope):
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("lang", [None])[0]
        language = choose(asked, headers.get(b"accept-language"))
        page = scope["app"].get_blocks()
        own = address_of(headers, scope.get("scheme", "http"), page.root_path or "")
        key = (language if scope["path"] in HOME else scope["path"], bool(own))
        made = self._pages.get(key)
        if _has_login(scope["app"]):  # a page of who asks
            made = await self._made(scope, receive, language, bool(own))
        elif made is None:
            # Of who asks first nothing may stand in what others are sent: no headers, no query.
            asking = {**scope, "method": "GET", "query_string": b"", "headers": [(b"host", GRADIOS.encode())]}
            async with self._making:
                made = self._pages.get(key) or await self._made(asking, receive, language, bool(own))
                if made.start["status"] == HTTPStatus.OK:
                    self._pages[key] = made
        addresses = [_in_json(_root_of(scope)), escape(own).encode()]
        given = [(name, value) for name, value in made.start["headers"] if name.lower() != b"content-length"]
        if "gzip" in headers.get(b"accept-encoding", "") and made.start["status"] == HTTPStatus.OK:
            body = made.body.zipped(addresses)
            given += [(b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")]
        else:
            body = made.body.plain(addresses)
        await send({**made.start, "headers": [*given, (b"content-length", str(len(body)).encode())]})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _made(self, scope: dict[str, Any], receive: Any, language: str, addressed: bool) -> Page:
        """Have Gradio make a page, and change it. addressed: whether it names its own address."""
        start: dict[str, Any] = {}
        parts: list[bytes] = []

        async def heard(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                parts.append(message.get("body", b""))

        await self.app(scope, receive, heard)
        body = b"".join(parts)
        html = any(name.lower() == b"content-type" and b"text/html" in value for name, value in start["headers"])
        changed = partial(_changed, language=language, addressed=addressed, settings=scope["app"].get_blocks().settings)
        places = [_in_json(_root_of(scope)), f"http://{OWN}".encode()]

        def cut() -> Addressed:
            parts = Addressed(changed(body) if html and scope["path"] in HOME else body, places, COMPRESSION)
            parts.zipped(places)  # now, in a thread, and never again
            return parts

        return Page(start, await to_thread.run_sync(cut))


def _changed(body: bytes, language: str, addressed: bool, settings: Settings) -> bytes:
    """Change Gradio's page."""
    greeted = greet(body.decode("utf-8"), language, f"http://{OWN}" if addressed else "")
    html = in_language(greeted, language).replace(BASE, "", 1)
    return html.replace("<gradio-app", f"{first_view(language, settings)}<gradio-app", 1).encode("utf-8")


def _is_kept(scope: dict[str, Any]) -> bool:
    """Whether a request is for the page or for what is sent of it."""
    if scope["path"] == ENDPOINTS and b"all_endpoints" in scope["query_string"]:  # the raw list, without an address
        return False
    home = scope["path"] in HOME and scope["method"] in ("GET", "HEAD")
    return home or (scope["path"] in (CONFIG, ENDPOINTS) and scope["method"] == "GET")


def _has_login(app: Any) -> bool:
    """Whether what is sent depends on who asks."""
    return getattr(app, "auth", None) is not None or getattr(app, "auth_dependency", None) is not None


def _root_of(scope: dict[str, Any]) -> str:
    """Return the address that Gradio writes into a page, as it works it out itself."""
    app = scope["app"]
    path = getattr(app, "root_path", "") or scope.get("root_path") or getattr(app.get_blocks(), "custom_mount_path", "")
    return str(get_root_url(Request(scope), scope["path"], path))


def _in_json(text: str) -> bytes:
    """Write a text as it stands between quotation marks in JSON that stands in HTML."""
    return json.dumps(text)[1:-1].replace("<", "\\u003c").encode("ascii")
