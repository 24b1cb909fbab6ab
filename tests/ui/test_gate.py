"""The gate's rules, worked out by hand: what each control takes, how a body is read, how often one may ask."""

import asyncio
import math
import re
import time
from pathlib import Path

import gradio as gr
import pytest

from wanda_ui import gate
from wanda_ui.gate import body, rules
from wanda_ui.gate.guarded import GuardedPage
from wanda_ui.gate.origin import offering
from wanda_ui.gate.refusal import RefusedError, quoted
from wanda_ui.gate.request import MOST_NAMED, MOST_QUERY, named_in
from wanda_ui.language import ENGLISH, LANGUAGES, label, say, words
from wanda_ui.settings import PUBLIC, Settings

HEADERS = {b"content-type": b"application/json"}
SHARE = {"minimum": 0, "maximum": 95, "value": 50, "step": 1}
TENTHS = {"minimum": -3, "maximum": 3, "value": 0.5, "step": 0.1}


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
        (gr.Number, {"precision": 0}, None, None),
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
    for roundabout in ("/proc/self/cwd/../../../../../../../..", "/proc/self/root", "/."):
        assert refusal(control, sent(f"{roundabout}{tmp_path}/uploads/mine.txt")) == "file_gone"
    assert refusal(control, sent(tmp_path / "uploads")) == "file_gone"
    mine = tmp_path / "uploads" / "mine.txt"
    assert refusal(control, sent(mine, size=-1)) == "not_file"
    assert refusal(control, sent(mine, orig_name="\ud800")) == "not_file"
    assert refusal(control, sent(mine, is_stream=True)) == "not_file"
    assert refusal(control, sent(mine, extra=1)) == "not_file"
    assert refusal(control, sent(mine), Settings(upload_bytes=3)) == "upload"


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (None, None),
        ({"run": 1, "at": 50.5, "recipes": [{"text": "", "chat": True}], "recipe": None}, None),
        ({"path": "relative"}, "file_gone"),
        ({"path": 7}, None),  # what it must be is for the event to say
        ([[{"path": "/etc/passwd"}]], "file_gone"),
        ({"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, "file_gone"),
        ({"path": "https://a.b/c"}, "file_gone"),
        ({"path": "a\0b"}, "not_file"),
        ({"path": "a" * 1001}, "not_file"),
        (math.nan, "not_number"),
        ({"run": math.inf}, "not_number"),
        ([2**53, -(2**53), 1.5], None),
        ([2**53 + 1], "out_of_range"),
        ({"a": {"b": [-1e300]}}, "out_of_range"),
        ({"run": 10**399}, "out_of_range"),
        ("x" * 99_998, None),
        ("x" * 99_999, "event_data"),
        (["한"] * 30_000, "event_data"),
        ({"\ud800": 1}, "event_data"),
        ("a\udfffb", "event_data"),
    ],
)
def test_what_is_told_of_an_event_is_small_and_can_be_told_again(data, key):
    try:
        rules.check_event_data(data)
        found, sentence = None, "It is taken as it came."
    except RefusedError as refused:
        found, sentence = refused.key, refused.words(ENGLISH)
    assert found == key
    assert 20 < len(sentence) < 300


def test_a_file_that_is_told_of_an_event_lies_among_the_uploads(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "uploads" / "link.txt").symlink_to(tmp_path / "secret.txt")
    rules.check_event_data({"path": str(tmp_path / "uploads" / "mine.txt"), "name": "mine.txt"})
    rules.check_event_data({"path": str(tmp_path / "uploads" / ("0" * 64) / "mine.txt")})
    for path in (
        "secret.txt",
        "uploads/../secret.txt",
        "uploads/link.txt",
        "uploads2/mine.txt",
        "uploads/a/b/mine.txt",
    ):
        with pytest.raises(RefusedError, match="file_gone"):
            rules.check_event_data({"path": str(tmp_path / path)})


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
def test_a_page_with_an_input_that_has_no_rule_is_not_built(unguarded):
    async def build():  # without a loop Gradio would make some of its own and leave them open
        with GuardedPage(analytics_enabled=False) as page:
            control = unguarded()
            gr.Button().click(lambda value: None, control, None)
        return page

    page = asyncio.run(build())
    with pytest.raises(LookupError, match="has no rule; add one"):
        page.guard(Settings())


def test_a_refusal_names_the_control_in_both_languages_and_quotes_little():
    control = gr.Slider(0, 2, label=label("view.ask_temperature"))
    with pytest.raises(RefusedError) as refused:
        rules.check_values([control], ["x" * 10_000], {}, Settings())
    for language in LANGUAGES:
        sentence = refused.value.words(lambda key, language=language, **values: say(language, key, **values))
        assert words(language)["view.ask_temperature"] in sentence
        assert 40 < len(sentence) < 200


def test_every_refusal_in_the_source_has_words_and_all_words_are_used():
    source = "".join(path.read_text("utf-8") for path in Path(gate.__file__).parent.parent.rglob("*.py"))
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


def test_a_key_that_stands_twice_among_many_is_found_at_once():
    many = ",".join(f'"{number:x}":0' for number in range(60_000))
    began = time.process_time()
    with pytest.raises(RefusedError) as refused:
        body.parse(f'{{{many},"z":0,"z":0}}'.encode(), HEADERS)
    assert (refused.value.key, refused.value.values) == ("twice", {"name": '"z"'})
    assert time.process_time() - began < 1.0  # a look at all for each would take a minute


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


def test_a_body_is_read_no_further_than_its_bound():
    taken = []

    async def endless():
        taken.append(1)
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    with pytest.raises(RefusedError) as refused:
        asyncio.run(body.read_body(endless, {}, 10_000))
    assert (refused.value.status, len(taken)) == (413, 11)
    taken.clear()
    with pytest.raises(RefusedError):
        asyncio.run(body.read_body(endless, {b"content-length": b"10001"}, 10_000))
    assert taken == []


def test_an_address_that_names_too_much_is_not_looked_into():
    assert named_in(b"lang=ko&r=&at=9") == [("lang", "ko"), ("r", ""), ("at", "9")]
    assert len(named_in(b"&".join([b"a=1"] * MOST_NAMED))) == MOST_NAMED
    assert named_in(b"&".join([b"a=1"] * (MOST_NAMED + 1))) == []
    assert named_in(b"a=" + b"x" * MOST_QUERY) == []


def test_a_body_that_never_comes_is_given_up(monkeypatch):
    async def never():
        await asyncio.Event().wait()

    monkeypatch.setattr(body, "MOST_SECONDS", 0.05)
    with pytest.raises(RefusedError) as refused:
        asyncio.run(body.read_body(never, {}, 100))
    assert refused.value.status == 408


@pytest.mark.parametrize(
    ("site", "asked", "led"),
    [
        (
            b"cross-site",
            [("model", "owner/name@v1"), ("r", ""), ("at", "9")],
            "offer=owner%2Fname%40v1&r=&at=9",
        ),
        (b"same-site", [("model", "a"), ("model", "b")], "offer=a&offer=b"),
        (b"cross-site", [("r", "wanda")], None),
        (b"same-origin", [("model", "a")], None),
        (b"none", [("model", "a")], None),
        (b"", [("model", "a")], None),  # at an address without TLS some browsers say nothing
    ],
)
def test_a_model_that_another_site_names_is_offered(site, asked, led):
    assert offering({b"sec-fetch-site": site} if site else {}, asked) == led
