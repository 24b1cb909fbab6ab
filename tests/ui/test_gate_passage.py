"""Through the gate: how often one may ask, what is written on a request, and what an event's fault becomes."""

import asyncio
import json
import logging
import os
import re
from types import SimpleNamespace

import gradio as gr
import pytest

from wanda_core.errors import InputError
from wanda_ui.gate import body, rules
from wanda_ui.gate.arrivals import arrival_of, next_arrival
from wanda_ui.gate.guarded import GuardedPage
from wanda_ui.gate.middleware import Gate
from wanda_ui.gate.rate import Rate, address_of
from wanda_ui.gate.refusal import RefusedError
from wanda_ui.gate.visitors import Visitors
from wanda_ui.settings import Settings


def test_an_address_may_ask_as_often_as_its_bucket_fills():
    now = [0.0]
    rate = Rate(6, lambda: now[0])  # six a minute: one every ten seconds
    for _ in range(6):
        rate.take("here")
    with pytest.raises(RefusedError) as refused:
        rate.take("here")
    assert (refused.value.status, refused.value.values) == (429, {"most": 6, "seconds": 10})
    rate.take("elsewhere")
    now[0] = 4.0
    with pytest.raises(RefusedError) as refused:
        rate.take("here")
    assert refused.value.values["seconds"] == 6
    now[0] = 10.5
    rate.take("here")
    with pytest.raises(RefusedError):
        rate.take("here")
    now[0] = 1000.0
    for _ in range(6):
        rate.take("here")
    with pytest.raises(RefusedError):
        rate.take("here")


def test_what_cost_more_is_paid_for_by_waiting():
    now = [0.0]
    rate = Rate(60, lambda: now[0])
    rate.take("here", 90)  # the first may take more than there is
    with pytest.raises(RefusedError) as refused:
        rate.take("here")
    assert refused.value.values["seconds"] == 31
    now[0] = 31.0
    rate.take("here")
    rate.charge("elsewhere", 65)
    with pytest.raises(RefusedError) as refused:
        rate.take("elsewhere")
    assert refused.value.values["seconds"] == 6
    Rate(0).charge("here", 10)


def test_addresses_are_forgotten_before_they_fill_the_memory_and_no_limit_counts_nothing():
    rate = Rate(1, lambda: 0.0)
    for number in range(rate.MOST_ADDRESSES + 50):
        rate.take(str(number))
    assert len(rate._buckets) == rate.MOST_ADDRESSES
    free = Rate(0)
    for _ in range(100):
        free.take("here")
    assert not free._buckets


@pytest.mark.parametrize(
    ("trusted", "sent", "address"),
    [
        (None, b"6.6.6.6", "1.2.3.4"),
        ("x-forwarded-for", b"6.6.6.6", "6.6.6.6"),
        ("x-forwarded-for", b"6.6.6.6, 7.7.7.7", "7.7.7.7"),
        ("x-forwarded-for", b"", "1.2.3.4"),
        ("x-forwarded-for", b"9" * 1000, "9" * 64),
        ("x-forwarded-for", [b"6.6.6.6", b"8.8.8.8"], "8.8.8.8"),  # a proxy that adds a line of its own
    ],
)
def test_an_address_is_the_connections_unless_a_header_is_trusted(trusted, sent, address):
    lines = [(b"X-Forwarded-For", line) for line in (sent if isinstance(sent, list) else [sent])]
    assert address_of(("1.2.3.4", 5), lines, trusted) == address


def refuse(text):
    raise InputError("this breaks a rule; change it")


@pytest.fixture
def small_page():
    """A page with a box, a button that echoes it, one that fails in a way nobody foresaw, and one that refuses."""

    async def build():  # without a loop Gradio would make some of its own and leave them open
        with GuardedPage(analytics_enabled=False) as page:
            box = gr.Textbox("", label="Box")
            gr.Button().click(lambda text: text, box, box, concurrency_id="engine")
            gr.Button().click(lambda text: {}[text], box, box)
            gr.Button().click(refuse, box, box)
        page.queue(max_size=3)
        page.state_holder = SimpleNamespace(session_data={})
        page.guard(Settings(jobs_a_minute=2))
        return page

    return asyncio.run(build())


def through(gate, page, event, headers=(), app_status=200, data=("text",)):
    """Send an event through a gate. -> (status, sentence, the scope that the inside saw)"""
    seen, sent = [], []
    raw = json.dumps({"data": data, "fn_index": event, "session_hash": "me"}).encode()
    parts = iter(
        [{"type": "http.request", "body": raw[:10], "more_body": True}, {"type": "http.request", "body": raw[10:]}]
    )

    async def receive():
        return next(parts)

    async def send(message):
        sent.append(message)

    async def inside(scope, receive, send):
        seen.append((scope, await receive()))
        await send({"type": "http.response.start", "status": app_status, "headers": []})
        await send({"type": "http.response.body", "body": b"inside"})

    gate.app = inside
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/gradio_api/queue/join",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), *headers],
        "client": ("1.2.3.4", 5),
        "app": SimpleNamespace(get_blocks=lambda: page),
    }
    asyncio.run(gate(scope, receive, send))
    return sent[0]["status"], sent[1]["body"].decode(), seen


