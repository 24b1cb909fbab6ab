"""Requests that no page sends, to every event and route: each ends with an answer in words, and nothing else happens.

The server runs over a tiny model. What the gate takes is run to its end; what it does not is refused before any work.
"""

import asyncio
import hashlib
import json
import math
import os
import random
import socket
import threading
from contextlib import closing

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_requests import JSON, Raw, kept_log

from wanda_core.errors import ModelError
from wanda_core.progress import Progress, finish
from wanda_ui import app_state
from wanda_ui.app_state import AppState, Loaded
from wanda_ui.gate.middleware import MOST_UNREAD
from wanda_ui.page import build, launch_settings
from wanda_ui.settings import Settings

LEAST_CASES = 2_000
MOST_RUNS = 3  # of one event over the tiny model
MOST_GROWTH = 300 * 2**20  # bytes of memory, over all cases
UPLOAD_BYTES = 300_000
HUGE = "x" * 60_000
TEXTS = ("prompt", "sentence-text-box", "sinks-text-box", "lesson-3-s", "lesson-4-s", "lesson-5-s", "lesson-8-s")
# No control takes any of these, whatever it is: the wrong kind, no number, half a character, too much.
NEVER = [{"a": 1}, [[[[]]]], ["x"] * 3, math.nan, math.inf, -math.inf, 10**30, -(10**300), "\ud800", "a\udfffb", HUGE]
SOMETIMES = [
    None,
    True,
    False,
    0,
    1.5,
    -1,
    7,
    "",
    " ",
    "0",
    "507",
    "wanda",
    "😀",
    "<b>",
    "a\0b",
    "nobody/nothing",
    [],
    {},
]


@pytest.fixture(scope="module")
def log():
    """What the server wrote so far."""
    with kept_log() as read:
        yield read


@pytest.fixture(scope="module")
def state(tiny_llama, log):
    """A state whose built-in model is tiny and analysed; there is no other model."""

    def nothing(name, **_):
        raise ModelError(f"{str(name)[:40]!r} is not here; choose another")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app_state, "load_model", nothing)
        patch.setattr(app_state, "EVAL_SEQ_LEN", 128)  # the tiny model reads no more than 256 tokens
        state = AppState()
        state.models["builtin"] = Loaded(tiny_llama)
        finish(state.open_steps("builtin"))
        yield state


@pytest.fixture(scope="module")
def served(state, tmp_path_factory):
    """-> (the page, its address)"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
        chosen = Settings(upload_bytes=UPLOAD_BYTES)

        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]

        async def launched():
            """Gradio would make event loops of its own where none runs, and leave them open."""
            page = build(state, chosen)
            where = {"server_name": "127.0.0.1", "server_port": port}
            page.launch(prevent_thread_lock=True, quiet=True, **where, **launch_settings(chosen))
            return page

        page = asyncio.run(launched())
        yield page, f"http://127.0.0.1:{port}"
        page.close()


@pytest.fixture
def raw(served, log):
    """A client; whatever it does, the server's log holds no traceback afterwards."""
    client, before = Raw(served[1]), len(log())
    yield client
    client.close()
    written = log()[before:]
    assert "Traceback" not in written, written[-3000:]
    assert "failed:" not in written, written[-3000:]


def events(page):
    """The page's events that the server answers: (number, event), with inputs or without."""
    return [(number, event) for number, event in page.fns.items() if event.fn is not None]


def usual(control) -> object:
    """What the page sends for a control nobody touched."""
    return None if control.stateful else control.value


def is_told(reply) -> bool:
    """Whether a refusal is one sentence, short enough to read."""
    sentence = reply.sentence
    return 20 < len(sentence) < 400 and "\n" not in sentence


def is_ended(message: dict) -> bool:
    """Whether an event that ran ended well, or with a sentence."""
    if message["msg"] != "process_completed":
        return False
    return message["success"] or bool(str(message["output"].get("error") or "").strip())


def test_every_input_of_every_event_refuses_what_it_cannot_be(served, raw, state):
    page, _ = served
    before, memory = fingerprint(state), psutil.Process().memory_info().rss
    cases = accepted = 0
    for number, event in events(page):
        data = [usual(control) for control in event.inputs]
        for place in range(len(data)):
            for value in NEVER:
                if value is HUGE and type(event.inputs[place]).__name__ == "HTML":
                    continue
                reply = raw.join("never", number, [*data[:place], value, *data[place + 1 :]])
                cases += 1
                assert reply.status == 400, (number, place, str(value)[:50], reply.body[:200])
                assert is_told(reply), reply.body
        for values in ([*data, None], data[:-1] if data else [None], None, {}, "data", [data]):
            if values == data:
                continue
            reply = raw.join("never", number, values)
            accepted += reply.status == 200
            cases += 1
            assert is_told(reply), (number, values, reply)
    assert accepted == 0
    assert cases >= LEAST_CASES
    assert "never" not in page.state_holder.session_data
    assert psutil.Process().memory_info().rss - memory < MOST_GROWTH
    assert fingerprint(state) == before


