"""Bodies, uploads, addresses and headers that no page sends: each ends with an answer in words, never by a fault."""

import json
import os
import socket
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from raw_requests import JSON, is_told

from wanda_ui.gate.refusal import RefusedError
from wanda_ui.gate.visitors import Visitors

BODIES = [
    b"",
    b"null",
    b"[]",
    b"{",
    b'{"data"',
    b"\x00" * 50,
    b"\xff\xfe\x00",
    b'{"data": [], "data": []}',
    b"[" * 100_000,
    b'{"data":' * 50_000,
    b'{"data": [' + b"9" * 5_000 + b"]}",
    "한".encode("utf-16"),
    b"NaN",
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize("path", ["queue/join", "run/x", "run/1", "cancel", "reset"])
def test_a_body_that_cannot_be_read_is_refused(raw, path, body):
    reply = raw.post(f"/gradio_api/{path}", body)
    assert reply.status in (400, 413)
    assert is_told(reply), reply


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_body_of_another_kind_is_refused(raw, kind):
    reply = raw.send("POST", "/gradio_api/queue/join", b"{}", {"content-type": kind})
    assert reply.status == 415
    assert is_told(reply)


def test_a_large_body_is_refused_without_being_kept(raw):
    memory = psutil.Process().memory_info().rss
    piece = b"x" * 2**20
    for path, kind in (("queue/join", JSON), ("upload", {"content-type": "multipart/form-data; boundary=edge"})):
        size = {**kind, "content-length": str(120 * 2**20)}
        with io_of(piece, 120) as content:
            reply = raw.send("POST", f"/gradio_api/{path}", content, size)
        assert reply.status == 413
        assert is_told(reply), reply
    assert psutil.Process().memory_info().rss - memory < 40 * 2**20


def io_of(piece: bytes, count: int):
    """A file-like body that is never in memory as a whole."""
    reader, writer = os.pipe()

    def write():
        with os.fdopen(writer, "wb") as pipe:
            for _ in range(count):
                pipe.write(piece)

    threading.Thread(target=write, daemon=True).start()
    return os.fdopen(reader, "rb")


UPLOADS = {
    "one": [("a.txt", b"words")],
    "empty": [("a.txt", b"")],
    "nameless": [("", b"words")],
    "no text": [("a.bin", bytes(range(256)))],
    "long name": [("n" * 5000 + ".txt", b"words")],
    "up": [("../../../etc/passwd", b"words")],
    "zero": [("a\0b.txt", b"words")],
    "surrogates": [("\udcff\udcfe.txt", b"words")],
    "dots": [("..", b"words")],
    "too large": [("a.txt", b"x" * 400_000)],
    "too large together": [(f"{n}.txt", b"x" * 70_000) for n in range(6)],
    "many": [(f"{n}.txt", b"x") for n in range(60)],
}


@pytest.mark.parametrize("name", UPLOADS)
def test_an_upload_is_taken_or_refused_in_words_and_its_size_counts_as_a_whole(raw, name, tmp_path):
    reply = raw.upload(*[(name.encode("utf-8", "replace").decode(), content) for name, content in UPLOADS[name]])
    if name.startswith("too large"):
        assert (reply.status, reply.sentence) == (
            413,
            "The upload is larger than the 0.286 MB that are taken at once; give a part of it.",
        )
    elif reply.status == 200:
        assert all(os.environ["GRADIO_TEMP_DIR"] in path for path in json.loads(reply.body))
    else:
        assert reply.status == 400
        assert is_told(reply), reply


FORMS = [b"", b"--edge", b"--edge\r\n\r\n", b"x" * 5000, b"--edge\r\nA: b\r\n\r\nc\r\n--edge--\r\n", b"\r\n" * 999]


@pytest.mark.parametrize("form", FORMS, ids=range(len(FORMS)))
@pytest.mark.parametrize(
    "kind", ["multipart/form-data; boundary=edge", "multipart/form-data", "multipart/form-data; boundary="]
)
def test_a_form_that_cannot_be_read_is_refused(raw, form, kind):
    reply = raw.send("POST", "/gradio_api/upload", form, {"content-type": kind})
    assert reply.status in (200, 400, 415)
    assert reply.status != 200 or reply.body == b"[]"
    assert reply.status == 200 or is_told(reply), reply


ADDRESSES = [
    "/",
    "/?lang=ko",
    "/?lang=%ff&lang=%00&lesson=%F0%9F&guess[]=1",
    "/?lesson=" + "9" * 5000,
    "/?deep_link=../../x",
    "/?" + "&".join(f"a{n}=1" for n in range(900)),
    "/?" + "q" * 9000,
    "/config?page=nowhere&deep_link=%00",
    "/assets/../../../etc/passwd",
    "/assets/%2e%2e/%2e%2e/etc/passwd",
    "/assets/%00",
    "/assets/" + "a" * 3000,
    "/static/" + "a" * 1900,
    "/svelte/%ed%a0%80",
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/file=%00",
    "/gradio_api/file=" + "a" * 1900,
    "/gradio_api/file=http://127.0.0.1:1/x",
    "/gradio_api/file=file:///etc/passwd",
    "/gradio_api/file=C:/x",
    "/gradio_api/heartbeat/" + "a" * 65,
    "/gradio_api/heartbeat/%00",
    "/gradio_api/queue/data",
    "/gradio_api/queue/data?session_hash=unknown",
    "/gradio_api/queue/data?session_hash=%00",
    "/gradio_api/upload_progress",
    "/gradio_api/upload_progress?upload_id=%00",
    "/gradio_api/info",
    "/gradio_api/openapi.json",
    "/gradio_api/proxy=http://127.0.0.1:1/",
    "/gradio_api/custom_component/a/b/c/d",
    "/gradio_api/deep_link?session_hash=x",
    "/gradio_api/call/ask/x",
    "/gradio_api/runs",
    "/wanda/checkpoint/x/y.zip",
    "/wanda/checkpoint/%00/%ff.zip",
    "/wanda/checkpoint/../../etc/passwd",
    "/wanda/checkpoint/x/" + "y" * 240 + ".zip",
    "/wanda/take/x/y",
    "/wanda/scores",
    "/monitoring",
    "/docs",
    "/openapi.json",
    "/pwa_icon/-1",
    "/nothing",
    "//",
    "/%",
]


@pytest.mark.parametrize("address", ADDRESSES, ids=range(len(ADDRESSES)))
def test_an_address_is_answered_and_never_by_a_fault(raw, address):
    for method in ("GET", "HEAD"):
        reply = raw.send(method, address)
        assert reply.status < 500, reply
        assert reply.status < 400 or method == "HEAD" or reply.sentence, reply
        assert b"root:" not in reply.body


def test_a_file_named_from_the_servers_folder_is_not_there_nor_where_that_folder_has_gone(raw, monkeypatch):
    def gone():
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "getcwd", gone)
    for name in ("a.txt", "../a.txt", "wanda_ui/page.py"):
        reply = raw.send("GET", f"/gradio_api/file={name}")
        assert (reply.status, is_told(reply)) == (404, True)
    with pytest.raises(RefusedError, match="file_gone"):  # an event that names one
        Visitors().check_files({"path": "a.txt"}, {})


