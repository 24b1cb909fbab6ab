"""Gradio's mark of a label, by which its page makes words, and HTML, of any text: none but the page's own reach it."""

import asyncio
import json

import gradio as gr
import numpy as np
import pandas as pd
import pytest

from wanda_core.errors import InputError
from wanda_ui import markup
from wanda_ui.gate.guarded import GuardedPage
from wanda_ui.language import MARK, label, unmarked, words
from wanda_ui.outliers.section import section_table
from wanda_ui.settings import Settings

SCRIPT = '__i18n__{"key":"\\u003cimg src=x onerror=window.canary=1\\u003e"}'
OWN = str(label("outliers.cancel"))


def without_width(value) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\u2060", "")


@pytest.mark.parametrize(
    "text",
    [
        SCRIPT,
        f"behind a word {SCRIPT}",
        f"{SCRIPT}{SCRIPT}",
        f"{OWN}{SCRIPT}",
        '__i18n__ {"key": "a"}',
        '__i18n____i18n__{"key": "a"}',
        OWN.replace("outliers.cancel", "no.key_of_ours"),
        OWN.replace('"key"', '"key": "<b>", "key"'),
        OWN.replace("}", ', "more": 1}'),
        OWN.replace("outliers.cancel", "outliers.cancel\\u003cb\\u003e"),
    ],
)
def test_a_mark_is_broken_wherever_it_stands_and_reads_as_before(text):
    for value in (text, [text], {"value": text, "choices": [(text, text)]}, {"label": {"deep": [1, None, text]}}):
        sent = unmarked(value)
        assert f"{MARK}{{" not in json.dumps(sent).replace(json.dumps(OWN)[1:-1], "")
        assert without_width(sent) == without_width(value)
        assert unmarked(sent) == sent


def test_labels_of_the_page_and_all_without_a_mark_stay_as_they_are():
    every = [str(label(key)) for key in words("en")]
    kept = [OWN, f"<h2>{OWN}</h2><p>{OWN}</p>", *every, "_i18n_", "", 1.5, None, True, label("outliers.cancel")]
    assert unmarked(kept) == kept


def test_a_table_escapes_every_text_in_cells_and_headings_with_its_quotation_marks():
    text = f"<b>\\u003c\"'&{SCRIPT}"
    frame = pd.DataFrame([[text, 1, 0.5], [None, 2, 1e-12]], columns=[text, "<i>", "share"])
    for shown in (markup.table(text, frame), markup.folded_table(text, frame)):
        assert f'{MARK}{{"' not in shown
        assert "<b>" not in shown
        assert "<i>" not in shown
        assert shown.count("&lt;b&gt;\\u003c&quot;&#x27;&amp;") >= 3
    assert SCRIPT not in section_table(lambda key, **values: key, "sentence", ["token"], [[SCRIPT]])


def test_numbers_of_a_table_are_written_as_before():
    frame = pd.DataFrame({"a": [1.5, np.nan, 1e-9], "b": np.arange(3), "c": [True, False, True], "d": [1, "x", 2.5]})
    expected = frame.to_html(index=False, border=0, classes="wl-table")
    assert expected in markup.table("t", frame)


@pytest.fixture(scope="module")
def echoing_page():
    """A page whose events say what they are given: a box, HTML, a list of choices, growing; and one that fails."""

    def grow(text):
        yield text[:4]
        yield text[:20]
        yield text

    def refuse(text):
        raise InputError(f"{text} <b> is nothing; give another")

    async def build():  # without a loop Gradio would make some of its own and leave them open
        with GuardedPage(analytics_enabled=False, title="page") as page:
            box, html, choice = gr.Textbox(SCRIPT, label=label("outliers.cancel")), gr.HTML(""), gr.Dropdown([])
            gr.HTML(f"<h2>{label('outliers.cancel')}</h2>")
            gr.Button().click(lambda text: text, box, box)
            gr.Button().click(lambda text: f"<p>{text}</p>", box, html)
            gr.Button().click(lambda text: gr.update(choices=[(text, text)], label=text, value=text), box, choice)
            gr.Button().click(lambda text: {box: text, choice: gr.update(info=text)}, box, [box, html, choice])
            gr.Button().click(grow, box, html)
            gr.Button().click(refuse, box, box)
        page.guard(Settings())
        return page

    return asyncio.run(build())


def asked(page, number, **more):
    return asyncio.run(page.process_api(page.fns[number], [SCRIPT], state=None, **more))


@pytest.mark.parametrize("number", range(4))
def test_what_an_event_shows_has_no_mark(echoing_page, number):
    data = json.dumps(asked(echoing_page, number)["data"], default=str, ensure_ascii=False)
    assert MARK not in data
    assert "__i18n\u2060__" in data


def test_what_grows_has_no_mark_in_any_step(echoing_page):
    async def all_steps():
        iterator, said = None, []
        for _ in range(4):
            step = await echoing_page.process_api(echoing_page.fns[4], [SCRIPT], iterator=iterator)
            iterator = step["iterator"]
            said += [each for each in step["data"] if isinstance(each, str)]
        return said

    said = asyncio.run(all_steps())
    assert said[-1] == unmarked(SCRIPT)
    assert not any(MARK in each for each in said)


def test_the_sentence_of_an_error_is_shown_as_text_and_has_no_mark(echoing_page):
    with pytest.raises(gr.Error) as raised:
        asked(echoing_page, 5)
    assert MARK not in raised.value.message
    assert " &lt;b&gt; is nothing" in raised.value.message


def test_a_tool_answers_a_program_with_the_text_as_it_is(echoing_page, monkeypatch):
    monkeypatch.setattr(echoing_page, "tools", frozenset({0, 5}))
    assert asked(echoing_page, 0)["data"] == [SCRIPT]
    with pytest.raises(gr.Error) as raised:
        asked(echoing_page, 5)
    assert raised.value.message.startswith(SCRIPT + " <b>")


def test_the_page_is_described_with_its_own_labels_alone(echoing_page):
    parts = echoing_page.get_config_file()["components"]
    props = {part["type"]: part["props"] for part in parts if part["type"] in ("textbox", "html")}
    assert props["html"]["value"] == f"<h2>{OWN}</h2>"
    assert props["textbox"]["value"] == unmarked(SCRIPT)
    assert str(props["textbox"]["label"]) == OWN