def test_what_some_control_takes_is_refused_or_runs_to_its_end(served, raw, state):
    """One value of one input at a time, drawn so that every control meets each value somewhere."""
    page, _ = served
    before = fingerprint(state)
    draw = random.Random(0)
    ran = refused = 0
    seen: set[tuple[int, int]] = set()
    for number, event in events(page):
        if event.name in ("work", "first", "see", "slide") and (event.name, tuple(event.inputs)) in seen:
            continue  # the same function of the same controls, asked for by another of them
        seen.add((event.name, tuple(event.inputs)))
        data = [usual(control) for control in event.inputs]
        enough = ran + MOST_RUNS
        for place in range(len(data)):
            for value in draw.sample(SOMETIMES, 4) if ran < enough else ():
                session = f"some{number}-{place}-{ran + refused}"
                reply = raw.join(session, number, [*data[:place], value, *data[place + 1 :]])
                if reply.status != 200:
                    refused += 1
                    assert is_told(reply), (number, place, value, reply)
                    continue
                ran += 1
                assert is_ended(raw.outcome(session)), (number, place, value)
    assert ran > 30
    assert refused > 150
    assert fingerprint(state) == before


def fingerprint(state) -> str:
    """A hash of the dense model's weights."""
    made = hashlib.sha256()
    for name, tensor in sorted(state.models["builtin"].lm.model.state_dict().items()):
        made.update(name.encode() + tensor.numpy().tobytes())
    return made.hexdigest()


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
KEYS = st.sampled_from(["data", "fn_index", "session_hash", "event_data", "trigger_id", "event_id", "batched", "x"])


@given(body=st.dictionaries(KEYS, ANY, max_size=7))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_envelope_of_any_kind_is_answered_in_words(raw, body):
    for path in ("queue/join", "run/press", "cancel", "reset"):
        reply = raw.post(f"/gradio_api/{path}", body)
        assert reply.status < 500
        assert reply.status == 200 or is_told(reply), reply


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"fn_index": 10**9}, 400),
        ({"fn_index": -1}, 400),
        ({"fn_index": True}, 400),
        ({"fn_index": 2.0}, 400),
        ({"fn_index": "2"}, 400),
        ({"fn_index": None}, 400),
        ({"session_hash": None}, 400),
        ({"session_hash": ""}, 400),
        ({"session_hash": "s" * 65}, 400),
        ({"session_hash": ["s"]}, 400),
        ({"session_hash": "a/../b"}, 400),
        ({"session_hash": "\ud800"}, 400),
        ({"trigger_id": "0"}, 400),
        ({"trigger_id": True}, 400),
        ({"trigger_id": 10**12}, 400),
        ({"event_data": "\ud800"}, 400),
        ({"event_data": {"\ud800": 1}}, 400),
        ({"event_data": "x" * 20_000}, 400),
        ({"event_id": "x"}, 400),
        ({"batched": True}, 400),
        ({"simple_format": True}, 400),
        ({"oauth_token": "x"}, 400),
        ({"\ud800": 1}, 400),
        ({}, 200),
    ],
)
def test_an_envelope_that_is_wrong_in_one_way_is_refused_for_it(served, raw, change, status):
    number = next(number for number, event in events(served[0]) if event.name == "welcome")
    reply = raw.post("/gradio_api/queue/join", {"data": [], "fn_index": number, "session_hash": "envelope", **change})
    assert reply.status == status, reply
    assert is_told(reply) if status >= 400 else is_ended(raw.outcome("envelope"))


