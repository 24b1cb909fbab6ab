"""What no page tells of the view's events, sent without one: each ends with a sentence, and nothing else happens."""

import copy
import json
import math
import random
import threading
from contextlib import closing
from dataclasses import replace

import pytest
from raw_requests import is_ended, is_told, told_in
from view_events import ASK, column

from wanda_core.errors import StorageError
from wanda_core.evaluation.generation import MAX_PROMPT_CHARACTERS
from wanda_core.progress import Progress
from wanda_ui.compare.asked import MOST_PROMPTS

HUGE = "x" * 200_000
MISSING = object()
SMALL = column(method="magnitude", at=50)  # made in no time, and kept
LOOK = {"run": 1, "model": "builtin", "recipes": [SMALL], "ask": {**ASK, "length": 2}}
USUAL = {
    "look": LOOK,
    "sweep": {**LOOK, "places": [50, 60]},
    "own": {**LOOK, "prompts": ["a", "b"]},
    "buys": LOOK,
    "why": {**LOOK, "tokens": [1, 2, 3], "index": 2, "text": " b", "rest": " c"},
    "masks": {**LOOK, "recipes": [SMALL, {**SMALL, "id": 2, "at": 60}]},
    "open": {"model": "builtin"},
    "expect": {"model": "builtin", "recipes": [SMALL]},
    "bring_text": {"path": "", "name": "mine.txt"},
    "gone": {"step": 3},
    "cut": {"seed": 7},
    "draw": {"seed": 7},
    "push": {"run": 1, "model": "builtin", "recipe": SMALL, "dtype": None, "repository": "me/x", "private": True},
}
RAISES = {"gone"}  # has no place for a sentence: Gradio shows it over the page
REFUSED = {"push"}  # in words: no folder holds the model, so nothing of it could be sent anywhere
# The gate lets none of these through, wherever they stand: no number, too much, half a character, another's file.
NEVER = [math.nan, math.inf, -math.inf, 10**30, -(10**300), 1e300, HUGE, "\ud800", ["x" * 60_000] * 2]
NEVER += [{"path": path} for path in ("/etc/passwd", "a\0b", "http://127.0.0.1/x", "../../x", "p" * 2_000)]
NEVER += [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}]
ODD = [None, True, False, 0, -1, 1.5, 7, 2**53, "", " ", "NaN", "Infinity", "1e999", "-0", "50", "0x10", "None", "\0"]
ODD += ["wanda", "2:4", "<b>", "한글 🙂", "x" * 5_000, [], {}, [[[[]]]], [None], {"a": {"b": []}}, [1] * 3_000]
CASES = 130


@pytest.fixture(scope="module")
def numbers(served):
    """Events that carry data, name -> (number, what its controls usually hold)."""
    page, _ = served
    found = {
        event.name: (number, [None if control.stateful else control.value for control in event.inputs])
        for number, event in page.fns.items()
        if event.fn and event.collects_event_data
    }
    assert set(found) == set(USUAL)
    return found


def fields_of(data, path=()):
    """Every place in what an event carries, the whole of it first."""
    yield path
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for name, value in pairs:
        yield from fields_of(value, (*path, name))


def with_odd(usual, path, value):
    """-> what is usually carried, with one thing in it replaced."""
    holder = {"": copy.deepcopy(usual)}
    inner = holder
    for step in ("", *path)[:-1]:
        inner = inner[step]
    inner[("", *path)[-1]] = value
    return holder[""]


def asked(raw, session, event, data):
    more = {} if data is MISSING else {"event_data": data}
    return raw.join(session, *event, **more)


@pytest.mark.parametrize("name", USUAL)
def test_what_the_view_sends_is_taken(raw, numbers, name):
    assert asked(raw, f"usual-{name}", numbers[name], USUAL[name]).status == (400 if name == "bring_text" else 200)
    if name != "bring_text":  # which has no file yet
        messages = raw.messages(f"usual-{name}")
        assert messages[-1]["success"]
        assert any("problem" in json.dumps(message) for message in messages) == (name in REFUSED)


@pytest.mark.parametrize("name", USUAL)
def test_an_event_that_carries_nothing_or_something_else_says_so(raw, numbers, name):
    for turn, data in enumerate([MISSING, None, [], {}, "", "NaN", 0, True, [{"run": 1}], [[[]]], "x" * 5_000]):
        session = f"nothing-{name}-{turn}"
        assert asked(raw, session, numbers[name], data).status == 200
        messages = raw.messages(session)
        assert messages[-1]["success"] == (name not in RAISES), (name, data)
        sentences = [words for words in told_in(messages) if "; " in words]
        assert sentences, (name, data)
        assert all(len(words) < 400 and "\n" not in words for words in sentences)


