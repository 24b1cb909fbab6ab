"""Several visitors of one server, over HTTP: who is served when, what each is told, and what becomes of who leaves."""

import json
import re
import socket
import threading
import time
from contextlib import closing, contextmanager

import pytest

from wanda_core.progress import Progress
from wanda_ui.engine import work

SOON = 30.0  # seconds, for what comes at once on an idle machine
LEAVING = 2.0  # seconds within which a closed tab's job has ended
QUICK = 0.5  # seconds within which what needs no engine is answered


def event_of(page, name):
    """-> the number of the page's event of that function, and what the page sends for it when nothing was touched."""
    number, event = next((number, event) for number, event in page.fns.items() if event.name == name)
    return number, event.inputs, [None if control.stateful else control.value for control in event.inputs]


def pruning(page, percent):
    """-> the event of Prune, and its data for a sparsity."""
    number, inputs, data = event_of(page, "prune")
    place = next(i for i, control in enumerate(inputs) if getattr(control, "elem_id", None) == "sparsity")
    for name, value in (("samples", 2), ("seq-len", 64)):
        data[next(i for i, control in enumerate(inputs) if getattr(control, "elem_id", None) == name)] = value
    return number, [*data[:place], percent, *data[place + 1 :]]


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
        """The numbers of jobs before it that it was told."""
        told = re.findall(r"(\d+) before you|you are next", "".join(self.lines))
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


def until(condition, seconds=SOON):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.01)
    return time.monotonic() - began


def test_six_sessions_are_served_in_the_order_they_came_and_told_their_place(served, raw, tiny_state):
    page, _ = served
    with held(tiny_state) as go:
        listeners = []
        for turn in range(6):
            number, data = pruning(page, 30 + turn)
            assert raw.join(f"six{turn}", number, data).status == 200
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
        assert max(places) == turn + 1
        assert places == sorted(places, reverse=True)


def test_a_full_queue_is_told_in_a_sentence_and_takes_no_more(served, raw, tiny_state, monkeypatch):
    page, _ = served
    most = 3
    monkeypatch.setattr(tiny_state.engine, "most_waiting", most)
    with held(tiny_state) as go:
        for turn in range(most):
            number, data = pruning(page, 10 + turn)
            assert raw.join(f"full{turn}", number, data).status == 200
        until(lambda: tiny_state.engine.waiting == most)
        listeners = []
        for turn in range(3):
            assert raw.join(f"over{turn}", *pruning(page, 60 + turn)).status == 200
            listeners.append(Listener(raw, f"over{turn}"))
        for listener in listeners:
            listener.join(SOON)
            assert f"{most} jobs wait for this server already" in "".join(listener.lines)
        assert tiny_state.engine.waiting == most
        go.set()


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
        patch.setattr(work, "prune", endless)
        assert raw.join(session, *pruning(page, 71)).status == 200
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
    """The second visitor's page asks for an analysis that is there already."""
    page, _ = served
    for name in ("analyse", "slide"):
        number, inputs, data = event_of(page, name)
        if name == "slide":
            place = next(i for i, control in enumerate(inputs) if getattr(control, "elem_id", None) == "pattern")
            data[place] = "2:4"  # no pruning that a slider shows
        assert raw.join(f"silent-{name}", number, data).status == 200
        listener = Listener(raw, f"silent-{name}")
        listener.join(SOON)
        said = [json.loads(line[6:]) for line in listener.lines]
        values = [value for message in said for value in (message.get("output") or {}).get("data") or ()]
        assert values
        untouched = [None, [], {"__type__": "update"}, {"__type__": "update", "props": {"__type__": "update"}}]
        assert all(value in untouched for value in values), name
        assert any(message["msg"] == "process_generating" for message in said)


def test_what_needs_no_engine_is_answered_meanwhile(served, raw, tiny_state):
    page, _ = served
    number, _, data = event_of(page, "welcome")
    with held(tiny_state):
        for turn in range(20):
            began = time.monotonic()
            assert raw.join(f"light{turn}", number, data).status == 200
            assert raw.outcome(f"light{turn}")["success"]
            assert time.monotonic() - began < 2 * QUICK
