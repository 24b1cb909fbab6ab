"""The page of a class in a browser: files that learners hand in become a sheet, and hostile ones do nothing."""

import csv
import io
import json

import pytest

from wanda_ui.classroom.page import write_page
from wanda_ui.language import say
from wanda_ui.lesson.plan import STEPS

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=window.canary=1>"


def handed(name="Ann", code="K7QX", fits=(True, False), right=4, **more):
    steps = [{"step": step.name, "guess": step.guesses[0], "fits": fit} for step, fit in zip(STEPS, fits, strict=False)]
    items = [{"kind": "two_weights", "step": "two", "answer": "1_right", "right": k < right} for k in range(6)]
    told = {"format": "wanda-class-1", "class": code, "name": name, "date": "2026-11-28", "language": "en"}
    return told | {"steps": steps, "exam": {"items": items}, "beat": {"you": 3.1, "wanda": 3.9}} | more


@pytest.fixture
def sheet(browser, tmp_path):
    """The page from a file; it may ask for nothing, say nothing and break no policy."""
    file = tmp_path / "class.html"
    file.write_text(write_page("en", None), encoding="utf-8")
    context = browser.new_context(offline=True, accept_downloads=True, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(20_000)
    complaints, asked = [], []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector("#wl-files", state="attached")
    yield page
    assert complaints == []
    assert [url for url in asked if not url.startswith(("blob:", "data:"))] == [file.as_uri()]
    assert page.evaluate("() => window.canary ?? null") is None
    context.close()


def bring(page, *contents):
    """Choose files with these contents: values for JSON, or texts and bytes as they are."""
    files = [
        {
            "name": f"{number}.json",
            "mimeType": "application/json",
            "buffer": content
            if isinstance(content, bytes)
            else (content if isinstance(content, str) else json.dumps(content)).encode(),
        }
        for number, content in enumerate(contents)
    ]
    page.set_input_files("#wl-files", files)
    page.wait_for_function("() => !document.getElementById('wl-files').files.length")


def rows(page):
    return page.evaluate(
        "() => [...document.querySelectorAll('tbody tr')].map(r => [...r.cells].map(c => c.innerText))"
    )


def test_files_become_a_sheet_with_what_surprised_most(sheet):
    bring(sheet, handed("Béa"), handed("Ann", fits=(True, False), right=6), handed("민준", fits=(True,), exam=None))
    told = rows(sheet)
    assert [row[0] for row in told] == ["Ann", "Béa", "민준"]
    assert told[0][3:5] == ["✓\nguess right", "✗\nguess wrong"]
    assert [row[-3] for row in told] == ["6 / 6", "4 / 6", "–"]
    assert told[0][-2] == "yes"
    foot = sheet.inner_text("tfoot").split("\t")
    assert foot[3:5] == ["3 / 3", "0 / 2"]
    assert "3 handed in" in sheet.inner_text("#wl-sheet .wl-lead >> nth=1")
    assert "5.0 of 6" in sheet.inner_text("#wl-sheet .wl-lead >> nth=1")
    assert "Step 2" in sheet.inner_text("#wl-sheet .wl-lead >> nth=1")
    titles = [say("en", f"lesson.{step.name}.title") for step in STEPS]
    assert sheet.locator(".wl-sheet-steps li").all_inner_texts() == titles  # on paper nothing can be pointed at
    sheet.emulate_media(media="print")
    assert sheet.is_visible(".wl-sheet-steps")


def test_without_any_test_none_is_averaged(sheet):
    bring(sheet, handed(fits=(True, True), exam=None))
    assert sheet.inner_text("#wl-sheet .wl-lead >> nth=1") == "1 handed in; nobody has taken the test."
    bring(sheet, handed("Béa", fits=(True, False), exam=None))
    told = sheet.inner_text("#wl-sheet .wl-lead >> nth=1")
    assert told.startswith("2 handed in; nobody has taken the test. Step 2, “")
    assert told.endswith("surprised most: 1 guessed otherwise.")


def test_a_step_without_a_right_answer_counts_for_nobody(sheet):
    bring(sheet, handed(fits=(None, True)))
    assert rows(sheet)[0][3:5] == ["?\nnot known", "✓\nguess right"]
    assert sheet.inner_text("tfoot").split("\t")[3:5] == ["–", "1 / 1"]
    assert "surprised most" not in sheet.inner_text("#wl-sheet .wl-lead >> nth=1")


def test_the_sheet_as_a_table_runs_nothing_in_a_spreadsheet(sheet):
    bring(sheet, handed('=HYPERLINK("x")'), handed("@SUM(1)", code="-1+1"))
    text = sheet.evaluate("() => window.WandaLab.sheetCsv()")
    table = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"))))
    assert {row[0] for row in table[1:]} == {'\'=HYPERLINK("x")', "'@SUM(1)"}
    assert all(not cell.startswith(("=", "+", "-", "@")) for row in table for cell in row)
    assert table[1][3:5] == ["1", "0"]
    titles = [f"{place} {say('en', f'lesson.{step.name}.title')}" for place, step in enumerate(STEPS, 1)]
    assert table[0] == ["Name", "Class", "Date", *titles, "Test: right", "Test: answered", "Beat Wanda"]
    assert table[1][-3:] == ["4", "6", "1"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not json",
        "null",
        "[]",
        "{}",
        '{"format":"wanda-class-1"}',
        '{"format":"wanda-class-2","steps":[]}',
        '{"format":"wanda-class-1","steps":{"length":1}}',
        "[" * 2_000,
        b"\xff\xfe\x00\x01",
        '{"__proto__":{"format":"wanda-class-1","steps":[]}}',
    ],
    ids=str,
)
def test_what_no_lesson_saved_is_refused_whole(sheet, content):
    bring(sheet, content)
    assert rows(sheet) == []
    assert "is no file that the lesson saved" in sheet.inner_text(".wl-sheet-problems")


def test_a_file_that_is_too_large_is_not_read(sheet):
    bring(sheet, handed(note="x" * 70_000))
    assert rows(sheet) == []
    assert "larger than 64 KB" in sheet.inner_text(".wl-sheet-problems")


def test_hostile_texts_stand_as_texts_and_are_cut(sheet):
    sign = "\u202e\u0000\n"
    many = [{"step": EVIL, "fits": True}, {"step": "__proto__", "fits": True}, {"step": "two", "fits": EVIL}] * 50
    hostile = handed(EVIL + sign + "x" * 5000, code=EVIL, date=EVIL)
    bring(
        sheet, hostile | {"steps": many, "exam": {"items": [{"right": True}] * 999}, "beat": {"you": "1", "wanda": {}}}
    )
    (row,) = rows(sheet)
    assert row[0].startswith(EVIL)
    assert len(row[0]) == 60
    assert not set(sign) & set(row[0])
    assert len(row[1]) == 12
    assert row[2] == "–"
    assert row[-3] == "6 / 6"  # never more than there are
    assert row[-2] == "–"
    assert sheet.locator("tbody img").count() == 0


def test_the_same_file_counts_once_and_a_name_twice_is_told(sheet):
    bring(sheet, handed(), handed(), handed(right=5))
    assert len(rows(sheet)) == 2
    assert "has been read already" in sheet.inner_text(".wl-sheet-problems")
    assert sheet.locator(".wl-twice").all_inner_texts() == [f" {say('en', 'class.twice')}"] * 2
    sheet.click("tbody tr:first-child button")
    assert len(rows(sheet)) == 1
