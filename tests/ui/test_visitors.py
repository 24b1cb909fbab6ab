"""Several visitors of one server, over HTTP: who is served when, what each is told, and what becomes of who leaves."""

import json
import re
import socket
import threading
import time
from contextlib import closing, contextmanager
from itertools import takewhile

import pytest
from view_events import column, event, until

from wanda_core.progress import Progress
from wanda_ui.engine import look as looks

SOON = 60.0  # seconds, for what comes at once on an idle machine
LEAVING = 2.0  # seconds within which a closed tab's job has ended
QUICK = 0.5  # seconds within which what needs no engine is answered


def numbered(page, name):
    """-> the number of the page's event of that function."""
    return next(number for number, event in page.fns.items() if event.name == name)


def ask_look(raw, page, session, percent):
    """Ask for a look at a variant, which nobody asked for before. -> the answer of the server."""
    data = event(column(at=percent, order="faithful"), model="builtin", length=4)._data
    return raw.join(session, numbered(page, "look"), [], event_data=data)


class Listener(threading.Thread):
    """Reads a session's messages until its event has ended."""

    def __init__(self, raw, session):
        super().__init__(daemon=True)
        self.raw, self.session = raw, session
        self.lines, self.ended, self.last = [], None, None
        self.start()

    def run(self):
        with closing(self.raw.connection()) as connection:
            connection.request("GET", f"/gradio_api/queue/data?session_hash={self.session}")
            answer = connection.getresponse()
            while line := answer.readline():
                if line.startswith(b"data: "):
                    self.lines.append(line.decode())
                    message = json.loads(line[6:])
                    if message["msg"] in ("process_completed", "unexpected_error"):
                        self.ended, self.last = time.monotonic(), message
                        return

    def places(self):
        """The numbers of jobs before it that it was told before it got its first word."""
        waited = takewhile(lambda line: "pieces" not in line, self.lines)
        told = re.findall(r"(\d+) before you|you are next", "".join(waited))
        return [int(number) if number else 0 for number in told]


@contextmanager
def held(state):
    """The engine is busy until the event is set."""
    go = threading.Event()

    def hold():
        while not go.wait(0.01):
            yield Progress("analysis", 0, 1, "blocks")

    with closing(state.engine.run(hold, ("hold",))) as steps:
        next(steps)
        try:
            yield go
        finally:
            go.set()
    assert state.engine.settle(SOON)


@pytest.mark.long
def test_six_sessions_are_served_in_the_order_they_came_and_told_their_place(served, raw, tiny_state):
    page, _ = served
    with held(tiny_state) as go:
        listeners = []
        for turn in range(6):
            assert ask_look(raw, page, f"six{turn}", 30 + turn).status == 200
            listeners.append(Listener(raw, f"six{turn}"))
            until(lambda turn=turn: tiny_state.engine.waiting == turn + 1)
        for turn, listener in enumerate(listeners):  # the busy engine and all who came before
            until(lambda listener=listener, turn=turn: turn + 1 in listener.places())
        go.set()
        for listener in listeners:
            listener.join(SOON)
    ends = [listener.ended for listener in listeners]
    assert ends == sorted(ends)
    for turn, listener in enumerate(listeners):
        assert listener.last["success"]
        assert "zeros" in "".join(listener.lines)
        places = listener.places()
        # Nobody who came later is ever before it, and who came earlier counts until all of their look is done.
        assert places[0] == max(places) == turn + 1
        assert places == sorted(places, reverse=True)


def test_a_full_queue_is_told_in_a_sentence_and_takes_no_more(served, raw, tiny_state, monkeypatch):
    page, _ = served
    most = 3
    monkeypatch.setattr(tiny_state.engine, "most_waiting", most)
    with held(tiny_state) as go:
        waiting = []
        for turn in range(most):
            assert ask_look(raw, page, f"full{turn}", 10 + turn).status == 200
            waiting.append(Listener(raw, f"full{turn}"))
        until(lambda: tiny_state.engine.waiting == most)
        listeners = []
        for turn in range(3):
            assert ask_look(raw, page, f"over{turn}", 60 + turn).status == 200
            listeners.append(Listener(raw, f"over{turn}"))
        for listener in listeners:
            listener.join(SOON)
            assert f"{most} jobs wait for this server already" in "".join(listener.lines)
        assert tiny_state.engine.waiting == most
        monkeypatch.undo()
        go.set()
        for listener in waiting:  # a look is several jobs
            listener.join(SOON)
            assert "zeros" in "".join(listener.lines)


