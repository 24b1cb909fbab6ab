"""The static page in a real browser, opened from a file: the handle, its parts, two weights, no empty promise."""

import random
from itertools import pairwise

import pytest
from leaf_browser import PHONE, grave, levels, opened, wider_than_the_page, writer
from playwright.sync_api import expect
from runs import LONG, MADE, SHORT, bare, hostile, line, long, small

from wanda_core.explain.toy_example import two_weights
from wanda_ui.away.site import write_site
from wanda_ui.away.telling import completed
from wanda_ui.language import LANGUAGES, words
from wanda_ui.replay import replay

pytestmark = pytest.mark.browser

# What only a server can do: none of its words, nor of its controls, may stand on a page without one.
PROMISES = ("ask", "sweep", "try", "hint", "coming", "caption", "live_run", "expected_quick", "static")
CONTROLS = (
    "#prune, #ask, #measure, #cancel, #wl-prompt, #own-prompts, #wl-model, #take-away, #compare-masks, #ask-weight"
)


def stored(run: dict, key: str, at: int) -> str:
    """A perplexity of the run above 100, as the page writes it."""
    [line] = [line for line in run["lines"] if line["key"] == key]
    perplexity = line["perplexity"][line["at"].index(at)]
    assert perplexity >= 100
    return f"{perplexity:,.0f}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_site(replay(), tmp_path_factory.mktemp("site") / "site")


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    return writer("site", tmp_path_factory.mktemp("sites"))


def columns(page):
    """-> [(title, perplexity, answer)] of the columns."""
    return page.evaluate(
        "() => Array.from(document.querySelectorAll('.wl-col'), e => ['.wl-col-name', '.wl-col-cost b', '.wl-answer']"
        ".map(part => e.querySelector(part).textContent))"
    )


def test_it_stands_at_once_with_its_parts_and_asks_for_nothing(browser, folder):
    with opened(browser, folder / "index.html") as page:
        dense, wanda, magnitude = columns(page)
        assert [dense[0], wanda[0], magnitude[0]] == ["Dense", "Wanda 45%", "Magnitude 45%"]
        assert "Paris" in wanda[2]
        assert "Paris" not in magnitude[2]
        assert page.locator(".wl-svg path.wl-line").count() == 2
        assert page.evaluate("() => Array.from(document.querySelectorAll('main > section'), e => e.id)") == [
            *("compare", "scores", "outliers", "learn")
        ]
        assert page.locator(".wl-door").count() == 3
        assert page.title() == "SmolLM2-135M-Instruct · Wanda Lab"


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_promises_nothing_that_it_cannot_do(browser, write, language):
    with opened(browser, write(completed(replay()), language)) as page:
        assert page.locator(CONTROLS).count() == 0
        shown = page.inner_text("#wl-leaf")
        for name in PROMISES:
            assert words(language)[f"view.{name}"] not in shown, name


def test_the_handle_follows_keys_and_the_mouse_as_far_as_anything_is_known(browser, folder):
    with opened(browser, folder / "index.html") as page:
        handle = page.locator(".wl-handle")
        handle.focus()
        before = page.inner_text("#finding")
        for key, expected in (
            ("Home", 0),
            ("PageUp", 10),
            ("ArrowRight", 11),
            ("ArrowDown", 10),
            ("End", 80),
            ("ArrowRight", 80),
        ):
            page.keyboard.press(key)
            assert handle.get_attribute("aria-valuenow") == str(expected), key
        assert page.inner_text("#finding") != before
        worst = stored(replay(), "wanda", 80)
        assert columns(page)[1][:2] == ["Wanda 80%", worst]
        assert handle.get_attribute("aria-valuetext").startswith(f"80%, Wanda 80%: {worst}")
        box = page.locator(".wl-svg").bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 80)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 80, steps=5)
        page.mouse.up()
        now = int(handle.get_attribute("aria-valuenow"))
        assert 25 < now < 40
        assert columns(page)[1][0] == f"Wanda {now}%"
        page.fill("#wl-at", "50")
        page.press("#wl-at", "Enter")
        assert columns(page)[1][0] == "Wanda 50%"


