"""The first view as a person meets it: the real built-in model, the real page, a real browser."""

import re

import pytest
from browser import MINUTE, column, let_go, number, ready, settled, wait_for, zeros
from playwright.sync_api import expect

from wanda_ui.engine import work

pytestmark = [pytest.mark.browser, pytest.mark.builtin, pytest.mark.usefixtures("three_blocks", "few_windows")]

# Notes what the status line says while it changes, and how far its bar is.
WATCH_STATUS = """() => {
    window.said = [];
    const note = () => said.push([document.getElementById('status').textContent,
        document.querySelector('.wl-status-line .wl-bar i').style.width]);
    new MutationObserver(note).observe(document.querySelector('.wl-status-line'),
        { subtree: true, childList: true, characterData: true });
}"""
CAPITAL = "What is the capital of France, and what is it known for?"


def test_the_first_view_shows_the_stored_run_in_columns_and_a_finding(page):
    dense, wanda, magnitude = (column(page, which) for which in ("dense", 0, 1))
    assert [dense[0], wanda[0], magnitude[0]] == ["Dense", "Wanda 45%", "Magnitude 45%"]
    assert "Paris" in dense[2]
    assert "Paris" in wanda[2]
    assert "Paris" not in magnitude[2]
    assert 30 < number(dense[1]) < number(wanda[1]) < number(magnitude[1])
    finding = page.inner_text("#finding")
    assert wanda[1] in finding
    assert magnitude[1] in finding
    assert "Paris" in finding
    assert "Stored run" in page.inner_text(".wl-source")
    assert page.locator(".wl-door").count() == 3
    assert page.locator(".wl-svg path.wl-line").count() == 2


