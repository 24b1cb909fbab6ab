"""Headers that no browser sends: each is refused in a sentence, or read in no time, and nothing fails behind it."""

import socket
import time
from contextlib import closing

import pytest
from raw_requests import JSON, is_told

from wanda_ui.gate.address import MOST_HEADER

SOON = 2.0  # seconds
LONG = 60_000  # bytes; a server takes no more


def said(raw, request: str) -> bytes:
    """-> what comes back over a connection of its own"""
    with closing(socket.create_connection((raw.address.hostname, raw.address.port), timeout=20)) as line:
        line.sendall(request.encode("latin-1"))
        answer = b""
        while piece := line.recv(65536):
            answer += piece
    return answer


COOKIES = ['a="' + "\\a" * (LONG // 2) + '"', "a=b; " * (LONG // 5), ";" * LONG, " " * LONG, "wanda_visitor=" * 4000]


@pytest.mark.parametrize("cookie", COOKIES, ids=range(len(COOKIES)))
@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/file=x", "/gradio_api/heartbeat/x?", "/nowhere"])
def test_a_cookie_costs_no_time_whatever_is_in_it(raw, cookie, path):
    half = len(cookie) // 2
    for lines in (f"Cookie: {cookie}", f"Cookie: a={cookie[:half]}\r\nCookie: {cookie[half:]}"):
        began = time.monotonic()
        answer = said(raw, f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 ")
        assert time.monotonic() - began < SOON


HEADERS = ["content-type", "accept", "accept-encoding", "accept-language", "range", "forwarded", "x-forwarded-host"]
HEADERS += ["x-forwarded-for", "x-forwarded-proto", "origin", "referer", "authorization", "if-modified-since", "x"]
VALUES = [
    'a="' + "\\a" * 9_000,
    ";" * 19_000,
    "a=b;" * 4_500,
    "a," * 9_000,
    " " * 19_000 + "a",
    "é" * 19_000,
    "(" * 19_000,
]


@pytest.mark.parametrize("name", HEADERS)
def test_no_header_costs_time_and_a_long_one_is_refused(raw, name):
    for value in VALUES:
        assert len(value) < MOST_HEADER
        began = time.monotonic()
        for method, path, body in (("GET", "/gradio_api/file=x", None), ("POST", "/gradio_api/upload", b"x")):
            value = value.encode("latin-1") if isinstance(value, str) else value
            assert raw.send(method, path, body, {name: value}).status >= 400
            kind = (
                {**JSON, name: b"application/json;" + value[:18_000]}
                if name == "content-type"
                else {**JSON, name: value}
            )
            assert raw.send("POST", "/gradio_api/reset", b'{"event_id": "e"}', kind).status < 500
        assert time.monotonic() - began < SOON
    reply = raw.send("GET", "/", headers={name: "a" * (MOST_HEADER + 1)})
    if name != "range":  # which nothing here is told of
        assert reply.status == 431
        assert is_told(reply)


HOSTS = ["a:b", "::::", "[::1", "999.1.1.1", "[1]", "a:99x", "x" * 301, "[::g]:80", "a b:c"]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("name", ["Host", "X-Forwarded-Host"])
def test_a_host_that_is_none_is_refused_in_words(raw, name, host):
    lines = f"Host: {host}" if name == "Host" else f"Host: localhost\r\nX-Forwarded-Host: {host}, localhost"
    for path in ("/", "/config", "/nowhere"):
        answer = said(raw, f"GET {path} HTTP/1.1\r\nConnection: close\r\n{lines}\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 "), answer
        assert b"holds no name of a host" in answer


@pytest.mark.parametrize(
    "host", ["localhost", "a.example:7860", "[::1]:7860", "127.0.0.1", "my_service:80", "xn--hy1b.kr"]
)
def test_a_host_that_is_one_is_answered(raw, host):
    for lines in (f"Host: {host}", f"Host: localhost\r\nX-Forwarded-Host: {host}, 10.0.0.1"):
        answer = said(raw, f"GET /config HTTP/1.1\r\nConnection: close\r\n{lines}\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 "), answer


def test_what_gradios_own_middleware_fails_on_is_refused_in_front_of_it(raw):
    preflight = "Access-Control-Request-Method: GET\r\n"
    for request in (
        "GET / HTTP/1.0\r\nOrigin: http://a\r\n\r\n",
        f"OPTIONS / HTTP/1.0\r\nOrigin: http://a\r\n{preflight}\r\n",
        "GET /assets/x HTTP/1.0\r\nOrigin: null\r\nHost:\r\n\r\n",
    ):
        answer = said(raw, request)
        assert answer.startswith(b"HTTP/1.1 400 "), answer
        assert b"holds no name of a host" in answer
    assert said(raw, "GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")  # as a load balancer looks
    answer = said(
        raw, f"OPTIONS / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://a\r\nConnection: close\r\n{preflight}\r\n"
    )
    assert b"access-control-allow-origin" not in answer


def test_a_body_of_tiny_chunks_is_refused_and_what_follows_is_not_taken_apart(raw):
    head = b"POST /gradio_api/upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection((raw.address.hostname, raw.address.port), timeout=10) as connection:
        connection.sendall(head)
        answer = connection.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 411 ")
        assert b"connection: close" in answer
        with pytest.raises(OSError, match=r"reset|roken|abort"):  # it was ended, and no byte of this is read
            connection.sendall(b"1\r\na\r\n" * 2_000_000)
