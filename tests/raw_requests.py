"""Requests as anybody can send them, without the page: a raw HTTP client on loopback and a server whose log is kept."""

import http.client
import io
import json
import logging
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

JSON = {"content-type": "application/json"}
SECONDS = 60  # within which every case must end
ENDS = ("process_completed", "unexpected_error")  # the last message about an event


@dataclass(frozen=True)
class Reply:
    """What came back. headers: lower case."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def sentence(self) -> str:
        """The sentence of a refusal, empty where there is none."""
        if "json" in self.headers.get("content-type", ""):
            said = json.loads(self.body)
            words = said.get("detail") if isinstance(said, dict) else None
            return words if isinstance(words, str) else ""
        return self.body.decode("utf-8") if self.status >= 400 else ""


class Raw:
    """A client of a server on loopback; one connection, made again where the server closed it.

    headers: of all its requests.
    """

    def __init__(self, address: str, language: str = "en", **headers: str) -> None:
        self.address, self.headers = urlsplit(address), {"accept-language": language, **headers}
        self._kept = self.connection()

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address.hostname, self.address.port, timeout=SECONDS)

    def send(self, method: str, path: str, body: object = None, headers: dict | None = None) -> Reply:
        """Send a request; a body that is an iterator, its length among the headers, or a file is sent once,
        over a connection of its own."""
        headers = {**self.headers, **(headers or {})}
        if body is None or isinstance(body, (bytes, str)):
            for _ in range(2):  # the server may have closed the connection that was kept
                try:
                    return self._sent(self._kept, method, path, body, headers)
                except (http.client.HTTPException, OSError):
                    self._kept.close()
        with closing(self.connection()) as connection:
            return self._sent(connection, method, path, body, headers)

    def _sent(self, connection, method, path, body, headers) -> Reply:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        return Reply(answer.status, body, {name.lower(): value for name, value in answer.getheaders()})

    def close(self) -> None:
        self._kept.close()

    def post(self, path: str, body: object, **headers: str) -> Reply:
        """Send a value as JSON, lone surrogates and NaN included."""
        text = body if isinstance(body, (bytes, str)) else json.dumps(body)
        return self.send("POST", path, text, {**JSON, **headers})

    def join(self, session: str, event: int, data: object, **more: object) -> Reply:
        """Ask for an event through the queue."""
        return self.post("/gradio_api/queue/join", {"data": data, "fn_index": event, "session_hash": session, **more})

    def outcome(self, session: str, seconds: float = SECONDS) -> dict:
        """Listen until the session's event has ended; -> the last message about it."""
        return self.messages(session, seconds)[-1]

    def messages(self, session: str, seconds: float = SECONDS) -> list[dict]:
        """Listen until the session's event has ended; -> all messages about it."""
        heard = []
        with closing(self.connection()) as connection:
            connection.request("GET", f"/gradio_api/queue/data?session_hash={session}", headers=self.headers)
            answer = connection.getresponse()
            began = time.monotonic()
            while line := answer.readline():
                assert time.monotonic() - began < seconds, "the event goes on and on"
                if line.startswith(b"data: "):
                    heard.append(json.loads(line[6:]))
                    if heard[-1]["msg"] in ENDS:
                        return heard
        raise AssertionError("the stream ended before the event")

    def upload(self, *files: tuple[str, bytes], **headers: str) -> Reply:
        """Upload files as a browser does."""
        parts = [
            f'--edge\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
            "Content-Type: text/plain\r\n\r\n".encode()
            + content
            + b"\r\n"
            for name, content in files
        ]
        kind = {"content-type": "multipart/form-data; boundary=edge", **headers}
        return self.send("POST", "/gradio_api/upload", b"".join(parts) + b"--edge--\r\n", kind)


@contextmanager
def kept_log():
    """Keep what the server logs, tracebacks included; -> a function that returns it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    loggers = [logging.getLogger(name) for name in ("", "uvicorn", "uvicorn.error")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield stream.getvalue
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def is_told(reply) -> bool:
    """Whether a refusal is one sentence, short enough to read."""
    sentence = reply.sentence
    return 20 < len(sentence) < 400 and "\n" not in sentence


def is_ended(message: dict) -> bool:
    """Whether an event that ran ended well, or with a sentence."""
    if message["msg"] != "process_completed":
        return False
    return message["success"] or bool(str(message["output"].get("error") or "").strip())


def told_in(messages: list[dict]) -> list[str]:
    """-> every text that an event's messages carry, wherever it stands."""
    found, level = [], [message.get("output") for message in messages]
    while level:
        value = level.pop()
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, (dict, list)):
            level += value.values() if isinstance(value, dict) else value
    return found
