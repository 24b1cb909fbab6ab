"""Downloads beside each other, beside a pruning, and of what the server has let go meanwhile: the same bytes always."""

import gc
import threading
import weakref
from contextlib import closing
from types import SimpleNamespace

import pytest
from raw_requests import Raw
from take_away import RECIPE, SENT, got, ticket
from view_events import column, until

from wanda_core.progress import finish
from wanda_ui.away import tickets
from wanda_ui.compare.asked import column_of
from wanda_ui.engine.look import Wanted
from wanda_ui.engine.looked import only_progress
from wanda_ui.gate import download

PIECE = 2**14  # bytes that are asked for at once: the tiny model is a megabyte


@pytest.fixture
def small_pieces(monkeypatch):
    """The server sends a little at a time, so that much happens between two pieces."""
    monkeypatch.setattr(download, "CHUNK_BYTES", PIECE)


def begun(web, made):
    """Begin a download. -> its connection, its answer and its first bytes"""
    connection = web.connection()
    connection.request("GET", f"/{made['address']}")
    answer = connection.getresponse()
    return SimpleNamespace(answer=answer, close=connection.close, first=answer.read(PIECE))


def test_two_at_once_of_one_address_and_of_two(web, small_pieces):
    first, second = ticket(web), ticket(web, dtype="bfloat16")
    whole = {made["address"]: got(web, made).body for made in (first, second)}
    found = {}

    def read(number, made):
        with closing(Raw(web.address.geturl())) as own:
            found[number] = (made["address"], got(own, made).body)

    threads = [threading.Thread(target=read, args=pair) for pair in enumerate([first, second, first, second])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(threads)
    assert all(body == whole[address] for address, body in found.values())


@pytest.mark.parametrize("changes", [{"order": "faithful"}, {"order": "in-flight"}, {"update": "least-squares"}])
def test_while_the_same_model_is_pruned(web, taken, small_pieces, changes):
    state, page, _ = taken
    made = ticket(web)
    whole = got(web, made).body
    recipe = column_of(column(2, at=65, **changes), page.settings).recipe
    pieces, steps = [], 0
    with closing(begun(web, made)) as reading:
        pieces.append(reading.first)
        for _ in only_progress(state.look_steps("tiny", recipe, None, Wanted(False, False))):
            steps += 1
            pieces.append(reading.answer.read(PIECE))
        pieces.append(reading.answer.read())
    assert steps
    assert b"".join(pieces) == whole
    assert state.key_of(state.models["tiny"], recipe) in state.variants.keys


def test_what_is_let_go_meanwhile_goes_out_whole_and_is_gone_then(web, taken, other, small_pieces):
    state = taken[0]
    other("gone")
    made = ticket(web, model="gone")
    whole = got(web, made).body
    loaded = state.models["gone"]
    result = state.variants.get(state.key_of(loaded, RECIPE))
    with closing(begun(web, made)) as reading:
        kept = weakref.ref(next(iter(result.variant.parameters.values())))
        state.variants._results.pop(result.key)  # as when another takes its room
        del state.models["gone"], result
        body = reading.first + reading.answer.read()
    state.models["gone"] = loaded  # which the fixture takes away
    assert body == whole
    until(lambda: not any(one.readers for one in state.tickets._tickets.values()))
    state.tickets.clock, before = lambda: before() + 2 * tickets.LIVES_SECONDS, state.tickets.clock
    try:
        assert kept() is not None
        recipe = column_of(column(1, method="magnitude", at=35), taken[1].settings).recipe
        finish(only_progress(state.look_steps("tiny", recipe, None, Wanted(False, False))))  # which makes room
        gc.collect()
        assert kept() is None
        assert loaded.claims == 0
    finally:
        state.tickets.clock = before


def test_what_fails_in_a_download_is_logged_without_its_address(web, taken, monkeypatch, server_log):
    made = ticket(web)
    before = len(server_log())

    def broken(secret, file):
        raise ValueError(secret)

    monkeypatch.setitem(taken[1].downloads, "checkpoint", broken)
    assert web.send("GET", f"/{made['address']}").status == 500
    written = server_log()[before:]
    secret, name = made["address"].split("/")[2:]
    assert f"/wanda/checkpoint/…/{name[:10]}" in written
    assert secret not in written


def test_nothing_of_a_download_is_put_on_the_disk(web, small_pieces, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = ticket(web, recipe=SENT)
    with closing(begun(web, made)):
        assert not list(tmp_path.iterdir())
    assert got(web, made).status == 200
    assert not list(tmp_path.iterdir())
