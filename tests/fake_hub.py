"""A hub on loopback, for tests: one model with its branches, slow, gated or silent on request, and room to push to."""

import json
import re
import socket
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from fake_room import Room
from huggingface_hub import constants

from wanda_core.errors import WandaError
from wanda_core.model import hub as hub_module
from wanda_core.model import hub_faults
from wanda_core.model.loading import load_model

MODEL = "owner/model"
OLD, NEW = "a" * 40, "b" * 40  # its commits
DROPS = 20


@dataclass
class Hub:
    """commits: a folder of files for each; refs: branches and tags; slow: file that comes in DROPS; pause: seconds
    between them; broken: path that is answered with 503 from now on, as a pattern; gated: the token with which alone
    the model's files are given; counts: numbers of each type in the weights, as the hub tells of most models; asked:
    paths that were asked for; room: what is pushed goes there, where there is one; broken_off: set when somebody does
    not wait for a file's end; drops: file -> (share of it after which the line is cut, how many times); dropped: how
    often it was; claimed: sizes that the hub tells of files in place of theirs."""

    commits: dict[str, Path]
    refs: dict[str, str]
    address: str = ""
    slow: str | None = None
    pause: float = 0.1
    broken: str | None = None
    gated: str | None = None
    room: Room | None = None
    counts: dict[str, int] | None = None
    asked: list[str] = field(default_factory=list)
    drops: dict[str, tuple[float, int]] = field(default_factory=dict)
    dropped: int = 0
    claimed: dict[str, int] = field(default_factory=dict)
    stopped: threading.Event = field(default_factory=threading.Event)
    broken_off: threading.Event = field(default_factory=threading.Event)

    def commit(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.refs.get(revision)


@contextmanager
def serving(hub: Hub):
    """Answer as the hub does, for the length of a test."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def do_HEAD(self):
            self.respond(head=True)

        def do_GET(self):
            self.respond(head=False)

        def do_POST(self):
            self.respond(head=False)

        def do_PUT(self):
            self.respond(head=False)

        def respond(self, head):
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(path)
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
            if hub.broken and re.search(hub.broken, path):
                return self.send(503, b"out of order", head)
            if hub.room is not None and hub.room.has(path):
                answered = hub.room.answer(self.command, path, self.body(), token)
                return self.send(answered.status, answered.body, head, **answered.headers)
            about = re.fullmatch(rf"/api/models/{MODEL}(?:/revision/(.+))?", path)
            tree = re.fullmatch(rf"/api/models/{MODEL}/tree/([^/]+)", path)
            file = re.fullmatch(rf"/{MODEL}/resolve/([^/]+)/(.+)", path)
            if about:
                return self.send_info(hub.commit(about[1] or "main"))
            if tree:
                sizes = self.sizes(tree[1])
                found = [{"type": "file", "path": p, "size": n, "oid": f"{tree[1][:4]}-{p}"} for p, n in sizes.items()]
                return self.send(200, json.dumps(found).encode())
            if file and hub.gated and token != hub.gated:
                return self.send(401 if token is None else 403, b"", **{"X-Error-Code": "GatedRepo"})
            if file and (content := hub.commits[file[1]] / file[2]).is_file():
                headers = {"ETag": f'"{file[1][:4]}-{file[2]}"', "X-Repo-Commit": file[1]}
                if not head and self.drop(file[2], content.read_bytes(), headers):
                    return None
                return self.send(200, content.read_bytes(), head, slow=file[2] == hub.slow, **headers)
            return self.send(404, b"", **{"X-Error-Code": "EntryNotFound" if file else "RepoNotFound"})

        def drop(self, name, content, headers):
            """Send a part of a file and cut the line, where that is to be; whether it was."""
            share, times = hub.drops.get(name, (0, 0))
            if not times:
                return False
            hub.drops[name], hub.dropped = (share, times - 1), hub.dropped + 1
            self.send_response(200)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(content[: int(share * len(content))])
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return True

        def body(self):
            """Read what was sent, a piece at a time, slowly where the hub is."""
            sent, left = b"", int(self.headers.get("Content-Length") or 0)
            while left and (piece := self.rfile.read(min(left, 2**14))):
                sent, left = sent + piece, left - len(piece)
                if hub.slow == self.command and hub.stopped.wait(hub.pause):
                    break
            return sent

        def sizes(self, commit):
            folder = hub.commits[commit]
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files} | hub.claimed

        def send_info(self, commit):
            if commit is None:
                return self.send(404, b"", **{"X-Error-Code": "RevisionNotFound"})
            siblings = [{"rfilename": name, "size": size} for name, size in self.sizes(commit).items()]
            about = {"id": MODEL, "sha": commit, "siblings": siblings}
            if hub.counts is not None:
                about["safetensors"] = {"parameters": hub.counts, "total": sum(hub.counts.values())}
            return self.send(200, json.dumps(about).encode())

        def send(self, status, body, head=False, slow=False, **headers):
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body)), "Connection": "close"}.items():
                self.send_header(name, value)
            self.end_headers()
            if head:
                return
            try:
                size = len(body) // DROPS + 1 if slow else max(len(body), 1)
                for start in range(0, len(body), size):
                    self.wfile.write(body[start : start + size])
                    if slow and hub.stopped.wait(hub.pause):
                        return
            except OSError:
                hub.broken_off.set()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        hub.stopped.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def silent():
    """Give the address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def point_at(monkeypatch, address: str) -> None:
    """Let huggingface_hub ask there, as HF_ENDPOINT does for a fresh process."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@contextmanager
def dripping():
    """Give the address of a server that begins its answer and never ends it, a byte ten times a second."""
    ended = threading.Event()

    def answer(server):
        connection, _ = server.accept()
        with connection, suppress(OSError):  # whoever asked may leave
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not ended.wait(0.1):
                connection.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, args=[server], daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            ended.set()
            thread.join(10)


def refusal(name, kind: type[WandaError]) -> str:
    """Load a model. -> the sentence it is refused with"""
    with pytest.raises(kind) as caught:
        load_model(name, device="cpu")
    message = str(caught.value)
    assert type(caught.value) is kind
    assert message.splitlines() == [message]
    assert len(message) < 700
    return message


class Sibling:
    def __init__(self, rfilename: str, size: int):
        self.rfilename, self.size = rfilename, size


class Info:
    sha = "0123abc"
    safetensors = None

    def __init__(self, **files: int):
        self.siblings = [Sibling(name.replace("__", "."), size) for name, size in files.items()]


def hub_answers(monkeypatch, answer):
    """Let the hub answer the look-up of any model with an `Info`, or by raising an error."""

    class Api:
        def model_info(self, name, **settings):
            if isinstance(answer, BaseException):
                raise answer
            return answer

    monkeypatch.setattr(hub_module, "HfApi", Api)


def response(status: int):
    return hub_faults.httpx.Response(status, request=hub_faults.httpx.Request("GET", "https://hub.test"))
