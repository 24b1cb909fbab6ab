"""Requests that no page sends, to every event: each ends with an answer in words, and nothing else happens.

The server runs over a tiny model. What the gate takes is run to its end; what it does not is refused before any work.
"""

import hashlib
import math
import random
import threading
from contextlib import closing

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_requests import is_ended, is_told

from wanda_core.progress import Progress
from wanda_ui.gate.queue import MOST_UNREAD

LEAST_CASES = 2_000
MOST_RUNS = 3  # of one event over the tiny model
MOST_GROWTH = 300 * 2**20  # bytes of memory, over all cases
HUGE = "x" * 60_000
TEXTS = ("sentence-text-box", "sinks-text-box", "lesson-3-s", "lesson-4-s", "lesson-5-s", "lesson-8-s")
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


def events(page):
    """The page's events that the server answers: (number, event), with inputs or without."""
    return [(number, event) for number, event in page.fns.items() if event.fn is not None]


def usual(control) -> object:
    """What the page sends for a control nobody touched."""
    return None if control.stateful else control.value


def test_every_input_of_every_event_refuses_what_it_cannot_be(served, raw, tiny_state):
    page, _ = served
    before, memory = fingerprint(tiny_state), psutil.Process().memory_info().rss
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
    assert fingerprint(tiny_state) == before


def test_what_some_control_takes_is_refused_or_runs_to_its_end(served, raw, tiny_state):
    """One value of one input at a time, drawn so that every control meets each value somewhere."""
    page, _ = served
    before = fingerprint(tiny_state)
    draw = random.Random(0)
    ran = refused = 0
    seen: set[tuple[int, int]] = set()
    for number, event in events(page):
        if event.name in ("work", "first", "see") and (event.name, tuple(event.inputs)) in seen:
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
    assert fingerprint(tiny_state) == before


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
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
        ({"event_data": "x" * 200_000}, 400),
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
    reply = raw.post(
        "/gradio_api/queue/join", {"data": [None], "fn_index": number, "session_hash": "envelope", **change}
    )
    assert reply.status == status, reply
    assert is_told(reply) if status >= 400 else is_ended(raw.outcome("envelope"))


def test_who_asks_without_listening_is_stopped(served, raw):
    number = next(number for number, event in events(served[0]) if event.name == "welcome")
    replies = [raw.join("deaf", number, [None]).status for _ in range(MOST_UNREAD)]
    assert replies[0] == 200
    reply = raw.join("deaf", number, [None])
    assert reply.status == 429
    assert is_told(reply)


def test_refusals_are_in_the_language_of_the_page(served, raw):
    number, event = next((number, event) for number, event in events(served[0]) if event.name == "see")
    sliders = [type(control).__name__ == "Slider" for control in event.inputs]
    assert any(sliders)
    data = [None if slider else usual(control) for control, slider in zip(event.inputs, sliders, strict=True)]
    path = "/gradio_api/queue/join?lang=ko"
    reply = raw.post(path, {"data": data, "fn_index": number, "session_hash": "korean"})
    assert "비어 있어요" in reply.sentence


def test_a_blank_text_is_refused_while_another_job_holds_the_engine(served, raw, tiny_state):
    """Wherever a text is asked for: the answer stands in its place and comes at once."""
    page, _ = served
    asked, go = 0, threading.Event()

    def held():
        while not go.wait(0.01):
            yield Progress("answering", 0, 1, "tokens")

    with closing(tiny_state.engine.run(held, ("held",))) as holding:
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
    go.set()
    assert asked >= 10
