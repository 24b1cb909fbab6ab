"""Connections that take their time: idle ones, readers that do not read, uploads that do not go on."""

import resource
import socket
from contextlib import ExitStack, closing, contextmanager
from urllib.parse import urlsplit

SPARE = 200  # files that this process opens besides, the server among it


def raised_limit(count: int) -> int:
    """Let this process open two ends of so many connections. -> as many as that allows"""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * count + SPARE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return count if soft == resource.RLIM_INFINITY else min(count, (soft - SPARE) // 2)


def _line(address: str, sent: bytes, room: int = 0) -> socket.socket:
    """Connect and send. room: bytes that may wait to be read, 0 for the system's own bound."""
    where, line = urlsplit(address), socket.socket()
    line.settimeout(30)
    if room:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    line.connect((where.hostname, where.port))
    line.sendall(sent)
    return line


@contextmanager
def idle(address: str, count: int):
    """Hold connections of three kinds: silent ones, half a head, and one answer long ago."""
    sent = (b"", b"GET / HTTP/1.1\r\nHost: a\r\nX-Half: ", b"HEAD /robots.txt HTTP/1.1\r\nHost: a\r\n\r\n")
    with ExitStack() as held:
        yield [held.enter_context(closing(_line(address, sent[number % 3]))) for number in range(count)]


@contextmanager
def slow_readers(address: str, count: int):
    """Ask for the page, and read nothing of it."""
    asked = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    with ExitStack() as held:
        yield [held.enter_context(closing(_line(address, asked, 4096))) for _ in range(count)]


@contextmanager
def stalled_uploads(address: str, count: int):
    """Begin to upload 100,000 bytes, and stop after the first."""
    head = (
        b"POST /gradio_api/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n"
        b"Content-Type: multipart/form-data; boundary=edge\r\n\r\n"
        b'--edge\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n'
        b"Content-Type: text/plain\r\n\r\nThe sky"
    )
    with ExitStack() as held:
        yield [held.enter_context(closing(_line(address, head))) for _ in range(count)]
