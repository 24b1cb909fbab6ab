"""The gate's own questions, by raw HTTP: one body in, one answer out, and a sentence for everything else."""

import gzip
import json

import pytest
from raw_requests import JSON, is_told
from view_events import COLUMN

from wanda_ui.gate.refusal import RefusedError

PATH = "/wanda/scores"
RECIPES = [{**COLUMN, "id": 1, "method": "wanda", "at": 40}, {**COLUMN, "id": 2, "method": "magnitude", "at": 40}]
GIVEN = {"what": "linear", "model": "builtin", "recipes": RECIPES, "kind": "mlp.up_proj", "block": 1}


def test_a_question_is_answered_with_plain_values_and_compressed_where_that_is_taken(raw):
    plain = raw.post(PATH, GIVEN)
    assert plain.status == 200
    assert json.loads(plain.body)["linear"]["plane"]["cells"]
    zipped = raw.send("POST", PATH, json.dumps(GIVEN), {**JSON, "accept-encoding": "gzip"})
    assert zipped.headers["content-encoding"] == "gzip"
    assert gzip.decompress(zipped.body) == plain.body
    assert plain.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/wanda/scores", "/wanda/take", "/wanda/checkpoint", "/wanda/report"])
@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"what": 1, "what": 2}', b"[" * 99_999, b'{"what": NaN}', b"\xff"], ids=range(7)
)
def test_a_body_that_is_no_question_is_refused(raw, path, body):
    reply = raw.post(path, body)
    assert reply.status in (400, 413)
    assert is_told(reply), reply


@pytest.mark.parametrize("change", [{"what": "all"}, {"recipes": []}, {"block": None}, {"model": " "}, {"kind": ""}])
def test_what_the_tab_refuses_is_said_in_its_words(raw, change):
    reply = raw.post(PATH, {**GIVEN, **change})
    assert reply.status == 400
    assert is_told(reply), reply


@pytest.mark.parametrize("path", ["/wanda/scores", "/wanda/take", "/wanda/checkpoint"])
@pytest.mark.parametrize("method", ["wanda", "neurons", "blocks"])
def test_a_number_that_no_browser_counts_with_is_refused(raw, path, method):
    for field, value in (("at", 10**399), ("at", -(10**399)), ("id", 10**17), ("at", 1e300)):
        reply = raw.post(path, {**GIVEN, "recipes": [{**RECIPES[0], "method": method, field: value}]})
        assert reply.status == 400, (field, value)
        assert is_told(reply), reply


def test_all_questions_and_downloads_are_known_here(served):
    assert set(served[0].questions) == {"scores", "take", "checkpoint", "report"}
    assert set(served[0].downloads) == {"checkpoint"}


def test_other_names_and_methods_are_closed(raw):
    for path in ("/wanda/nothing", "/wanda/", "/wanda/scores/x", "/wanda/SCORES", "/wanda/__class__"):
        assert raw.post(path, GIVEN).status == 404, path
    for method in ("GET", "PUT", "DELETE"):
        assert raw.send(method, PATH).status == 405, method
    assert raw.send("POST", PATH, b"{}", {"content-type": "text/plain"}).status == 415


def test_a_model_that_is_not_here_is_waited_for(raw):
    assert json.loads(raw.post(PATH, {**GIVEN, "model": "owner/other"}).body) == {"wait": True, "loaded": False}


def test_one_who_asks_too_often_is_told_when_to_ask_again(raw, monkeypatch):
    monkeypatch.setattr("wanda_ui.gate.rate.Rate.take", refuse)
    reply = raw.post(PATH, GIVEN)
    assert reply.status == 429
    assert is_told(reply)


def refuse(self, address, count=1):
    raise RefusedError(429, "rate", most=60, seconds=1)


def test_the_page_of_a_report_is_handed_out_without_a_run(raw):
    reply = raw.post("/wanda/report", {"language": "ko"})
    assert reply.status == 200
    html = json.loads(reply.body)["html"]
    assert '<html lang="ko">' in html
    assert 'id="wl-run">null</script>' in html
    for wrong in ({}, {"language": "xx"}, {"language": ["en"]}):
        reply = raw.post("/wanda/report", wrong)
        assert reply.status == 400
        assert is_told(reply), reply
