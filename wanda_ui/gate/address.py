"""What is checked of every request, before anything looks closer: its path, its query and its headers."""

import re

import httpx

from wanda_ui.gate.refusal import RefusedError, quoted
from wanda_ui.gate.request import MOST_NAMED, MOST_QUERY, Request

MOST_PATH, MOST_PART = 2_000, 250  # characters; a file system takes names of 255 bytes
# Bytes of one header. The longest of a browser's tells the address that it comes from; what reads others, such as
# Gradio and its libraries, takes a time that may grow with the square.
MOST_HEADER = MOST_PATH + MOST_QUERY + 2_000
READ_OF_ADDRESS = ("session_hash", "upload_id")  # what Gradio and this gate read of an address's query
HOST = re.compile(rb"[0-9A-Za-z._:\[\], -]{0,300}")


def check_address(request: Request) -> None:
    """Raise RefusedError for an address that Gradio or the file system would fail on."""
    path = request.scope["path"]
    strange = any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in path)
    if strange or len(path) > MOST_PATH or any(len(part) > MOST_PART for part in path.split("/")):
        raise RefusedError(404, "path", path=quoted(path))
    if len(request.scope["query_string"]) > MOST_QUERY:
        raise RefusedError(414, "query", most=MOST_QUERY)
    if request.scope["query_string"].count(b"&") >= MOST_NAMED:
        raise RefusedError(414, "query_names", most=MOST_NAMED)
    if path.startswith("/gradio_api"):  # every request of the page has the page's own address behind it too
        for read in READ_OF_ADDRESS:
            if sum(name == read for name, _ in request.asked) > 1:  # of two, who takes which?
                raise RefusedError(400, "query_twice", name=read)


def check_headers(request: Request) -> None:
    """Raise RefusedError for headers that Gradio or its libraries would fail on, or take long for."""
    for name, value in request.scope["headers"]:
        if len(value) > MOST_HEADER:
            raise RefusedError(431, "header", name=quoted(name.decode("latin-1")), most=MOST_HEADER)
    # Chunks are taken apart one by one: of a byte each, they hold up everybody.
    if b"transfer-encoding" in request.headers:
        raise RefusedError(411, "chunks")
    for name in (b"host", b"x-forwarded-host"):
        if not _is_host(request.headers.get(name, b"")):
            raise RefusedError(400, "host", name=name.decode())
    if b"origin" in request.headers and not request.headers.get(b"host"):  # as only HTTP/1.0 allows
        raise RefusedError(400, "host", name="host")


def _is_host(value: bytes) -> bool:
    """Whether a header may name hosts, of which Gradio makes an address of the first. Empty, it names none."""
    if not HOST.fullmatch(value):
        return False
    try:
        httpx.URL(f"http://{value.split(b',')[0].strip().decode('ascii')}")
    except httpx.InvalidURL:
        return False
    return True