def test_what_the_page_does_not_use_is_closed(raw):
    for path in (
        "call/ask",
        "call/v2/ask",
        "api/ask",
        "component_server",
        "process_recording",
        "vibe-edit",
        "stream/x",
    ):
        reply = raw.post(f"/gradio_api/{path}", {"data": []})
        assert reply.status == 404, path
        assert is_told(reply)
    for method in ("PUT", "DELETE", "PATCH", "POST"):
        assert raw.send(method, "/").status == 405
    for path in ("queue/join", "upload", "cancel"):
        assert raw.send("DELETE", f"/gradio_api/{path}").status == 405


@pytest.mark.parametrize("header", ["host", "x-forwarded-host", "x-gradio-server", "x-forwarded-proto", "range"])
@pytest.mark.parametrize("value", ["a b\\c", "[", "http://[", "\xff", "bytes=9-1-2", "x" * 500])
def test_headers_of_any_kind_bring_no_fault(raw, header, value):
    reply = raw.send("GET", "/", headers={header: value})
    assert reply.status < 500, reply
    assert raw.send("GET", "/gradio_api/file=/etc/passwd", headers={header: value}).status < 500


@pytest.mark.parametrize(
    "query", ["session_hash=a&session_hash=b", "session_hash=a&session_hash=", "session_hash=a&%73ession_hash=b"]
)
def test_an_address_that_names_a_session_twice_is_refused(raw, query):
    """The gate would look at the one and Gradio take the other."""
    reply = raw.send("GET", f"/gradio_api/queue/data?{query}")
    assert (reply.status, reply.sentence) == (400, "The address names session_hash twice; name it once.")