def test_a_dragged_handle_moves_everything_without_a_request(page):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    while True:  # a page that has just opened still asks what it needs
        page.wait_for_timeout(1000)
        if not asked:
            break
        asked.clear()
    handle = page.locator(".wl-handle")
    before = page.inner_text("#finding"), column(page, 0)
    box = page.locator(".wl-svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 80, steps=8)
    now = int(handle.get_attribute("aria-valuenow"))
    assert 25 < now < 40
    assert column(page, 0)[0] == f"Wanda {now}%"
    assert page.inner_text("#finding") != before[0]
    assert handle.get_attribute("aria-valuetext").startswith(f"{now}%, Wanda {now}%: ")
    assert not [url for url in asked if "/gradio_api/" in url]
    page.keyboard.press("Escape")
    page.mouse.up()
    settled(page)


def test_the_handle_answers_to_keys_and_prunes_when_they_rest(page):
    page.focus(".wl-handle")
    for key, expected in (
        ("Home", 0),
        ("PageUp", 10),
        ("ArrowRight", 11),
        ("ArrowDown", 10),
        ("End", 80),
        ("PageDown", 70),
    ):
        page.keyboard.press(key)
        assert page.get_attribute(".wl-handle", "aria-valuenow") == str(expected)
    page.wait_for_selector(".wl-busy")
    settled(page, "Wanda 70%")
    assert zeros(column(page, 0)[3]) == pytest.approx(70, abs=0.2)
    assert page.evaluate("() => document.activeElement.classList.contains('wl-handle')")


def test_tabbing_past_the_handle_prunes_nothing(page, state):
    page.focus(".wl-handle")
    before = state.engine._arrived
    for _ in range(4):
        page.keyboard.press("Tab")
    page.wait_for_timeout(700)
    assert state.engine._arrived == before


def test_a_number_can_be_typed_and_one_out_of_range_is_refused_in_place(page):
    page.fill("#wl-at", "50")
    page.press("#wl-at", "Enter")
    settled(page, "Wanda 50%")
    assert zeros(column(page, 0)[3]) == 50
    page.fill("#wl-at", "960")
    page.press("#wl-at", "Enter")
    assert not page.evaluate("() => document.getElementById('wl-at').checkValidity()")
    assert page.get_attribute(".wl-handle", "aria-valuenow") == "50"
    assert page.get_attribute("#wl-at", "aria-invalid") == "true"
    assert page.inner_text("#status").startswith("960 is not a whole number from 0 to 95")
    page.fill("#wl-at", "50")


def test_a_pattern_moves_the_handle_to_what_it_implies(page):
    page.check("input[name=wl-pattern][value='2:4']", force=True)
    assert page.get_attribute(".wl-handle", "aria-valuenow") == "50"
    assert [column(page, which)[0] for which in (0, 1)] == ["Wanda 2:4", "Magnitude 2:4"]
    assert page.inner_text("#finding").startswith("Without 50% (2:4) of its weights")
    page.fill(".wl-pattern-own", "1:4")
    page.press(".wl-pattern-own", "Enter")
    assert page.get_attribute(".wl-handle", "aria-valuenow") == "75"
    page.click("#prune")
    settled(page, "Wanda 1:4")
    assert zeros(column(page, 0)[3]) == 75
    page.check("input[name=wl-pattern][value='unstructured']", force=True)


def test_a_pattern_that_is_none_is_said_and_one_that_goes_too(page):
    page.fill(".wl-pattern-own", "9:4")
    page.press(".wl-pattern-own", "Enter")
    assert page.inner_text("#status").startswith("9:4 is no pattern; type N:M")
    page.fill(".wl-pattern-own", "1:8")
    page.press(".wl-pattern-own", "Enter")
    assert page.text_content(".wl-pill-text") == "87.5%"
    page.focus(".wl-handle")
    page.keyboard.press("PageDown")
    assert "1:8 has one place on the curve" in page.inner_text("#status")
    assert column(page, 0)[0] == "Wanda 78%"
    expect(page.locator(".wl-col-0")).to_contain_text("78.0% zeros")  # pruned when the key rests
    settled(page, "Wanda 78%")


@pytest.mark.long
def test_a_job_of_another_recipe_writes_nothing_below_this_one(page):
    page.select_option("#wl-method", "sparsegpt")
    page.fill("#wl-prompt", "Name a mountain.")
    page.click("#prune")
    page.wait_for_function("() => document.getElementById('status').textContent.includes('SparseGPT')")
    page.select_option("#wl-method", "random")
    assert not page.locator(".wl-col-0.wl-busy").count()
    page.wait_for_function("() => document.getElementById('cancel').hidden", timeout=3 * MINUTE)
    assert "zeros" not in column(page, 0)[3]
    assert not page.locator(".wl-col-0:not(.wl-old) .wl-token").count()
    page.select_option("#wl-method", "sparsegpt")  # it was heard meanwhile
    assert "zeros" in column(page, 0)[3]
    assert page.locator(".wl-col-0:not(.wl-old) .wl-token").count()
    page.select_option("#wl-method", "wanda")


def test_ask_pressed_while_it_prunes_waits_for_that_variant(page):
    page.select_option("#wl-method", "paper")  # some seconds
    page.click("#prune")
    page.wait_for_function("() => document.getElementById('status').textContent.includes('pruning')")
    page.fill("#wl-prompt", "Name a river.")
    page.click("#ask")
    settled(page, "Paper")
    answered = page.evaluate("() => window.WandaLab && document.querySelector('.wl-col-0 .wl-answer').innerText")
    assert answered
    assert "zeros" in column(page, 0)[3]
    page.select_option("#wl-method", "wanda")


def test_cancel_ends_it_and_says_so(page):
    page.select_option("#wl-method", "best")  # a minute of measuring first
    page.click("#prune")
    page.wait_for_function("() => document.getElementById('status').textContent.includes('Best')")
    page.click("#cancel")
    settled(page)
    wait_for(page, "status", "Cancelled")
    page.select_option("#wl-method", "wanda")


def test_a_long_prompt_is_said_to_be_read(page):
    page.evaluate(
        "() => { window.hints = new Set(); new MutationObserver(() => document.querySelectorAll('.wl-answer .wl-hint')"
        ".forEach(hint => hints.add(hint.textContent))).observe(document.body, { subtree: true, childList: true }); }"
    )
    page.fill("#wl-prompt", "The river carries sand to the sea. " * 110)
    page.click("#ask")
    page.wait_for_function("() => window.hints.has('reading the prompt …')")
    page.click("#cancel")
    settled(page)
    assert "reading" not in page.inner_text(".wl-col-0 .wl-answer")
    page.fill("#wl-prompt", CAPITAL)


def test_recipes_are_added_and_taken_away_three_at_most(page):
    page.select_option("#wl-against", "ria")
    assert column(page, 2)[0].startswith("RIA")
    page.click(".wl-col-2 .wl-remove")
    offered = page.locator("#wl-against option").all_inner_texts()
    assert "Wanda" not in offered[1:]  # the very same again would say nothing
    assert "magnitude" not in offered[1:]
    assert "RIA" in offered
    page.select_option("#wl-against", "ria")
    assert page.locator("#wl-against option:not([value^='\\0'])").count() == 0
    page.locator(".wl-col-0 .wl-token").first.click()
    page.wait_for_selector(".wl-why", state="visible")
    page.click(".wl-col-2 .wl-remove")
    expect(page.locator(".wl-col-2")).to_have_count(0)
    expect(page.locator(".wl-why")).to_be_hidden()  # it told of a recipe that is gone
    assert page.evaluate("() => document.activeElement.id") == "wl-against"
    settled(page)


@pytest.mark.long
def test_two_recipes_may_differ_in_the_text_alone(page, tmp_path):
    file = tmp_path / "own.txt"
    file.write_text("The harbour master wrote the names of the ships in a long book. " * 400)
    page.click(".wl-col-1 .wl-remove")
    page.select_option("#wl-against", "\0kept")
    if page.is_hidden("#wl-more"):
        page.click(".wl-more-button")
    page.set_input_files("#wl-text", str(file))
    page.wait_for_function("() => document.querySelector('.wl-more').innerText.includes('own.txt')")
    let_go(page, 55)
    settled(page, "Wanda 55%")
    own, plain = column(page, 0), column(page, 1)
    assert "own.txt" in own[3]
    assert "own.txt" not in plain[3]
    assert own[1] != plain[1]
    page.click("text=use the built-in text")
    page.click(".wl-more-button")
    page.click(".wl-col-1 .wl-remove")
    page.select_option("#wl-against", "magnitude")
    settled(page)


BAD_TEXTS = {
    "three words": (b"only three words", "257 are needed"),
    "empty": (b"", "is empty"),
    "binary": (bytes(range(256)), "UTF-8"),
}


@pytest.mark.parametrize("case", BAD_TEXTS)
def test_a_bad_calibration_text_is_answered_in_one_sentence(page, tmp_path, case):
    content, words = BAD_TEXTS[case]
    file = tmp_path / "bad.txt"
    file.write_bytes(content)
    if page.is_hidden("#wl-more"):
        page.click(".wl-more-button")
    page.set_input_files("#wl-text", str(file))
    if case == "three words":  # only the tokenizer can say so
        page.wait_for_function("() => document.querySelector('.wl-more').innerText.includes('bad.txt')")
        page.click("#prune")
    page.wait_for_function("words => document.querySelector('.wl-view').innerText.includes(words)", arg=words)
    settled(page)
    if page.is_visible("text=use the built-in text"):
        page.click("text=use the built-in text")
    page.click(".wl-more-button")


def test_a_token_tells_what_both_models_found_likeliest(page):
    page.fill("#wl-prompt", CAPITAL)
    let_go(page, 45)
    settled(page, "Wanda 45%")
    page.locator(".wl-col-0 .wl-token").nth(3).click()
    page.wait_for_function("() => document.querySelectorAll('.wl-likely li').length === 15")
    rows = page.locator(".wl-likely-0 li b").all_inner_texts()
    shares = [float(row.rstrip("%")) for row in rows]
    assert shares == sorted(shares, reverse=True)
    said = page.inner_text(".wl-why > p")
    assert f"{shares[0]:.1f}%" in said  # greedy: what came is what was likeliest
    page.focus(".wl-col-dense .wl-answer")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('.wl-why').innerText.includes('by Dense')")
    page.wait_for_selector(".wl-along")
    page.click(".wl-why > .wl-remove")
    assert page.is_hidden(".wl-why")


def test_the_curve_is_measured_stopped_and_gone_on_with(page, state, monkeypatch):
    monkeypatch.setattr(work, "EVAL_WINDOWS", 1)
    points = page.locator("circle.wl-point")

    def measure_until(count):
        page.click("#measure")
        page.wait_for_function("count => document.querySelectorAll('circle.wl-point').length >= count", arg=count)
        page.click("#measure")
        page.wait_for_function("() => document.getElementById('measure').textContent.startsWith('Measure the curve')")

    measure_until(points.count() + 2)
    known, kept = points.count(), len(state.measured)
    measure_until(known + 2)
    assert len(state.measured) - kept == points.count() - known  # what was measured is not measured again
    page.click("#curve-table summary")
    page.wait_for_selector("#curve-table tbody tr")
    cells = page.locator("#curve-table tbody tr").all_inner_texts()
    assert len(cells) >= 17
    assert any(re.match(r"80%.*measured here", cell) for cell in cells)  # the last place is looked at first
    page.click("#curve-table summary")


@pytest.mark.long
def test_ones_own_prompts_are_sorted_by_how_early_they_part(page):
    page.click("#own-prompts summary")
    page.fill("#wl-own", "What is 2 + 2?\n\nName a colour.\nWho wrote Hamlet?")
    page.click("#own-run")
    page.wait_for_function("() => document.querySelectorAll('#own-prompts tbody tr').length === 3")
    page.wait_for_function("() => /^\\d of 3 answers change/.test(document.querySelector('.wl-own-finding').innerText)")
    places = page.locator("#own-prompts tbody td:nth-child(2)").all_inner_texts()
    order = [int(place.split()[-1]) if place != "never" else 10**6 for place in places]
    assert order == sorted(order)
    page.click("#own-prompts summary")


@pytest.mark.parametrize("width", [1440, *(pytest.param(width, marks=pytest.mark.long) for width in (1000, 600, 400))])
def test_nothing_moves_below_the_finding_while_the_handle_does(browser, address, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(3 * MINUTE)
    page.goto(address)
    ready(page)
    page.wait_for_function("() => /[Ll]et(ting)? go/.test(document.getElementById('status').textContent)")
    page.wait_for_timeout(500)  # what the server says last stands
    page.focus(".wl-handle")
    page.keyboard.press("Home")
    tops = set()
    for _ in range(0, 80, 2):
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        tops.add(round(page.evaluate("() => scrollY + document.querySelector('.wl-svg').getBoundingClientRect().top")))
    page.close()
    assert len(tops) == 1


def test_nothing_moves_when_the_work_begins_and_its_bar_never_goes_back(page):
    top = "() => document.querySelector('.wl-svg').getBoundingClientRect().top"
    page.evaluate("scrollTo(0, 0)")
    before = page.evaluate(top)
    page.evaluate(WATCH_STATUS)
    let_go(page, 52)
    page.wait_for_selector("#cancel", state="visible")
    assert page.evaluate(top) == before
    settled(page, "Wanda 52%")
    words, widths = page.evaluate("() => [said.map(([words]) => words), said.map(([, width]) => parseFloat(width))]")
    assert any("pruning" in told for told in words)
    assert any("answering" in told for told in words)
    busy = widths[: next(i for i, told in enumerate(words) if i and "52%" not in told and "Dense" not in told)]
    assert busy == sorted(busy)


def test_an_answer_of_blanks_says_so_and_a_line_of_one_point_has_no_name(page):
    stored = page.evaluate("() => JSON.parse(document.getElementById('wl-data').textContent).replay.answers")
    blank = next((at for at in range(80, 0, -5) if not "".join(stored[f"magnitude@{at}"][0]["t"]).strip()), None)
    assert blank is not None
    page.fill("#wl-prompt", CAPITAL)
    page.focus(".wl-handle")
    page.keyboard.press("Home")
    for _ in range(blank // 10):
        page.keyboard.press("PageUp")
    for _ in range(blank % 10):
        page.keyboard.press("ArrowRight")
    assert "nothing but blanks" in column(page, 1)[3]
    assert "nothing but blanks" not in column(page, 0)[3]
    names = "() => Array.from(document.querySelectorAll('.wl-svg .wl-name'), name => name.textContent)"
    page.select_option("#wl-against", "random")
    assert "random" not in " ".join(page.evaluate(names)).lower()
    assert "Wanda" in page.evaluate(names)
    page.click(".wl-col-2 .wl-remove")
    if page.is_visible("#cancel"):
        page.click("#cancel")
    settled(page)


def test_an_answer_of_line_ends_does_not_push_all_else_away(page):
    page.evaluate(
        "() => { const answer = document.querySelector('.wl-col-0 .wl-answer'), more = document.createElement('span');"
        " more.id = 'many-lines'; more.textContent = '.\\n'.repeat(60); answer.append(more); }"
    )
    answer = page.locator(".wl-col-0 .wl-answer")
    assert answer.bounding_box()["height"] < 320
    assert answer.evaluate(
        "answer => answer.scrollHeight > 2 * answer.clientHeight"
    )  # the rest is reached by scrolling
    page.evaluate("() => document.getElementById('many-lines').remove()")


def test_the_page_raised_no_script_error(page):
    assert page.complaints == []
