"""The report in a real browser, opened from a file: alone, whole, for everyone, on paper, and whatever a run says."""

import json
import re
from itertools import pairwise

import pytest
from leaf_browser import PHONE, grave, levels, opened, wider_than_the_page, writer
from runs import LONG, MADE, PROMPT, SHORT, answer, bare, hostile, line, long, small
from view_alone import Alone, take_answer

from wanda_core.report.run import LARGEST
from wanda_ui.away.shell import MOST_BYTES, shell
from wanda_ui.away.shell import answer as report_shell
from wanda_ui.away.telling import completed
from wanda_ui.language import LANGUAGES, words
from wanda_ui.replay import replay

pytestmark = pytest.mark.browser

PARTS = ["answers", "why", "points", "recipes", "repeat", "made"]


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    return writer("report", tmp_path_factory.mktemp("reports"))


@pytest.fixture(scope="module")
def stored(write):
    return write(completed(replay()))


def parts(page):
    return page.evaluate("() => Array.from(document.querySelectorAll('main > section'), e => e.id)")


def exact(value) -> str:
    """A number of the tables as the report writes it: five digits, a mark at thousands."""
    if value is None:
        return "–"
    if value >= LARGEST:
        return "∞"
    digits = float(f"{value:.5g}")
    return f"{digits:,.10f}".rstrip("0").rstrip(".")


def test_it_tells_all_of_the_stored_run(browser, stored):
    run = replay()
    with opened(browser, stored) as page:
        assert parts(page) == PARTS
        finding = page.inner_text("h1")
        assert "45%" in finding
        assert "Paris" in finding
        assert page.title() == f"{finding} · SmolLM2-135M-Instruct"
        assert page.locator(".wl-prompt").count() == len(run["prompts"])
        assert page.locator("#why .wl-plane").count() == len(run["linears"])
        assert page.locator(".wl-repeat:not(.wl-measure)").count() == len(run["lines"])
        made = run["made"]
        measured = f"wanda-lab perplexity --model FOLDER --windows {made['windows']} --seq-len {made['seq_len']}"
        assert page.inner_text("#repeat-measure code").startswith(measured)
        said = page.inner_text("#made")
        for value in (run["made"]["revision"], run["made"]["date"], run["made"]["calibration"]["fingerprint"]):
            assert value in said
        for name, version in run["made"]["versions"].items():
            assert f"{name} {version}" in said
        assert page.locator(".wl-part-here").count() == 2 * len(run["prompts"])  # both part from dense on all
        assert (
            page.evaluate("() => getComputedStyle(document.querySelector('.wl-part-here')).textDecorationLine")
            == "underline"
        )


def test_the_tables_hold_every_figure_of_the_run(browser, stored):
    run = replay()
    with opened(browser, stored) as page:
        tables = page.evaluate(
            "() => Array.from(document.querySelectorAll('#points table'), t => [t.caption.textContent,"
            " Array.from(t.tBodies[0].rows, r => Array.from(r.cells, c => c.textContent))])"
        )
    rows = [row for _, found in tables for row in found]
    expected = [
        [exact(line["perplexity"][i]), exact(line["kl"][i]), exact(line["seconds"][i]), f"{100 * line['top1'][i]:.2f}%"]
        for line in sorted(run["lines"], key=lambda line: len(line["at"]) == 1)
        for i in range(len(line["at"]))
    ]
    assert [[row[1], row[4], row[5], row[3]] for row in rows] == expected
    places = [f"{at}%" for line in run["lines"] if len(line["at"]) > 1 for at in line["at"]]
    assert [row[0] for row in rows][: len(places)] == places