def test_other_lines_and_other_prompts_of_the_run_can_be_looked_at(browser, folder):
    run = replay()
    with opened(browser, folder / "index.html") as page:
        page.select_option("#wl-first", "best")
        page.fill("#wl-at", "70")
        page.press("#wl-at", "Enter")
        assert columns(page)[1][:2] == ["Best 70%", stored(run, "best", 70)]
        page.click(".wl-col-1 .wl-remove")
        assert len(columns(page)) == 2
        page.select_option("#wl-against", "wanda,pattern=2:4")
        assert columns(page)[2][:2] == ["Wanda 2:4", stored(run, "wanda,pattern=2:4", 50)]
        page.locator(".wl-suggest").filter(has_text="2 + 2").click()
        assert page.inner_text("#wl-asked") == "What is 2 + 2?"
        assert columns(page)[0][2] == "".join(run["answers"]["dense"][3]["t"])
        page.select_option("#wl-first", "magnitude,pattern=4:8")
        assert page.get_attribute(".wl-handle", "aria-valuenow") == "50"
        page.focus(".wl-handle")
        page.keyboard.press("ArrowRight")
        assert page.get_attribute(".wl-handle", "aria-valuenow") == "50"  # a pattern has one place


def test_doors_and_links_lead_to_parts_of_the_page(browser, folder):
    with opened(browser, folder / "index.html") as page:
        for number, name in enumerate(("scores", "outliers", "learn")):
            page.locator(".wl-go-on").nth(number).click()
            page.wait_for_function("id => document.activeElement.closest('section')?.id === id", arg=name)
            page.wait_for_function(
                "id => Math.abs(document.getElementById(id).getBoundingClientRect().top) < innerHeight", arg=name
            )
            page.locator(f".wl-leaf-links a[href='#{name}']").click()


def test_the_stored_linears_can_be_looked_at_one_by_one(browser, folder):
    run = replay()
    with opened(browser, folder / "index.html") as page:
        for number, linear in enumerate(run["linears"]):
            page.select_option("#wl-linear", str(number))
            assert f"{100 * linear['plane']['differ']:.1f}%" in page.inner_text("#scores-finding")
            assert page.is_visible("#told") == ("told" in linear)
            expect(page.locator("#figure-plane .wl-cell")).to_have_count(len(linear["plane"]["cells"]))
            for metric in ("score", "size"):
                bars = len([count for name in ("kept", "removed") for count in linear[metric][name] if count])
                expect(page.locator(f"#figure-by-{metric} .wl-bin")).to_have_count(bars)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_or_critical_and_headings_go_down_by_one(browser, folder, theme):
    with opened(browser, folder / "index.html", color_scheme=theme) as page:
        page.locator(".wl-col-0 .wl-token").first.click()  # why it came
        found = grave(page)
        assert not found, "\n".join(found)
        seen = levels(page)
        assert seen[0] == 1
        assert all(b - a <= 1 for a, b in pairwise(seen)), seen


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_reads_on_a_phone(browser, write, language):
    with opened(browser, write(completed(replay()), language), viewport=PHONE) as page:
        assert wider_than_the_page(page) == []
        page.locator(".wl-col-0 .wl-token").first.click()
        page.evaluate("() => { for (const part of document.querySelectorAll('details')) part.open = true; }")
        assert wider_than_the_page(page) == []


