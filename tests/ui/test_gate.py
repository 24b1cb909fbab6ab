"""The gate's rules, worked out by hand: what each control takes, how a body is read, how often one may ask."""

import asyncio
import json
import logging
import math
import re
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest

from wanda_core.errors import InputError
from wanda_ui import gate
from wanda_ui.gate import body, rules
from wanda_ui.gate.arrivals import arrival_of, next_arrival
from wanda_ui.gate.guarded import GuardedPage
from wanda_ui.gate.middleware import Gate
from wanda_ui.gate.rate import Rate, address_of
from wanda_ui.gate.refusal import RefusedError, quoted
from wanda_ui.language import ENGLISH, LANGUAGES, label, say, words
from wanda_ui.settings import PUBLIC, Settings

HEADERS = {b"content-type": b"application/json"}
SHARE = {"minimum": 0, "maximum": 95, "value": 50, "step": 1}
TENTHS = {"minimum": -3, "maximum": 3, "value": 0.5, "step": 0.1}


@pytest.fixture(scope="module")
def loop():
    """An event loop for what runs in one. A page that was built without one would make loops and leave them open."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def within(loop, build):
    """What a function returns that is called while a loop runs."""

    async def call():
        return build()

    return loop.run_until_complete(call())


def refusal(control, value, settings=None) -> str | None:
    """The key of the words with which one value is refused, None where it is taken."""
    try:
        rules.check_values([control], [value], {}, settings or Settings())
    except RefusedError as refused:
        return refused.key if refused.words(ENGLISH) else "no words"
    return None


@pytest.mark.parametrize(
    ("kind", "settings", "value", "key"),
    [
        (gr.Slider, SHARE, 50, None),
        (gr.Slider, SHARE, 50.0, None),
        (gr.Slider, SHARE, 95, None),
        (gr.Slider, SHARE, 50.5, "not_whole"),
        (gr.Slider, SHARE, 95.5, "out_of_range"),
        (gr.Slider, SHARE, -1, "out_of_range"),
        (gr.Slider, SHARE, math.nan, "not_number"),
        (gr.Slider, SHARE, math.inf, "not_number"),
        (gr.Slider, SHARE, True, "not_number"),
        (gr.Slider, SHARE, "50", "not_number"),
        (gr.Slider, SHARE, [50], "not_number"),
        (gr.Slider, SHARE, None, "no_number"),
        (gr.Slider, TENTHS, 0.30000000000000004, None),
        (gr.Slider, TENTHS, 10**399, "out_of_range"),
        (gr.Number, {"precision": 0}, 16, None),
        (gr.Number, {"precision": 0}, 1.5, "not_whole"),
        (gr.Number, {"precision": 0}, False, "not_number"),
        (gr.Number, {"precision": 0}, None, "no_number"),
        (gr.Number, {}, 1.5, None),
        (gr.Number, {}, 2**53, None),
        (gr.Number, {}, 2**53 + 1, "out_of_range"),
        (gr.Number, {}, 10**30, "out_of_range"),
        (gr.Number, {"minimum": 0}, -0.5, "out_of_range"),
        (gr.Number, {}, {}, "not_number"),
        (gr.Textbox, {}, "", None),
        (gr.Textbox, {}, "한글 🙂", None),
        (gr.Textbox, {}, "\ud800", "half_characters"),
        (gr.Textbox, {}, "\udc00a", "half_characters"),
        (gr.Textbox, {"max_length": 3}, "abc", None),
        (gr.Textbox, {"max_length": 3}, "abcd", "too_long"),
        (gr.Textbox, {}, "a" * 50_001, "too_long"),
        (gr.Textbox, {}, None, "not_text"),
        (gr.Textbox, {}, 7, "not_text"),
        (gr.Textbox, {}, ["a"], "not_text"),
        (gr.Checkbox, {}, True, None),
        (gr.Checkbox, {}, 1, "not_switch"),
        (gr.Checkbox, {}, None, "not_switch"),
        (gr.Checkbox, {}, "true", "not_switch"),
        (gr.Radio, {"choices": ["a", "b"], "value": "a"}, "b", None),
        (gr.Radio, {"choices": ["a", "b"], "value": "a"}, "c", "not_choice"),
        (gr.Radio, {"choices": ["a", "b"], "value": "a"}, None, "not_choice"),
        (gr.Radio, {"choices": ["a", "b"], "value": None}, None, None),
        (gr.Radio, {"choices": ["a", "b"], "value": "a"}, ["a"], "not_choice"),
        (gr.Dropdown, {"choices": [0, 1], "value": 1}, 0, None),
        (gr.Dropdown, {"choices": [0, 1], "value": 1}, True, "not_choice"),
        (gr.Dropdown, {"choices": [0, 1], "value": 1}, 1.0, "not_choice"),
        (gr.Dropdown, {"choices": [0, 1], "value": 1}, "1", "not_choice"),
        (gr.Dropdown, {"choices": [], "value": None}, None, None),
        (gr.Dropdown, {"choices": [], "value": None}, {}, "not_choice"),
        (gr.Dropdown, {"choices": ["a"], "value": "a", "allow_custom_value": True}, "own/name", None),
        (gr.Dropdown, {"choices": ["a"], "value": "a", "allow_custom_value": True}, None, None),
        (gr.Dropdown, {"choices": ["a"], "value": "a", "allow_custom_value": True}, [], "not_text"),
        (gr.Dropdown, {"choices": ["a"], "value": "a", "allow_custom_value": True}, "n" * 501, "too_long"),
        (gr.HTML, {}, "<h3>", None),
        (gr.HTML, {}, None, None),
        (gr.HTML, {}, "<" * 200_001, "too_long"),
        (gr.State, {}, None, None),
        (gr.State, {}, "key", "state"),
        (gr.File, {}, None, None),
        (gr.File, {}, "/etc/passwd", "not_file"),
        (gr.File, {}, {"path": "/etc/passwd"}, "not_file"),
        (gr.File, {}, {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, "file_gone"),
        (gr.File, {}, {"path": "https://a.b/c", "meta": {"_type": "gradio.FileData"}}, "file_gone"),
        (gr.File, {}, {"path": "a\0b", "meta": {"_type": "gradio.FileData"}}, "not_file"),
        (gr.File, {}, {"path": 7, "meta": {"_type": "gradio.FileData"}}, "not_file"),
        (gr.File, {}, [], "not_file"),
    ],
)
def test_a_control_takes_what_it_can_show_and_nothing_else(kind, settings, value, key):
    assert refusal(kind(label="Control", **settings) if kind is not gr.State else kind(""), value) == key


def test_a_file_is_taken_from_the_folder_of_uploads_alone_however_it_is_named(tmp_path):
    control = gr.File(label="Text")
    control.GRADIO_CACHE = str(tmp_path / "uploads")
    (tmp_path / "uploads").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "uploads" / "mine.txt").write_text("mine")
    (tmp_path / "uploads" / "link.txt").symlink_to(tmp_path / "secret.txt")

    def sent(path, **more):
        return {"path": str(path), "meta": {"_type": "gradio.FileData"}, "orig_name": "mine.txt", "size": 4, **more}

    assert refusal(control, sent(tmp_path / "uploads" / "mine.txt")) is None
    assert refusal(control, sent(tmp_path / "uploads" / ".." / "secret.txt")) == "file_gone"
    assert refusal(control, sent(tmp_path / "uploads" / "link.txt")) == "file_gone"
    assert refusal(control, sent(tmp_path / "uploads")) == "file_gone"
    mine = tmp_path / "uploads" / "mine.txt"
    assert refusal(control, sent(mine, size=-1)) == "not_file"
    assert refusal(control, sent(mine, orig_name="\ud800")) == "not_file"
    assert refusal(control, sent(mine, is_stream=True)) == "not_file"
    assert refusal(control, sent(mine, extra=1)) == "not_file"
    assert refusal(control, sent(mine), Settings(upload_bytes=3)) == "upload"


def test_a_public_page_takes_shorter_texts_and_a_boxs_own_bound_still_holds():
    assert refusal(gr.Textbox(label="Prompt"), "a" * 4001, PUBLIC) == "too_long"
    assert refusal(gr.Textbox(label="Prompt", max_length=40), "a" * 41, PUBLIC) == "too_long"
    assert refusal(gr.Textbox(label="Prompt", max_length=9000), "a" * 4000, PUBLIC) is None


def test_choices_are_those_that_the_visitors_page_has_now():
    block = gr.Dropdown([], label="Block")
    now = {block._id: gr.Dropdown([3, 4], label="Block")}
    rules.check_values([block], [4], now, Settings())
    with pytest.raises(RefusedError):
        rules.check_values([block], [4], {}, Settings())
    with pytest.raises(RefusedError):
        rules.check_values([block], [5], now, Settings())
    rules.check_values([block], [None], now, Settings())  # a page that has not heard of its choices yet


@pytest.mark.parametrize(("values", "key"), [([], "count"), ([1, 2], "count"), (None, "values"), ({}, "values")])
def test_an_event_takes_a_list_of_as_many_values_as_it_has_inputs(values, key):
    with pytest.raises(RefusedError) as refused:
        rules.check_values([gr.Number(label="Seed")], values, {}, Settings())
    assert refused.value.key == key


@pytest.mark.parametrize("unguarded", [lambda: gr.Image(), lambda: gr.Dropdown(["a"], multiselect=True)])
def test_a_page_with_an_input_that_has_no_rule_is_not_built(loop, unguarded):
    def build():
        with GuardedPage(analytics_enabled=False) as page:
            control = unguarded()
            gr.Button().click(lambda value: None, control, None)
        return page

    page = within(loop, build)
    with pytest.raises(LookupError, match="has no rule; add one"):
        page.guard(Settings())


def test_a_refusal_names_the_control_in_both_languages_and_quotes_little():
    control = gr.Slider(0, 2, label=label("compare.temperature"))
    with pytest.raises(RefusedError) as refused:
        rules.check_values([control], ["x" * 10_000], {}, Settings())
    for language in LANGUAGES:
        sentence = refused.value.words(lambda key, language=language, **values: say(language, key, **values))
        assert words(language)["compare.temperature"] in sentence
        assert 40 < len(sentence) < 200


def test_every_refusal_in_the_source_has_words_and_all_words_are_used():
    source = "".join(path.read_text("utf-8") for path in Path(gate.__file__).parent.glob("*.py"))
    used = set(re.findall(r'RefusedError\(\s*\d+, "(\w+)"', source)) | set(re.findall(r'"gate\.(\w+)"', source))
    used |= {"upload"}  # the key that check_length is given
    written = {key.removeprefix("gate.") for key in words("en") if key.startswith("gate.")}
    assert used == written


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("short", '"short"'),
        ("x" * 100, '"' + "x" * 39 + "…"),
        ("\ud800", '"\\ud800"'),
        (math.nan, "NaN"),
        ([], "[]"),
        ([0] * 1000, "[…]"),
        ({"a": [1]}, '{"a": [1]}'),
        ({1, 2}, "set"),
        ("한", '"한"'),
    ],
)
def test_a_value_is_quoted_short_and_in_whole_characters(value, text):
    assert quoted(value) == text
    quoted(value).encode("utf-8")


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        (b'{"a": 1}', None),
        (b'{"a": NaN, "b": 1e999}', None),  # numbers are judged by the control they are for
        (b"{" * 5, "not_json"),
        (b"", "not_json"),
        (b"\xff\xfe{", "not_json"),
        (b"[1]", "not_object"),
        (b"null", "not_object"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"b": {"a": 1, "a": 1}}', "twice"),
        (b'{"a": ' + b"9" * 400 + b"}", None),
        (b'{"a": ' + b"9" * 401 + b"}", "digits"),
        (b'{"a": ' + b"[" * 11 + b"]" * 11 + b"}", None),
        (b'{"a": ' + b"[" * 12 + b"]" * 12 + b"}", "deep"),
        (b'{"a": ' + b"[" * 500_000, "deep"),
    ],
)
def test_a_body_is_one_json_object_that_means_one_thing(raw, key):
    try:
        body.parse(raw, HEADERS)
        found = None
    except RefusedError as refused:
        found = refused.key
    assert found == key


@pytest.mark.parametrize(
    ("kind", "status"), [(b"application/json", 0), (b"Application/JSON; charset=utf-8", 0), (b"text/plain", 415)]
)
def test_a_body_says_that_it_is_json(kind, status):
    try:
        body.parse(b"{}", {b"content-type": kind})
        found = 0
    except RefusedError as refused:
        found = refused.status
    assert found == status


def test_a_body_is_read_no_further_than_its_bound(loop):
    taken = []

    async def endless():
        taken.append(1)
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    with pytest.raises(RefusedError) as refused:
        loop.run_until_complete(body.read_body(endless, {}, 10_000))
    assert (refused.value.status, len(taken)) == (413, 11)
    taken.clear()
    with pytest.raises(RefusedError):
        loop.run_until_complete(body.read_body(endless, {b"content-length": b"10001"}, 10_000))
    assert taken == []


def test_a_body_that_never_comes_is_given_up(loop, monkeypatch):
    monkeypatch.setattr(body, "MOST_SECONDS", 0.05)
    with pytest.raises(RefusedError) as refused:
        loop.run_until_complete(body.read_body(asyncio.Event().wait, {}, 100))
    assert refused.value.status == 408


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
    ],
)
def test_an_address_is_the_connections_unless_a_header_is_trusted(trusted, sent, address):
    assert address_of(("1.2.3.4", 5), {b"x-forwarded-for": sent}, trusted) == address


def refuse(text):
    raise InputError("this breaks a rule; change it")


@pytest.fixture
def small_page(loop):
    """A page with a box, a button that echoes it, one that fails in a way nobody foresaw, and one that refuses."""

    def build():
        with GuardedPage(analytics_enabled=False) as page:
            box = gr.Textbox("", label="Box")
            gr.Button().click(lambda text: text, box, box, concurrency_id="engine")
            gr.Button().click(lambda text: {}[text], box, box)
            gr.Button().click(refuse, box, box)
        page.queue(max_size=3)
        page.state_holder = SimpleNamespace(session_data={})
        page.guard(Settings(jobs_a_minute=2))
        return page

    return within(loop, build)


def through(loop, gate, page, event, headers=(), app_status=200):
    """Send an event through a gate. -> (status, sentence, the scope that the inside saw)"""
    seen, sent = [], []
    raw = json.dumps({"data": ["text"], "fn_index": event, "session_hash": "me"}).encode()
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
    loop.run_until_complete(gate(scope, receive, send))
    return sent[0]["status"], sent[1]["body"].decode(), seen


def test_requests_bear_the_order_in_which_they_came_and_nobody_else_writes_it(loop, small_page):
    gate, before = Gate(None), next_arrival()
    numbers = []
    for _ in range(2):
        status, _, [(scope, message)] = through(loop, gate, small_page, 0, [(b"X-Wanda-Arrival", b"1")])
        assert status == 200
        assert json.loads(message["body"])["data"] == ["text"]
        [written] = [value for name, value in scope["headers"] if name.lower() == b"x-wanda-arrival"]
        request = gr.Request(SimpleNamespace(headers={"x-wanda-arrival": written.decode()}))
        numbers.append(arrival_of(request))
    assert before < numbers[0] < numbers[1] < arrival_of(None)


def test_jobs_are_counted_by_address_and_a_full_queue_has_words(loop, small_page):
    gate = Gate(None)
    for _ in range(2):
        assert through(loop, gate, small_page, 0)[0] == 200
    status, sentence, seen = through(loop, gate, small_page, 0)
    assert (status, seen) == (429, [])
    assert "try again in 30 s" in json.loads(sentence)["detail"]
    assert through(loop, gate, small_page, 1)[0] == 200  # no job of the engine
    status, sentence, _ = through(loop, gate, small_page, 1, app_status=503)
    assert status == 429
    assert json.loads(sentence)["detail"] == "All 20 places in the queue are taken; wait a little and try again."


def test_what_an_event_raises_is_a_sentence_for_the_visitor_and_a_short_line_in_the_log(loop, small_page, caplog):
    def run(event):
        return loop.run_until_complete(small_page.process_api(small_page.fns[event], ["my secret"]))

    with pytest.raises(gr.Error, match=r"^'Something went wrong here \(KeyError\) and was noted") as told:
        run(1)
    assert not told.value.print_exception
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert re.fullmatch(r"event <lambda> failed: KeyError in <lambda> \(test_gate\.py:\d+\)", record.getMessage())
    with pytest.raises(gr.Error, match=r"^'this breaks a rule; change it'") as told:
        run(2)
    assert not told.value.print_exception
    assert len(caplog.records) == 1