def test_what_no_view_can_send_is_refused_wherever_it_stands(raw, numbers):
    cases = 0
    for name, number in numbers.items():
        for path in fields_of(USUAL[name]):
            for value in NEVER:
                reply = asked(raw, "never-view", number, with_odd(USUAL[name], path, value))
                assert reply.status == 400, (name, path, str(value)[:50])
                assert is_told(reply), reply.body[:200]
                cases += 1
    for name, number in numbers.items():
        reply = asked(raw, "never-view", number, {"extra": [[[[[[[[[[[[[]]]]]]]]]]]]]})
        assert (reply.status, is_told(reply)) == (400, True), name
    assert cases > 1_000


def test_anything_odd_in_any_field_ends_in_words(raw, numbers, tiny_state):
    draw = random.Random(0)
    places = [(name, path) for name, usual in USUAL.items() for path in fields_of(usual) if path]
    ran = 0
    for turn in range(CASES):
        name, path = places[turn % len(places)]
        value = draw.choice(ODD)
        session = f"odd-{turn}"
        reply = asked(raw, session, numbers[name], with_odd(USUAL[name], path, value))
        if reply.status != 200:
            assert is_told(reply), (name, path, value)
            continue
        ran += 1
        messages = raw.messages(session)
        assert is_ended(messages[-1]), (name, path, value)
        assert messages[-1]["success"] or name in RAISES, (name, path, value)
    assert ran > CASES / 2
    assert tiny_state.engine.settle()


def test_as_much_as_the_view_can_send_is_taken_by_the_gate(raw, numbers):
    long = {"prompt": "a" * MAX_PROMPT_CHARACTERS}
    changes = {
        "look": {"ask": {**LOOK["ask"], **long}},
        "own": {"prompts": ["한" * 1_900] * MOST_PROMPTS},
        "why": {"ask": {**LOOK["ask"], **long}, "tokens": [100] * 1_000, "text": "a" * 5_000},
    }
    for name, change in changes.items():
        assert asked(raw, f"much-{name}", numbers[name], {**USUAL[name], **change}).status == 200
        words = told_in(raw.messages(f"much-{name}"))
        assert any("256" in sentence or "255" in sentence for sentence in words), name  # tokens that the model reads


def test_an_uploaded_text_is_taken_once_it_is_here_and_no_other_file_is(raw, numbers, tiny_state):
    [path] = json.loads(raw.upload(("mine.txt", b"The sky is blue. " * 400)).body)
    assert asked(raw, "text", numbers["bring_text"], {"path": path, "name": "mine.txt"}).status == 200
    texts = told_in(raw.messages("text"))
    [digest] = [text for text in texts if len(text) == 32 and set(text) <= set("0123456789abcdef")]
    assert tiny_state.texts.get(digest).startswith(b"The sky is blue.")
    data = {**LOOK, "recipes": [column(text=digest, order="faithful")]}
    assert asked(raw, "text", numbers["look"], data).status == 200
    assert "problem" not in json.dumps(raw.messages("text"))
    for elsewhere in (path + "x", "/etc/passwd", "http://127.0.0.1/x", path + "/../../../x"):
        reply = asked(raw, "text", numbers["bring_text"], {"path": elsewhere, "name": "mine.txt"})
        assert reply.status == 400
        assert "is not kept here" in reply.sentence


def test_what_is_wrong_is_said_while_another_job_holds_the_engine(raw, numbers, tiny_state):
    """Nobody waits in the queue to be told that the prompt is empty."""
    go = threading.Event()

    def holding():
        while not go.wait(0.01):
            yield Progress("answering", 0, 1, "tokens")

    blank, wrong = {"ask": {**ASK, "prompt": " \n "}}, {"recipes": [{**SMALL, "at": "50"}]}
    with closing(tiny_state.engine.run(holding, ("held",))) as holder:
        next(holder)
        for name in ("look", "sweep", "own", "why"):
            for turn, change in enumerate((blank, wrong) if name != "why" else (blank,)):
                session = f"blank-{name}-{turn}"
                assert asked(raw, session, numbers[name], {**USUAL[name], **change}).status == 200
                messages = raw.messages(session, seconds=5)
                assert any("prompt is empty" in words or "try 50" in words for words in told_in(messages)), name
    go.set()


@pytest.mark.parametrize("public", [False, True])
def test_no_answer_of_a_public_server_names_its_folders(raw, numbers, served, monkeypatch, public):
    def fails(*given, **more):
        raise StorageError("the rows in '/srv/lab/runs.jsonl' cannot be read (gone); set WANDA_RUNS to another file")

    page = served[0]
    monkeypatch.setattr(page, "settings", replace(page.settings, public=public))
    monkeypatch.setitem(page.questions, "report", fails)
    monkeypatch.setattr("wanda_ui.compare.tab.read_documents", fails)
    [path] = json.loads(raw.upload(("mine.txt", b"The sky is blue. " * 400)).body)
    assert asked(raw, "folders", numbers["bring_text"], {"path": path, "name": "mine.txt"}).status == 200
    for said in (json.dumps(raw.messages("folders")), raw.post("/wanda/report", {}).sentence):
        assert "runs.jsonl' cannot be read" in said
        assert ("/srv/lab" in said) is not public
