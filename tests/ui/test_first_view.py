"""The page as it is sent: with the stored run, its words in one language, and nothing that could break out of it."""

import asyncio
import gzip
import json
import random
import re
import threading
from types import SimpleNamespace

import pytest
from gradio.route_utils import get_root_url
from starlette.requests import Request

from wanda_core.methods import METHODS
from wanda_ui import compressed
from wanda_ui.addressed import Addressed
from wanda_ui.compressed import Compressed
from wanda_ui.first_view import FirstView, scripts, view_data
from wanda_ui.language import LANGUAGES, words
from wanda_ui.replay import replay
from wanda_ui.settings import Settings

HTML = b'<html lang="en"><head></head><body><gradio-app></gradio-app></body></html>'


def asked(app, path="/", headers=(), query=b"", method="GET", auth=None):
    """-> (status, headers, body) of an ASGI app."""
    sent = []
    scope = {"type": "http", "path": path, "method": method, "headers": list(headers), "query_string": query}
    page = SimpleNamespace(settings=Settings(), root_path="")
    scope |= {"server": ("127.0.0.1", 80), "app": SimpleNamespace(get_blocks=lambda: page, auth=auth)}

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


def writing_its_root(made):
    """An app whose page tells its address, as Gradio's does, and which notes what it was asked with."""

    async def gradios(scope, receive, send):
        made.append((scope["method"], scope["query_string"], dict(scope["headers"])))
        root = get_root_url(Request(scope), scope["path"], "")
        body = HTML.replace(b"</head>", b'<script>{"root":"%s","url":"%s/a"}</script></head>' % ((root.encode(),) * 2))
        start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]}
        await send(start)
        await send({"type": "http.response.body", "body": body})

    return gradios


def test_a_page_is_made_once_whatever_address_it_is_asked_at():
    made = []
    view = FirstView(writing_its_root(made))
    for number in range(40):
        host, proxy = f"{number}.example".encode(), [(b"x-forwarded-proto", b"https")] * (number % 2)
        more = [(b"cookie", b"secret=1"), (b"origin", b"https://other.example")]
        _, headers, body = asked(view, headers=[(b"host", host), *proxy, *more], query=b"all_endpoints=1&x=%d" % number)
        address = f"{'https' if proxy else 'http'}://{number}.example"
        assert f'"root":"{address}","url":"{address}/a"'.encode() in body
        assert f'property="og:url" content="{address}/"'.encode() in body
        assert b".invalid" not in body
        _, zipped, small = asked(view, headers=[(b"host", host), *proxy, (b"accept-encoding", b"gzip")])
        assert gzip.decompress(small) == body
        assert (int(headers[b"content-length"]), int(zipped[b"content-length"])) == (len(body), len(small))
    (asking,) = made  # of who asked first nothing is kept, since nothing is told
    assert asking[:2] == ("GET", b"")
    assert list(asking[2]) == [b"host"]
    assert b"wl-stage" in asked(view, headers=[(b"host", b"a.example")], query=b"lang=ko")[2]
    nowhere = asked(view, headers=[(b"host", b"-..-")])[2]  # whose address is told to nobody
    assert b"og:url" not in nowhere
    assert len(made) == 3


def test_what_the_page_is_made_of_is_kept_likewise_and_a_head_has_no_body():
    made = []
    view = FirstView(writing_its_root(made))
    bodies = [asked(view, "/config", [(b"host", host)])[2] for host in (b"a.example", b"b.example", b"a.example")]
    assert bodies[0] == bodies[2] == bodies[1].replace(b"b.example", b"a.example")
    assert b"wl-stage" not in bodies[0]
    assert len(made) == 1
    whole, headers = asked(view)[2], asked(view, method="HEAD")
    assert (int(headers[1][b"content-length"]), headers[2]) == (len(whole), b"")


@pytest.mark.parametrize("size", [0, 1, 2**16 - 1, 2**16, 200_000])
def test_an_address_of_any_length_is_laid_between_compressed_pieces(size):
    page = Addressed(b"one A two B three A", [b"A", b"B"], 9)
    real = [b"a" * size, b"b"]
    assert page.plain(real) == b"one %s two b three %s" % (real[0], real[0])
    assert gzip.decompress(page.zipped(real)) == page.plain(real)


def test_a_page_with_a_log_in_is_nobody_elses():
    made = []
    view = FirstView(writing_its_root(made))
    for _ in range(2):
        headers = [(b"host", b"a.example"), (b"cookie", b"name=1")]
        assert b"wl-stage" in asked(view, headers=headers, auth=lambda name, word: True)[2]
    assert [b"cookie" in headers for _, _, headers in made] == [True, True]


def test_one_file_is_compressed_once_whatever_its_path_is_called_and_never_beside_another(monkeypatch):
    calls, at_work = [], []
    compress = gzip.compress

    def slowly(*given, **more):
        calls.append(threading.current_thread() is threading.main_thread())
        at_work.append(1)
        assert len(at_work) == 1
        done = compress(*given, **more)
        at_work.pop()
        return done

    monkeypatch.setattr(gzip, "compress", slowly)
    app = Compressed(answering(b"const a = 1;\n" * 1000, b"text/javascript", more=[(b"etag", b'"1"')]))

    async def all_at_once():
        async def send(message):
            pass

        scopes = [
            {
                "type": "http",
                "method": "GET",
                "path": f"/assets/{'./' * n}a.js",
                "headers": [(b"accept-encoding", b"gzip")],
            }
            for n in range(30)
        ]
        await asyncio.gather(*(app(scope, None, send) for scope in scopes))

    asyncio.run(all_at_once())
    assert calls == [False]


def test_of_what_is_compressed_a_bounded_part_is_kept(monkeypatch):
    monkeypatch.setattr(compressed, "MOST_KEPT", 3_000)
    parts = [random.Random(n).randbytes(1_000) for n in range(9)]
    kept = Compressed(None)
    for part in parts:
        kept._small(part)
    assert 0 < sum(map(len, kept._kept.values())) <= 3_000


@pytest.mark.parametrize("status", [404, 500])
def test_an_answer_that_failed_is_not_kept(status):
    view = FirstView(answering(b"no", status=status))
    assert asked(view)[0] == status
    assert not view._pages
