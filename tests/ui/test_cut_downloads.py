"""Downloads that break off, stall or fail, and how little of the server they hold meanwhile."""

import io
import json
import socket
import threading
import time
import zipfile
from contextlib import closing
from http.client import IncompleteRead
from pathlib import Path

import psutil
import pytest
from raw_requests import Raw
from safetensors.torch import load_file, save_file
from take_away import SENT, asked, got, ticket
from view_events import column, until

from wanda_core.progress import finish
from wanda_ui.away.take import Take
from wanda_ui.compare.asked import column_of
from wanda_ui.gate import download


@pytest.fixture
def slow(taken):
    """An archive that never ends by itself, and notes how far it was read and that it was closed."""
    made = SlowArchive()
    of = taken[0].tickets.make(taken[0].models["tiny"], made)
    yield made, f"wanda/checkpoint/{of.secret}/{of.file}"
    made.go.set()


class SlowArchive:
    name, nbytes = "slow", 10**12

    def __init__(self):
        self.pieces, self.closed, self.go = 0, threading.Event(), threading.Event()

    def read(self, start=0):
        try:
            with Path(__file__).open("rb"):
                while True:
                    self.pieces += 1
                    yield bytes(2**20)
        finally:
            self.closed.set()


def connected(taken, path):
    """Ask for a download over a socket of its own. -> it, after the first bytes have come"""
    host, port = taken[2].removeprefix("http://").split(":")
    line = socket.create_connection((host, int(port)), timeout=30)
    line.sendall(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert b" 200 " in line.recv(100)
    return line


def test_who_goes_away_leaves_nothing_behind(web, taken, slow):
    archive, address = slow
    threads = threading.active_count()
    for reset in (False, True):
        archive.closed.clear()
        line = connected(taken, address)
        line.recv(2**16)
        if reset:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        line.close()
        assert archive.closed.wait(5)
    until(lambda: not any(one.readers for one in taken[0].tickets._tickets.values()), 5)
    assert not [file for file in psutil.Process().open_files() if file.path == __file__]
    assert threading.active_count() <= threads + download_threads()


def download_threads():
    """Threads that wait for more to make, as they do for a while."""
    return sum("AnyIO" in thread.name for thread in threading.enumerate())


def test_who_does_not_read_costs_no_memory_and_holds_nobody_up(web, taken, slow):
    archive, address = slow
    with closing(connected(taken, address)):
        until(lambda: archive.pieces >= 2, 10)
        time.sleep(0.5)
        before = archive.pieces
        time.sleep(0.5)
        assert archive.pieces == before < 40  # what lies in the system's buffers, and a piece
        began = time.monotonic()
        assert web.send("GET", "/config").status == 200
        assert web.post("/wanda/take", {"model": "tiny", "recipes": [SENT]}).status == 200
        assert time.monotonic() - began < 15  # it would be for as long as nobody reads
    assert archive.closed.wait(5)


def test_who_stops_reading_for_good_is_given_up(web, taken, slow, monkeypatch):
    monkeypatch.setattr(download, "STALLED_SECONDS", 0.5)
    archive, address = slow
    with closing(connected(taken, address)):
        assert archive.closed.wait(10)


def test_the_servers_loop_never_waits_for_bytes_that_are_being_made(web, taken, slow, monkeypatch):
    archive, address = slow

    def held(start=0):
        yield bytes(2**21)
        archive.go.wait(30)
        archive.closed.set()
        yield b""

    monkeypatch.setattr(archive, "read", held)
    with closing(connected(taken, address)) as line:
        line.recv(2**16)
        began = time.monotonic()
        assert web.send("GET", "/config").status == 200
        assert time.monotonic() - began < 15  # of the thirty that it takes
        assert not archive.closed.is_set()
        archive.go.set()
        assert archive.closed.wait(5)


def test_what_changes_meanwhile_ends_the_download_before_its_length(taken, other, server_log):
    folder = other("other")
    with closing(Raw(taken[2])) as web:
        made = ticket(web, model="other")
        file = folder / "tokenizer.json"
        file.write_bytes(file.read_bytes() + b" ")
        before = len(server_log())
        with closing(web.connection()) as connection:
            connection.request("GET", f"/{made['address']}")
            answer = connection.getresponse()
            with pytest.raises(IncompleteRead):
                answer.read()
        assert "a download failed: StorageError in _check_state" in server_log()[before:]
        (folder / "config.json").write_bytes((folder / "config.json").read_bytes() + b"\n")
        reply = asked(web, model="other")
        assert reply.status == 400
        assert "have changed since it was loaded; load the model again" in reply.sentence


def test_a_number_beyond_the_format_is_said_before_a_byte_is_sent(web, other):
    def change(folder):
        values = load_file(folder / "model.safetensors")
        values["model.norm.weight"][0] = 1e6
        save_file(values, folder / "model.safetensors", metadata={"format": "pt"})

    other("other", change)
    reply = asked(web, model="other", dtype="float16")
    assert reply.status == 400
    assert "model.norm.weight holds numbers beyond float16; save it in bfloat16" in reply.sentence
    ticket(web, model="other", dtype="bfloat16")


def test_a_model_whose_files_hold_something_else_names_the_command(web, other, tiny_llama):
    other("made here", lm=tiny_llama)  # which no folder holds
    answer = json.loads(web.post("/wanda/take", {"model": "made here", "recipes": [SENT]}).body)
    told = answer["checkpoint"]
    assert (told["offered"], told["bytes"], told["own"]) == (False, {}, "float32")
    assert "its command or its Python makes the checkpoint" in told["why"]
    assert answer["recipes"][0]["command"].startswith("wanda-lab prune ")
    reply = asked(web, model="made here")
    assert reply.status == 400
    assert reply.sentence == told["why"]


WIDE = 2**24  # numbers of the embeddings; 64 MB of float32


def test_memory_grows_by_a_few_pieces_while_it_is_sent(web, other, model):
    def widen(folder):
        wide = type(model.model).from_pretrained(folder)
        wide.resize_token_embeddings(WIDE // 64, mean_resizing=False)
        wide.save_pretrained(folder)

    other("wide", widen)
    made = ticket(web, model="wide")
    assert made["bytes"] > 8 * WIDE  # embeddings and head
    process = psutil.Process()
    before, most, length = process.memory_info().rss, 0, 0
    with closing(web.connection()) as connection:
        connection.request("GET", f"/{made['address']}")
        answer = connection.getresponse()
        while piece := answer.read(2**20):
            length += len(piece)
            most = max(most, process.memory_info().rss - before)
    assert length == made["bytes"]
    assert most < 40e6


@pytest.mark.parametrize("changes", [{}, {"update": "least-squares"}, {"pattern": "2:4"}])
def test_every_kind_of_variant_goes_out(taken, web, changes):
    state, page, _ = taken
    sent = column(1, order="faithful", **changes)
    chosen = Take(state, lambda: page.settings).chosen
    given = {"model": "tiny", "recipe": sent}
    assert chosen(given, None) == {"missing": True}
    finish(state.prune_steps("tiny", column_of(sent, page.settings).recipe))
    assert chosen(given, None).result.variant.changes_weights == ("update" in changes)
    with zipfile.ZipFile(io.BytesIO(got(web, ticket(web, recipe=sent)).body)) as opened:
        assert opened.testzip() is None