BODIES = [
    b"",
    b"null",
    b"[]",
    b"{",
    b'{"data"',
    b"\x00" * 50,
    b"\xff\xfe\x00",
    b'{"data": [], "data": []}',
    b"[" * 100_000,
    b'{"data":' * 50_000,
    b'{"data": [' + b"9" * 5_000 + b"]}",
    "한".encode("utf-16"),
    b"NaN",
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize("path", ["queue/join", "run/x", "run/1", "cancel", "reset"])
def test_a_body_that_cannot_be_read_is_refused(raw, path, body):
    reply = raw.post(f"/gradio_api/{path}", body)
    assert reply.status in (400, 413)
    assert is_told(reply), reply


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_body_of_another_kind_is_refused(raw, kind):
    reply = raw.send("POST", "/gradio_api/queue/join", b"{}", {"content-type": kind})
    assert reply.status == 415
    assert is_told(reply)


def test_a_large_body_is_refused_without_being_kept(raw):
    memory = psutil.Process().memory_info().rss
    piece = b"x" * 2**20
    for path, kind in (("queue/join", JSON), ("upload", {"content-type": "multipart/form-data; boundary=edge"})):
        reply = raw.send("POST", f"/gradio_api/{path}", (piece for _ in range(120)), kind)
        assert reply.status in (400, 413)
        assert is_told(reply), reply
        size = {**kind, "content-length": str(120 * 2**20)}
        with io_of(piece, 120) as content:
            reply = raw.send("POST", f"/gradio_api/{path}", content, size)
        assert reply.status == 413
        assert is_told(reply), reply
    assert psutil.Process().memory_info().rss - memory < 40 * 2**20


def io_of(piece: bytes, count: int):
    """A file-like body that is never in memory as a whole."""
    reader, writer = os.pipe()

    def write():
        with os.fdopen(writer, "wb") as pipe:
            for _ in range(count):
                pipe.write(piece)

    threading.Thread(target=write, daemon=True).start()
    return os.fdopen(reader, "rb")


UPLOADS = {
    "one": [("a.txt", b"words")],
    "empty": [("a.txt", b"")],
    "nameless": [("", b"words")],
    "no text": [("a.bin", bytes(range(256)))],
    "long name": [("n" * 5000 + ".txt", b"words")],
    "up": [("../../../etc/passwd", b"words")],
    "zero": [("a\0b.txt", b"words")],
    "surrogates": [("\udcff\udcfe.txt", b"words")],
    "dots": [("..", b"words")],
    "too large": [("a.txt", b"x" * 400_000)],
    "too large together": [(f"{n}.txt", b"x" * 70_000) for n in range(6)],
    "many": [(f"{n}.txt", b"x") for n in range(60)],
}


@pytest.mark.parametrize("name", UPLOADS)
def test_an_upload_is_taken_or_refused_in_words_and_its_size_counts_as_a_whole(raw, name, tmp_path):
    reply = raw.upload(*[(name.encode("utf-8", "replace").decode(), content) for name, content in UPLOADS[name]])
    if name.startswith("too large"):
        assert (reply.status, reply.sentence) == (
            413,
            "The upload is larger than the 0.286 MB that are taken at once; give a part of it.",
        )
    elif reply.status == 200:
        assert all(os.environ["GRADIO_TEMP_DIR"] in path for path in json.loads(reply.body))
    else:
        assert reply.status == 400
        assert is_told(reply), reply


FORMS = [b"", b"--edge", b"--edge\r\n\r\n", b"x" * 5000, b"--edge\r\nA: b\r\n\r\nc\r\n--edge--\r\n", b"\r\n" * 999]


@pytest.mark.parametrize("form", FORMS, ids=range(len(FORMS)))
@pytest.mark.parametrize(
    "kind", ["multipart/form-data; boundary=edge", "multipart/form-data", "multipart/form-data; boundary="]
)
def test_a_form_that_cannot_be_read_is_refused(raw, form, kind):
    reply = raw.send("POST", "/gradio_api/upload", form, {"content-type": kind})
    assert reply.status in (200, 400, 415)
    assert reply.status != 200 or reply.body == b"[]"
    assert reply.status == 200 or is_told(reply), reply


def test_an_uploaded_file_is_taken_once_it_is_here_and_no_other_file_is(served, raw):
    page, _ = served
    number, event = next((number, event) for number, event in events(page) if event.name == "prune")
    place = next(i for i, control in enumerate(event.inputs) if type(control).__name__ == "File")
    [path] = json.loads(raw.upload(("mine.txt", b"The sky is blue. " * 400)).body)
    for sent, taken in ((path, True), (path + "x", False), ("/etc/passwd", False), ("http://127.0.0.1/x", False)):
        data = [usual(control) for control in event.inputs]
        data[place] = {"path": sent, "meta": {"_type": "gradio.FileData"}, "orig_name": "mine.txt"}
        reply = raw.join("upload", number, data)
        assert (reply.status == 200) == taken, reply
        if taken:
            assert is_ended(raw.outcome("upload"))
        else:
            assert "is not kept here" in reply.sentence


ADDRESSES = [
    "/",
    "/?lang=ko",
    "/?lang=%ff&lang=%00&lesson=%F0%9F&guess[]=1",
    "/?lesson=" + "9" * 5000,
    "/?deep_link=../../x",
    "/?" + "&".join(f"a{n}=1" for n in range(900)),
    "/?" + "q" * 9000,
    "/config?page=nowhere&deep_link=%00",
    "/assets/../../../etc/passwd",
    "/assets/%2e%2e/%2e%2e/etc/passwd",
    "/assets/%00",
    "/assets/" + "a" * 3000,
    "/static/" + "a" * 1900,
    "/svelte/%ed%a0%80",
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/file=%00",
    "/gradio_api/file=" + "a" * 1900,
    "/gradio_api/file=http://127.0.0.1:1/x",
    "/gradio_api/file=file:///etc/passwd",
    "/gradio_api/file=C:/x",
    "/gradio_api/heartbeat/" + "a" * 65,
    "/gradio_api/heartbeat/%00",
    "/gradio_api/queue/data",
    "/gradio_api/queue/data?session_hash=unknown",
    "/gradio_api/queue/data?session_hash=%00",
    "/gradio_api/upload_progress",
    "/gradio_api/upload_progress?upload_id=%00",
    "/gradio_api/info",
    "/gradio_api/openapi.json",
    "/gradio_api/proxy=http://127.0.0.1:1/",
    "/gradio_api/custom_component/a/b/c/d",
    "/gradio_api/deep_link?session_hash=x",
    "/gradio_api/call/ask/x",
    "/gradio_api/runs",
    "/monitoring",
    "/docs",
    "/openapi.json",
    "/pwa_icon/-1",
    "/nothing",
    "//",
    "/%",
]


@pytest.mark.parametrize("address", ADDRESSES, ids=range(len(ADDRESSES)))
def test_an_address_is_answered_and_never_by_a_fault(raw, address):
    for method in ("GET", "HEAD"):
        reply = raw.send(method, address)
        assert reply.status < 500, reply
        assert reply.status < 400 or method == "HEAD" or reply.sentence, reply
        assert b"root:" not in reply.body


def test_what_the_page_does_not_use_is_closed(raw):
    for path in (
        "call/ask",
        "call/v2/ask",
        "api/ask",
        "component_server",
        "process_recording",
        "vibe-edit",
        "stream/x",
    ):
        reply = raw.post(f"/gradio_api/{path}", {"data": []})
        assert reply.status == 404, path
        assert is_told(reply)
    for method in ("PUT", "DELETE", "PATCH", "POST"):
        assert raw.send(method, "/").status == 405
    for path in ("queue/join", "upload", "cancel"):
        assert raw.send("DELETE", f"/gradio_api/{path}").status == 405


@pytest.mark.parametrize("header", ["host", "x-forwarded-host", "x-gradio-server", "x-forwarded-proto", "range"])
@pytest.mark.parametrize("value", ["a b\\c", "[", "http://[", "\xff", "bytes=9-1-2", "x" * 500])
def test_headers_of_any_kind_bring_no_fault(raw, header, value):
    reply = raw.send("GET", "/", headers={header: value})
    assert reply.status < 500, reply
    assert raw.send("GET", "/gradio_api/file=/etc/passwd", headers={header: value}).status < 500


def test_who_asks_without_listening_is_stopped(served, raw):
    number = next(number for number, event in events(served[0]) if event.name == "welcome")
    replies = [raw.join("deaf", number, []).status for _ in range(MOST_UNREAD)]
    assert replies[0] == 200
    reply = raw.join("deaf", number, [])
    assert reply.status == 429
    assert is_told(reply)


def test_refusals_are_in_the_language_of_the_page(served, raw):
    number, event = next((number, event) for number, event in events(served[0]) if event.name == "ask")
    data = [usual(control) for control in event.inputs]
    path = "/gradio_api/queue/join?lang=ko"
    reply = raw.post(path, {"data": [*data[:-1], None], "fn_index": number, "session_hash": "korean"})
    assert "비어 있습니다" in reply.sentence


def test_a_blank_text_is_refused_while_another_job_holds_the_engine(served, raw, state):
    """Wherever a text is asked for: the answer stands in its place and comes at once."""
    page, _ = served
    asked = 0

    def held():
        yield Progress("answering", 0, 1, "tokens")

    with closing(state.alone(held())) as holding:
        next(holding)
        for number, event in events(page):
            boxes = [i for i, box in enumerate(event.inputs) if getattr(box, "elem_id", None) in TEXTS]
            if not boxes or event.name == "first":
                continue
            data = [usual(control) for control in event.inputs]
            data[boxes[0]] = " \n "
            data = [
                control.choices[0][1] if value is None and type(control).__name__ == "Radio" else value
                for control, value in zip(event.inputs, data, strict=True)
            ]  # a guess
            assert raw.join(f"blank{number}", number, data).status == 200
            asked += 1
            message = raw.outcome(f"blank{number}", seconds=5)
            assert is_ended(message)
    assert asked >= 10