def test_its_answers_stand_there_as_they_were_given(browser, stored):
    run = replay()
    with opened(browser, stored) as page:
        shown = page.evaluate(
            "() => Array.from(document.querySelectorAll('.wl-prompt .wl-answer'), e => e.textContent)"
        )
    names = ["dense", "wanda@45", "magnitude@45"]
    assert shown == ["".join(run["answers"][name][i]["t"]) for i in range(len(run["prompts"])) for name in names]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_or_critical_and_headings_go_down_by_one(browser, stored, theme):
    with opened(browser, stored, color_scheme=theme) as page:
        assert page.evaluate("() => document.body.classList.contains('dark')") == (theme == "dark")
        found = grave(page)
        assert not found, "\n".join(found)
        seen = levels(page)
        assert seen[0] == 1
        assert all(b - a <= 1 for a, b in pairwise(seen)), seen


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_speaks_its_language_and_switches_to_another(browser, write, language):
    other = next(code for code in LANGUAGES if code != language)
    with opened(browser, write(completed(small()), language)) as page:
        for code in (language, other):
            assert page.get_attribute("html", "lang") == code
            assert page.inner_text("#recipes h2") == words(code)["leaf.report.recipes"]
            page.click("#language-switch")
        assert page.evaluate("() => document.activeElement.id") == "language-switch"
        page.click("#theme-switch")
        assert page.evaluate("() => document.body.classList.contains('dark')")
        page.click("#theme-switch")
        assert not page.evaluate("() => document.body.classList.contains('dark')")


def test_what_a_run_lacks_is_not_there(browser, write):
    expected = {
        "bare": ["costs", "points", "recipes", "repeat", "made"],
        "lines": ["answers", "points", "recipes", "repeat", "made"],
    }
    one = small(
        lines=[line("wanda", [20, 60], [21, LARGEST], top1=[None] * 2, kl=[None] * 2, seconds=[None] * 2)],
        answers={},
        prompts=[],
    )
    with opened(browser, write(completed(bare()))) as page:
        assert parts(page) == expected["bare"]
        assert "50%" in page.inner_text("h1")
    with opened(browser, write(completed(small()))) as page:
        assert parts(page) == expected["lines"]
    with opened(browser, write(completed(one))) as page:
        assert parts(page) == expected["bare"]
        cells = page.locator("#points tbody tr").nth(1).locator("td").all_inner_texts()
        assert cells[0] == "∞"
        assert cells[2:] == ["–"] * 3
    with opened(browser, write(completed(small(lines=[], answers={})))) as page:
        assert page.inner_text("h1") == MADE["model"]
        assert "made" in parts(page)


@pytest.mark.parametrize("run", [hostile(*SHORT), long(LONG[0])], ids=["all", "long"])
def test_whatever_a_run_says_is_shown_and_never_run(browser, write, run):
    texts = [prompt["text"] for prompt in run["prompts"]]
    with opened(browser, write(run)) as page:
        for language in ("en", "ko"):
            assert page.get_attribute("html", "lang") == language
            for place in ("h3.wl-asked", ".wl-col-dense .wl-answer", ".wl-repeat h3", ".wl-repeat code"):
                shown = page.evaluate("at => Array.from(document.querySelectorAll(at), e => e.textContent)", place)
                assert [text for text in texts if not any(text in words for words in shown)] == [], place
            assert page.locator("#made dd").first.evaluate("e => e.textContent") == run["made"]["model"]
            page.click("#language-switch")
        page.click("#theme-switch")
        for number, text in enumerate(texts):
            page.locator(f"#repeat-{number}-command-copy").click()
            page.wait_for_function("text => window.copied === text", arg=text)
        page.set_viewport_size(PHONE)
        page.wait_for_timeout(100)
        assert wider_than_the_page(page) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_reads_on_a_phone(browser, write, language):
    with opened(browser, write(completed(replay()), language), viewport=PHONE) as page:
        assert wider_than_the_page(page) == []
        sizes = page.evaluate(
            "() => Array.from(document.querySelectorAll('.wl-run-curve text'),"
            " e => parseFloat(getComputedStyle(e).fontSize))"
        )
        assert min(sizes) >= 12


def test_it_is_printed_white_whole_and_without_buttons(browser, stored):
    with opened(browser, stored, color_scheme="dark") as page:
        page.emulate_media(media="print", color_scheme="dark")
        page.set_viewport_size({"width": 700, "height": 990})  # A4 between its margins
        page.wait_for_timeout(150)
        assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.locator("#wl-leaf button:visible").count() == 0
        assert wider_than_the_page(page) == []
        cut = page.evaluate(
            "() => Array.from(document.querySelectorAll('#wl-leaf :is(.wl-answer, pre, .wl-scroll, .wl-asked)'))"
            ".filter(e => e.scrollHeight > e.clientHeight + 1 || e.scrollWidth > e.clientWidth + 1)"
            ".map(e => e.className)"
        )
        assert cut == []
        page.emulate_media(media=None)
        paper = page.pdf(format="A4")
        assert paper.startswith(b"%PDF")
        pages = len(re.findall(rb"/Type\s*/Page\b", paper))
        assert 3 <= pages <= 14


