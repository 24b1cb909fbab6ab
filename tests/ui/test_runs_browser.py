"""A run taken away from the page, as JSON, table and report, and brought back to it."""

import csv
import io
import json

import pytest
from view_alone import MODEL, said, whole_view

from wanda_ui.away.shell import answer
from wanda_ui.replay import replay

pytestmark = pytest.mark.browser

RUN = {
    "format": 1,
    "made": {**replay()["made"], "date": "2026-10-01"},
    "dense": {"perplexity": 34.4},
    "lines": [
        {
            "key": "ria",
            "recipe": {"method": "ria"},
            "calibration": None,
            "at": [0, 40, 60],
            "perplexity": [34.4, 50.5, 1e300],
            "top1": [None, 0.8, 0.5],
            "kl": [None, 0.2, 1.5],
            "seconds": [0.0, 1.5, 1.25],
        }
    ],
    "prompts": [],
    "answers": {},
}


@pytest.fixture
def view(whole):
    return whole


def test_the_run_its_points_and_the_report_are_made_in_the_browser(browser):
    view = whole_view(browser, {"report": answer({"language": "en"})})
    name, content = view.saved("#take-run")
    assert name == "smollm2-135m-instruct-run.json"
    run = json.loads(content)
    assert run == {**replay(), "shown": run["shown"], "repeat": run["repeat"], "made": run["made"]}
    assert run["shown"] == {"at": 45, "keys": ["wanda", "magnitude"], "prompt": replay()["prompts"][0]["text"]}
    assert [told["key"] for told in run["repeat"]] == ["wanda", "magnitude"]
    assert run["made"]["model"] == MODEL
    name, content = view.saved("#take-points")
    assert name == "smollm2-135m-instruct-points.csv"
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    assert rows[1][:3] == ["dense", "0", str(run["dense"]["perplexity"])]
    told = [(line["key"], at, p) for line in run["lines"] for at, p in zip(line["at"], line["perplexity"], strict=True)]
    assert [(row[0], float(row[1]), float(row[2])) for row in rows[2:]] == told
    name, content = view.saved("#take-report")
    assert name == "smollm2-135m-instruct-report.html"
    assert MODEL in content.decode()
    assert view.asks("report") == [{"language": "en"}]
    view.answers["report"] = {"status": 429, "detail": "Too many questions; wait a minute"}
    view.page.click("#take-report")
    said(view, "Too many questions")
    view.close()


def choose(view, file):
    with view.page.expect_file_chooser() as chooser:
        view.page.click("#take-open")
    chooser.value.set_files(str(file))


def drop(view, name, text, where=".wl-curve"):
    """Drop a file on a part of the page."""
    data = view.page.evaluate_handle(
        "([name, text]) => { const data = new DataTransfer();"
        " data.items.add(new File([text], name, { type: 'application/json' })); return data; }",
        [name, text],
    )
    for event in ("dragover", "drop"):
        view.page.dispatch_event(where, event, {"dataTransfer": data})


def test_a_run_is_brought_back_and_its_lines_stand_on_the_curve(view, tmp_path):
    file = tmp_path / "run.json"
    file.write_text(json.dumps(RUN))
    choose(view, file)
    said(view, f"Run of {MODEL} from 2026-10-01")
    assert f"Run of {MODEL} from 2026-10-01" in view.page.inner_text("#status")
    names = view.page.locator(".wl-svg .wl-name").all_text_contents()
    assert any("RIA" in name for name in names)  # none of its lines stood there
    assert view.page.inner_text(".wl-col-0 .wl-col-name").startswith("RIA")
    content = view.saved(".wl-under-curve [data-kind=csv]")[1].decode()
    assert "ria,40,50.5,stored,,0.8,0.2,1.5" in content
    assert "ria,60,inf,stored" in content


def test_a_run_may_be_dropped_anywhere_and_one_of_another_model_says_so(view):
    drop(view, "run.json", json.dumps({**RUN, "made": {**RUN["made"], "model": "Other-1B", "name": "org/other"}}))
    said(view, "Run of org/other from")
    assert view.page.inner_text(".wl-col-0 .wl-col-name").startswith("Wanda")
    assert view.page.inner_text("#take-other") == "Look at org/other"
    view.page.click("#take-other")
    assert view.calls("open")[-1]["model"] == "org/other"
    assert view.page.url.startswith("https://lab.test/")  # the browser did not open the file itself


def test_a_run_is_called_by_the_model_that_it_opens_whatever_title_it_brings(view):
    made = {**RUN["made"], "model": MODEL, "name": "stranger/any-model"}
    drop(view, "run.json", json.dumps({**RUN, "made": made}))
    said(view, "Run of stranger/any-model from")
    assert view.page.inner_text("#take-other") == "Look at stranger/any-model"
    assert "Run of stranger/any-model" in view.page.inner_text("#status")
    drop(view, "run.json", json.dumps({**RUN, "made": {**made, "revision": "other"}}))
    said(view, "another state of stranger/any-model than")
    drop(view, "run.json", json.dumps({**RUN, "made": {**RUN["made"], "model": "stranger/any-model"}}))
    said(view, f"Run of {MODEL} from")


WRONG = {
    "no JSON": "hello",
    "another JSON": '{"format": 2}',
    "nothing": "",
    "markup": "<script>alert(1)</script>",
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_is_no_run_is_answered_in_a_sentence(view, case):
    drop(view, "<b>wrong</b>.json", WRONG[case])
    said(view, "<b>wrong</b>.json: ")
    assert "<b>wrong</b>.json: " in view.page.inner_text("#status")
    assert view.page.inner_text(".wl-col-0 .wl-col-name").startswith("Wanda")


def test_a_file_that_is_dropped_on_a_field_for_files_is_not_taken_for_a_run(view):
    view.page.click(".wl-more-button")
    drop(view, "run.json", json.dumps(RUN), "#wl-text")
    view.page.wait_for_timeout(200)
    assert view.page.inner_text("#take-said") == ""