@pytest.mark.alone
@pytest.mark.parametrize("place", ["running", "waiting"])
def test_a_closed_tab_takes_its_job_along(served, raw, tiny_state, place):
    page, _ = served
    session, began = f"closed-{place}", threading.Event()

    def endless(models, **_):
        began.set()
        while True:
            yield Progress("pruning", 0, 1, "blocks")
            time.sleep(0.01)

    with pytest.MonkeyPatch.context() as patch, held(tiny_state) as go, closing(raw.connection()) as tab:
        patch.setattr(looks, "look", endless)
        assert ask_look(raw, page, session, 71).status == 200
        tab.request("GET", f"/gradio_api/queue/data?session_hash={session}")
        answer = tab.getresponse()
        assert answer.readline()
        until(lambda: tiny_state.engine.waiting == 1)
        if place == "running":
            go.set()
            assert began.wait(SOON)
        tab.sock.shutdown(socket.SHUT_RDWR)
        if place == "running":
            assert until(lambda: tiny_state.engine.idle) < LEAVING
        else:
            assert until(lambda: not tiny_state.engine.waiting) < LEAVING
            assert not began.is_set()


def test_an_event_with_nothing_to_say_changes_nothing(served, raw):
    """A model that was read is read once; a tab that shows what it should is not drawn again when it is opened."""
    page, _ = served
    side = next(number for number, event in page.fns.items() if event.name == "open" and event.inputs)
    greeting = numbered(page, "welcome")
    for turn, number in enumerate((greeting, side, side, greeting, numbered(page, "analyse"))):
        data = [None if control.stateful else control.value for control in page.fns[number].inputs]
        assert raw.join("silent", number, data).status == 200
        said = raw.messages("silent")
        values = [value for message in said for value in (message.get("output") or {}).get("data") or ()]
        assert values
        untouched = [None, [], {"__type__": "update"}, {"__type__": "update", "props": {"__type__": "update"}}]
        assert all(value in untouched for value in values) == (turn > 1), turn
        assert number == greeting or any(message["msg"] == "process_generating" for message in said)


@pytest.mark.alone
def test_what_needs_no_engine_is_answered_meanwhile(served, raw, tiny_state):
    page, _ = served
    number = numbered(page, "welcome")
    with held(tiny_state):
        for turn in range(20):
            began = time.monotonic()
            assert raw.join(f"light{turn}", number, [None]).status == 200
            assert raw.outcome(f"light{turn}")["success"]
            assert time.monotonic() - began < 2 * QUICK


def test_an_event_is_ended_by_its_own_session_and_no_other_is_told_whether_there_is_one(served, raw, tiny_state):
    page, _ = served
    number = numbered(page, "look")
    with held(tiny_state) as go:
        name = json.loads(ask_look(raw, page, "owner", 37).body)["event_id"]
        listener = Listener(raw, "owner")
        until(lambda: tiny_state.engine.waiting == 1)
        ended = {"event_id": name, "session_hash": "stranger", "fn_index": number}
        refused = raw.post("/gradio_api/cancel", ended)
        unknown = raw.post("/gradio_api/cancel", {**ended, "event_id": "0" * len(name)})
        assert (refused.status, unknown.status) == (404, 404)
        assert refused.sentence.replace(name, "") == unknown.sentence.replace("0" * len(name), "")
        assert tiny_state.engine.waiting == 1
        assert listener.is_alive()
        assert raw.post("/gradio_api/cancel", {**ended, "session_hash": "owner"}).status == 200
        listener.join(SOON)
        assert json.loads(listener.lines[-1][6:])["event_id"] == name
        go.set()