def test_what_a_pages_address_names_twice_is_its_own_affair(raw):
    """Its scripts put the page's address behind what they ask."""
    reply = raw.send("POST", "/gradio_api/queue/join?r=wanda&r=magnitude&at=75", b"{}")
    assert (reply.status, reply.sentence.split(";")[0]) != (400, "The address names r twice")
    assert reply.status == raw.send("POST", "/gradio_api/queue/join", b"{}").status


@pytest.mark.parametrize("query", ["page=x", "page=", "deep_link=x", "lang=en&page=a&page=b"])
def test_what_gradio_would_make_of_a_pages_address_is_closed(raw, query):
    reply = raw.send("GET", f"/?{query}")
    assert reply.status == 404
    assert is_told(reply)


ELSEWHERE = {
    "origin": {"origin": "http://evil.example:7999"},
    "no origin": {"origin": "null"},
    "port": {"origin": "http://127.0.0.1:1"},
    "said by the browser": {"sec-fetch-site": "cross-site"},
    "a neighbour": {"sec-fetch-site": "same-site", "origin": "http://other.localhost:1"},
    "a header of its own": {"origin": "http://evil.example", "x-forwarded-host": "evil.example"},
}


@pytest.mark.parametrize("sent", ELSEWHERE)
def test_a_web_page_from_elsewhere_can_ask_for_nothing(raw, sent):
    headers = ELSEWHERE[sent]
    for method, path in (
        ("POST", "/gradio_api/queue/join"),
        ("POST", "/gradio_api/run/look"),
        ("POST", "/gradio_api/upload"),
        ("POST", "/gradio_api/cancel"),
        ("POST", "/wanda/scores"),
        ("GET", "/wanda/checkpoint/secret/a.zip"),
        ("GET", "/gradio_api/queue/data?session_hash=a"),
        ("GET", "/gradio_api/heartbeat/a"),
    ):
        reply = raw.send(method, path, "{}" if method == "POST" else None, {**JSON, **headers})
        assert reply.status == 403, (path, reply)
        assert "asked for something here" in reply.sentence
    assert raw.send("GET", "/", headers=headers).status == 200  # a link may lead here


def test_this_page_itself_and_programs_may_ask(raw):
    own = f"http://{raw.address.netloc}"
    for headers in ({}, {"origin": own}, {"sec-fetch-site": "same-origin", "origin": "https://public.example"}):
        assert raw.send("POST", "/gradio_api/cancel", "{}", {**JSON, **headers}).status == 400  # and is read


def test_an_upload_that_breaks_off_leaves_nothing(raw):
    folder = Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio")
    before = {path for path in folder.rglob("*") if path.is_file()}
    for _ in range(3):
        with closing(socket.create_connection((raw.address.hostname, raw.address.port))) as line:
            line.sendall(
                f"POST /gradio_api/upload HTTP/1.1\r\nHost: {raw.address.netloc}\r\nContent-Length: 200000\r\n"
                "Content-Type: multipart/form-data; boundary=edge\r\n\r\n--edge\r\n"
                'Content-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'.encode()
                + b"x" * 100_000
            )
            time.sleep(0.3)  # the file is begun
    ends = time.monotonic() + 10
    while (left := {path for path in folder.rglob("*") if path.is_file()} - before) and time.monotonic() < ends:
        time.sleep(0.1)
    assert not left