def test_requests_bear_the_order_in_which_they_came_and_nobody_else_writes_it(small_page):
    gate, before = Gate(None), next_arrival()
    numbers = []
    for _ in range(2):
        status, _, [(scope, message)] = through(gate, small_page, 0, [(b"X-Wanda-Arrival", b"1")])
        assert status == 200
        assert json.loads(message["body"])["data"] == ["text"]
        [written] = [value for name, value in scope["headers"] if name.lower() == b"x-wanda-arrival"]
        request = gr.Request(SimpleNamespace(headers={"x-wanda-arrival": written.decode()}))
        numbers.append(arrival_of(request))
    assert before < numbers[0] < numbers[1] < arrival_of(None)


def test_jobs_are_counted_by_address_and_a_full_queue_has_words(small_page):
    gate = Gate(None)
    for _ in range(2):
        assert through(gate, small_page, 0)[0] == 200
    status, sentence, seen = through(gate, small_page, 0)
    assert (status, seen) == (429, [])
    assert "try again in 30 s" in json.loads(sentence)["detail"]
    assert through(gate, small_page, 1)[0] == 200  # no job of the engine
    status, sentence, _ = through(gate, small_page, 1, app_status=503)
    assert status == 429
    assert json.loads(sentence)["detail"] == "All 200 places in the queue are taken; wait a little and try again."


def test_a_body_is_counted_by_its_size_before_it_is_looked_into(small_page, monkeypatch):
    gate, looked = Gate(None), []
    monkeypatch.setattr(body, "parse", lambda raw, headers: looked.append(len(raw)) or {})
    monkeypatch.setattr(body, "PIECE", 1)
    statuses = [through(gate, small_page, 0)[0] for _ in range(4)]
    assert statuses == [400, 400, 429, 429]  # two requests are more than the hundred pieces of two jobs a minute
    assert len(looked) == 2


def test_nothing_looks_for_a_file_before_the_values_and_the_rate_are_in_order(small_page, monkeypatch):
    gate, looked, long = Gate(None), [], "a/" * 200_000
    monkeypatch.setattr(os.path, "realpath", lambda path: looked.append(path) or path)
    for data in ([{"path": long}], {"path": long}, [[{"path": "a"}] * 1000]):
        status, sentence, seen = through(gate, small_page, 0, data=data)
        assert (status, seen) == (400, [])
        assert "is not kept" not in sentence
    visitors = Visitors()
    with pytest.raises(RefusedError, match="file_gone"):
        visitors.check_files({"path": long}, {})
    assert looked == []


def test_a_file_is_looked_for_once_however_often_an_event_names_it_and_few_are(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    mine, looked, real, visitors = str(tmp_path / "mine.txt"), [], os.path.realpath, Visitors()
    visitors.uploaded(mine, {})
    monkeypatch.setattr(os.path, "realpath", lambda path: looked.append(path) or real(path))
    rules.check_event_data([[{"path": mine}]] * 600)
    assert visitors.check_files([[{"path": mine}]] * 600, {}) == {real(mine)}
    assert looked.count(mine) == 2  # whether it is an upload, and whose
    assert len(looked) == 3
    looked.clear()
    with pytest.raises(RefusedError, match="files"):
        rules.check_event_data([{"path": f"{mine}{number}"} for number in range(rules.MOST_FILES + 1)])
    assert looked == []


def test_a_body_in_chunks_is_not_waited_for_and_its_connection_ends(small_page):
    for chunks in (b"chunked", b"gzip, chunked"):
        status, sentence, seen = through(Gate(None), small_page, 0, [(b"Transfer-Encoding", chunks)])
        assert (status, seen) == (411, [])
        assert "Content-Length" in json.loads(sentence)["detail"]


def test_what_an_event_raises_is_a_sentence_for_the_visitor_and_in_the_log_where_it_was_raised(small_page, caplog):
    def run(event):
        return asyncio.run(small_page.process_api(small_page.fns[event], ["my secret"]))

    with pytest.raises(gr.Error, match=r"^'Something went wrong here \(KeyError\) and was noted") as told:
        run(1)
    assert not told.value.print_exception
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    line, *frames = record.getMessage().splitlines()
    assert re.fullmatch(r"event <lambda> failed: KeyError in <lambda> \(test_gate_passage\.py:\d+\)", line)
    assert re.fullmatch(r'  File ".*test_gate_passage\.py", line \d+, in <lambda>', frames[-3])
    assert "my secret" not in record.getMessage()
    with pytest.raises(gr.Error, match=r"^'this breaks a rule; change it'") as told:
        run(2)
    assert not told.value.print_exception
    assert len(caplog.records) == 1