def test_a_run_that_lacks_things_stands_all_the_same(browser, write):
    with opened(browser, write(completed(bare()))) as page:
        assert [title for title, *_ in columns(page)] == ["Dense", "Wanda 2:4"]
        assert not page.is_visible(".wl-answer >> nth=0")
        assert page.locator(".wl-door, #scores, #outliers").count() == 0
        assert not page.is_visible(".wl-still-asking")
        assert page.locator("#learn").count() == 1  # two weights are of no model
    with opened(browser, write(completed(small()))) as page:
        assert columns(page)[1][:2] == ["Wanda 40%", "30.3"]
        page.focus(".wl-handle")
        page.keyboard.press("End")
        assert page.get_attribute(".wl-handle", "aria-valuenow") == "60"  # where its lines end
    one = small(lines=[line("best", [30, 70], [25.0, 90.0])], answers={}, prompts=[])
    with opened(browser, write(completed(one))) as page:
        page.focus(".wl-handle")
        page.keyboard.press("Home")
        page.keyboard.press("PageUp")
        assert columns(page)[1][0] == "Best 10%"
        assert columns(page)[1][1].startswith("≈ ")
    with opened(browser, write(completed(small(lines=[], answers={})))) as page:
        assert page.inner_text("#compare h2") == MADE["model"]


@pytest.mark.parametrize("run", [hostile(*SHORT), long(LONG[0])], ids=["all", "long"])
def test_whatever_a_run_says_is_shown_and_never_run(browser, write, run):
    with opened(browser, write(run)) as page:
        assert page.locator(".wl-chip-model b").evaluate("e => e.textContent") == run["made"]["model"]
        chips = page.locator(".wl-suggest")
        for number, prompt in enumerate(run["prompts"]):
            if number:
                chips.nth(number).click()
            for place in ("#wl-asked", ".wl-col-dense .wl-answer", ".wl-col-0 .wl-answer"):
                assert prompt["text"] in page.locator(place).evaluate("e => e.textContent"), place
            page.locator(".wl-col-0 .wl-token").first.click()
        page.focus(".wl-handle")
        for key in ("Home", "PageUp", "End"):
            page.keyboard.press(key)
        page.click("#language-switch")
        page.set_viewport_size(PHONE)
        page.wait_for_timeout(100)
        assert wider_than_the_page(page) == []


# Two weights ----------------------------------------------------------------------------------------------------------


def test_two_weights_are_worked_out_as_the_engine_does(browser, folder):
    draw = random.Random(0)
    values = [[round(draw.uniform(-3, 3), 1), round(draw.uniform(-3, 3), 1)] for _ in range(150)]
    given = [(w1, w2, round(draw.uniform(0, 60) * 2) / 2, round(draw.uniform(0, 60) * 2) / 2) for w1, w2 in values]
    given += [
        (0.5, 2, 40, 1),
        (0.3, 1.2, 4, 1),
        (1, -1, 5, 5),
        (1, 1, 2, 3),
        (0, 0, 0, 0),
        (0, 2, 9, 1),
        (2, 0.1, 1, 20),
    ]
    with opened(browser, folder / "index.html") as page:
        found = page.evaluate("given => given.map(([a, b, c, d]) => window.WandaLab.twoWeights([a, b], [c, d]))", given)
    for case, told in zip(given, found, strict=True):
        engine = two_weights(*case)
        assert told["y"] == pytest.approx(engine.y, rel=1e-4, abs=1e-4), case
        assert told["scores"] == pytest.approx(engine.errors, rel=1e-4), case
        assert (told["magnitude"], told["wanda"]) == (engine.magnitude, engine.wanda), case
        assert told["wanda"] == engine.cheaper, case  # of one sample, what Wanda cuts is what y misses least


def test_sliders_of_two_weights_move_by_keys_and_the_finding_follows(browser, folder):
    with opened(browser, folder / "index.html") as page:
        assert page.inner_text("#toy-finding") == "Magnitude cuts w₁ and y loses 20; Wanda cuts w₂ and y loses 2"
        page.focus("#toy-x1")
        page.keyboard.press("Home")
        for _ in range(8):
            page.keyboard.press("ArrowRight")
        assert (
            page.inner_text("#toy-finding")
            == "Both terms are equally large: whichever weight goes, y loses 2; magnitude cuts w₁"
        )
        page.keyboard.press("ArrowLeft")
        assert page.inner_text("#toy-finding") == "Both cut w₁, and y loses 1.75"
        assert page.inner_text("#toy-losses") == "y = 3.75. Without w₁ it changes by 1.75, without w₂ by 2."
        assert page.locator(".wl-bar-gone").count() == 2