def test_run_and_figures_can_be_saved_from_it(browser, stored, tmp_path):
    with opened(browser, stored) as page:
        with page.expect_download() as saved:
            page.click("#save-run")
        assert saved.value.suggested_filename == "smollm2-135m-instruct-wanda-45-run.json"
        saved.value.save_as(tmp_path / "run.json")
        assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8")) == completed(replay())
        for kind, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("csv", b"input_norm")):
            with page.expect_download() as saved:
                page.locator(f"#figure-plane-0 .wl-take-as[data-kind={kind}]").click()
            saved.value.save_as(tmp_path / kind)
            assert (tmp_path / kind).read_bytes().startswith(start)
            assert saved.value.suggested_filename.endswith(f".{kind}")


def test_the_file_that_the_page_makes_is_the_one_that_the_program_makes(browser, write, stored, tmp_path):
    run = completed(replay())
    with opened(browser, stored) as page:
        made = page.evaluate("([shell, run]) => window.WandaLab.reportFile(shell, run)", [shell("report", "en"), run])
        title = page.title()
    by_program = stored.read_text(encoding="utf-8")
    held = [text.split('id="wl-run">')[1].split("</script>")[0] for text in (made, by_program)]
    assert json.loads(held[0]) == json.loads(held[1])
    rest = [
        re.sub(r"<title>.*?</title>", "", text.replace(run, ""))
        for text, run in zip((made, by_program), held, strict=True)
    ]
    assert rest[0] == rest[1]
    assert f"<title>{title}</title>" in made
    tricky = hostile("</title><script>window.canary=1</script>$&")
    with opened(browser, stored) as page:
        made = page.evaluate(
            "([shell, run]) => window.WandaLab.reportFile(shell, run)", [shell("report", "ko"), tricky]
        )
    file = tmp_path / "made.html"
    file.write_text(made, encoding="utf-8")
    with opened(browser, file) as page:
        assert PROMPT not in page.inner_text("main")
        assert page.locator(".wl-prompt").count() == 1
    assert len(made.encode()) < MOST_BYTES


def test_an_answer_like_the_dense_one_is_not_marked_and_one_that_ends_early_is_said_to(browser, write):
    run = small()
    run["answers"]["wanda@40"] = [answer("It is Paris.")]
    run["answers"]["magnitude@40"] = [answer("It is")]
    with opened(
        browser, write({**completed(run), "shown": {"at": 40, "keys": ["wanda", "magnitude"], "prompt": PROMPT}})
    ) as page:
        assert page.locator(".wl-part-here").count() == 0
        notes = page.locator(".wl-prompt .wl-col-note").all_inner_texts()
        assert notes == ["as it was trained", "all 3 tokens as dense", "as dense for 2 tokens, then one of them ends"]
        assert "0 of 1 under Wanda 40%, 1 of 1 under Magnitude 40%" in page.inner_text("#answers h2")


def test_the_page_of_the_server_makes_it_of_what_is_looked_at(browser, tmp_path):
    def take(given):
        told = take_answer(given)
        return {**told, "about": replay()["made"], "recipes": [{**one, "recipe": {}} for one in told["recipes"]]}

    view = Alone(browser, {"take": take, "report": report_shell})
    page = view.page
    page.locator("#take-away").scroll_into_view_if_needed()
    page.wait_for_function("() => document.getElementById('take-checkpoint').innerText.includes('MB')")
    name, content = view.saved("#take-report")
    finding = page.inner_text("#finding")
    assert view.complaints == []
    view.close()
    assert name.endswith("report.html")
    file = tmp_path / name
    file.write_bytes(content)
    with opened(browser, file) as page:
        assert page.inner_text("h1") == finding
        assert parts(page) == PARTS
        assert page.locator("#points table").count() == 2
        assert page.locator(".wl-repeat:not(.wl-measure)").count() == 2
        command = page.inner_text("#repeat-0-command code")
        assert command == "wanda-lab prune --method wanda --sparsity 0.45 --output out/it"
