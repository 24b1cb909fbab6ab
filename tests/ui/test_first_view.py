"""The page as it is sent: with the stored run, its words in one language, and nothing that could break out of it."""

import asyncio
import gzip
import json
import re
from types import SimpleNamespace

import pytest

from wanda_core.methods import METHODS
from wanda_ui.compressed import Compressed
from wanda_ui.first_view import FirstView, scripts, view_data
from wanda_ui.language import LANGUAGES, words
from wanda_ui.replay import replay
from wanda_ui.settings import Settings

HTML = b'<html lang="en"><head></head><body><gradio-app></gradio-app></body></html>'


def asked(app, path="/", headers=(), query=b"", method="GET"):
    """-> (status, headers, body) of an ASGI app."""
    sent = []
    scope = {"type": "http", "path": path, "method": method, "headers": list(headers), "query_string": query}
    scope["app"] = SimpleNamespace(get_blocks=lambda: SimpleNamespace(settings=Settings(), root_path=""))

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, None, send))
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], dict(sent[0]["headers"]), body


def answering(body, kind=b"text/html; charset=utf-8", status=200, more=()):
    """An app that answers everything alike, in two pieces."""

    async def app(scope, receive, send):
        length = (b"content-length", str(len(body)).encode())
        await send(
            {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), length, *more]}
        )
        half = len(body) // 2
        await send({"type": "http.response.body", "body": body[:half], "more_body": True})
        await send({"type": "http.response.body", "body": body[half:]})

    return app


def test_the_page_has_no_base_by_which_figures_would_name_their_parts():
    from gradio.routes import templates

    base = (
        templates.env.loader.get_source(templates.env, "frontend/index.html")[0].split("<base", 1)[1].split(">", 1)[0]
    )
    assert base.strip() == """href="{{ base_url | default('./') }}" /"""
    html = HTML.replace(b"<head>", b'<head><base href="./" />')
    assert b"<base" not in asked(FirstView(answering(html)))[2]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_carries_data_and_words_in_its_language(language):
    _, headers, body = asked(FirstView(answering(HTML)), query=f"lang={language}".encode())
    html = body.decode()
    assert int(headers[b"content-length"]) == len(body)
    assert f'lang="{language}"' in html
    data = re.search(r"<script type='application/json' id='wl-data'>(.*?)</script>", html, re.DOTALL)[1]
    assert "<" not in data
    read = json.loads(data)
    assert read["language"] == language
    assert read["words"]["view.prune"] == words(language)["view.prune"]
    assert html.index("wl-stage") < html.index("<gradio-app")
    assert len(gzip.compress(body)) < 200_000


def test_what_is_no_page_is_passed_on_as_it_is():
    for path, kind in (("/config", b"application/json"), ("/", b"application/json")):
        assert asked(FirstView(answering(HTML, kind)), path)[2] == HTML


def test_a_browser_that_takes_gzip_gets_it():
    _, headers, body = asked(FirstView(answering(HTML)), headers=[(b"accept-encoding", b"gzip, br")])
    assert headers[b"content-encoding"] == b"gzip"
    assert b"<gradio-app" in gzip.decompress(body)


def test_the_view_offers_every_method_and_names_all_that_its_scripts_say():
    data = view_data("en", Settings())
    assert list(data["settings"]["methods"]) == list(METHODS)
    said = set(re.findall(r'W\.say\("([a-z_.]+)"', scripts()))
    assert said <= set(data["words"])
    for method in [*METHODS, *data["settings"]["presets"]]:
        assert {f"view.method.{method}", f"view.method_help.{method}"} <= set(data["words"])
    for name, values in re.findall(
        r"(\w+): \[((?:\"[\w:-]+\",? ?)+)\]", scripts().split("const MORE")[1].split("};")[0]
    ):
        for value in re.findall(r'"([\w:-]+)"', values):
            assert {f"view.{name}.{value}", f"view.{name}_help.{value}"} <= set(data["words"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_that_scripts_fill_in_are_plain_names_in_braces(language):
    """The scripts know no formats: `{value:.1f}` would stand there as it is."""
    for key, text in words(language).items():
        if key.startswith("view."):
            assert re.fullmatch(r"[^{}]*(\{\w+\}[^{}]*)*", text), key


def test_scripts_hold_no_markup_of_models_or_visitors():
    """Text comes in as text nodes: none of the ways to read it as HTML is used."""
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", scripts())


def test_scripts_are_compressed_once_and_kept(monkeypatch):
    body = b"const a = 1;\n" * 1000
    calls = []
    compress = gzip.compress
    monkeypatch.setattr(gzip, "compress", lambda *given, **more: calls.append(1) or compress(*given, **more))
    app = Compressed(answering(body, b"text/javascript", more=[(b"etag", b'"1"')]))
    for _ in range(3):
        _, headers, small = asked(app, "/assets/index.js", [(b"accept-encoding", b"gzip")])
        assert headers[b"content-encoding"] == b"gzip"
        assert int(headers[b"content-length"]) == len(small) < 1000
        assert gzip.decompress(small) == body
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("path", "kind", "status", "encoding"),
    [
        ("/assets/a.js", b"text/javascript", 200, b""),
        ("/assets/a.woff2", b"font/woff2", 200, b"gzip"),
        ("/assets/a.js", b"text/javascript", 404, b"gzip"),
        ("/gradio_api/queue/data", b"text/event-stream", 200, b"gzip"),
        ("/gradio_api/file=a.txt", b"text/plain", 200, b"gzip"),
    ],
)
def test_the_rest_is_passed_on_unchanged(path, kind, status, encoding):
    body = b"x" * 5000
    got, headers, whole = asked(Compressed(answering(body, kind, status)), path, [(b"accept-encoding", encoding)])
    assert (got, whole) == (status, body)
    assert b"content-encoding" not in headers


def test_the_replay_is_read_once():
    assert replay() is replay()


def test_a_page_is_made_once_for_an_address_and_never_kept_for_another_or_a_log_in():
    made = []

    async def gradios(scope, receive, send):
        made.append(dict(scope["headers"]).get(b"host"))
        body = HTML.replace(b"</head>", b"<!-- " + made[-1] + b" --></head>")
        start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]}
        await send(start)
        await send({"type": "http.response.body", "body": body})

    view = FirstView(gradios)
    a, b = [[(b"host", name)] for name in (b"a.example", b"b.example")]
    pages = [asked(view, headers=headers)[2] for headers in (a, b, a, b, a)]
    assert made == [b"a.example", b"b.example"]
    assert pages[0] == pages[2] == pages[4] != pages[1] == pages[3]
    assert b"a.example" in pages[0]
    assert asked(view, headers=a, query=b"lang=ko")[2] != pages[0]
    assert gzip.decompress(asked(view, headers=[*a, (b"accept-encoding", b"gzip")])[2]) == pages[0]
    assert len(made) == 4
    for number in range(40):
        asked(view, headers=[(b"host", f"{number}.example".encode())])
    assert len(view._pages) <= 16


@pytest.mark.parametrize("status", [404, 500])
def test_an_answer_that_failed_is_not_kept(status):
    view = FirstView(answering(b"no", status=status))
    assert asked(view)[0] == status
    assert not view._pages
