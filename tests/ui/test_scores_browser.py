"""Scores in a real browser: true to the engine's tensors, quick, by mouse, by keys, and before any model is read."""

import re
import time

import pytest
from browser import MINUTE, ready, wait_for

from wanda_core.explain.asking import ask_weight
from wanda_core.explain.masked_linear import Choice, MaskedLinear
from wanda_core.pruning.one_linear import removed_of
from wanda_core.recipe import PruneSpec

pytestmark = [pytest.mark.browser, pytest.mark.builtin, pytest.mark.usefixtures("three_blocks", "few_windows")]

SECONDS = {"idle": 0.3, "busy": 1.0}  # within which a tile or an answer is promised
SLACK = 3.0  # slower machines, shared by others
LIVE = "() => document.querySelector('.wl-view-scores > .wl-source').textContent.startsWith('Live')"
# Frames a second while single weights are dragged across the canvas.
DRAG = """async () => {
    const canvas = document.querySelectorAll('.wl-matrix')[1], box = canvas.getBoundingClientRect();
    const at = (type, x, y) => canvas.dispatchEvent(new PointerEvent(type, {
        clientX: box.left + x, clientY: box.top + y, pointerId: 1, bubbles: true }));
    canvas.setPointerCapture = () => {};
    at('pointerdown', 300, 150);
    const began = performance.now();
    for (let i = 0; i < 60; i += 1) {
        at('pointermove', 300 - 4 * i, 150 - 2 * i);
        await new Promise(requestAnimationFrame);
    }
    at('pointercancel', 0, 0);
    return 60000 / (performance.now() - began);
}"""


@pytest.fixture(scope="module")
def scores(browser, address, state):
    """One visitor on the tab, whose figures are live."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(3 * MINUTE)
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(f"{address}?tab=scores")
    ready(page)
    page.wait_for_function(LIVE)
    settled(page)
    return page


def settled(page):
    """Wait until nothing is asked any more."""
    page.wait_for_timeout(300)  # a changed place is asked for after a moment
    page.wait_for_function(
        "() => !document.querySelector('.wl-view-scores:is([aria-busy=true], .wl-stale), .wl-figure.wl-stale')"
    )


def masked(state, kind="mlp.up_proj", block=2, share=0.45):
    """The linear that is looked at, from the engine alone."""
    loaded = state.models["builtin"]
    linear = next(linear for linear in loaded.lm.of_kind(kind) if linear.block == block)
    profile = loaded.analysis.profile
    specs = [PruneSpec("wanda", share, order="one-shot"), PruneSpec("magnitude", share)]
    choices = tuple(Choice(spec, removed_of(linear, spec, share, profile)) for spec in specs)
    return MaskedLinear(linear.weight, profile.norms[linear.name], choices)


def short3(value):
    """A number as the page writes it, to three digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{float(f'{value:.3g}'):g}"


def ask(page, row, column):
    page.fill("#ask-row", str(row))
    page.fill("#ask-column", str(column))
    page.press("#ask-column", "Enter")
    wait_for(page, "ask-words", f"row {row}, column {column} is")
    return page.inner_text("#ask-words")


def test_before_any_model_is_read_every_figure_stands(browser, address):
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.route("**/wanda/scores", lambda route: route.abort())
    page.goto(f"{address}?tab=scores", wait_until="commit")
    page.wait_for_selector("#figure-plane .wl-cell", state="visible")
    assert "They disagree on 5.8%" in page.inner_text("#scores-finding")
    for figure in ("plane", "blocks", "by-score", "by-size", "masks"):
        assert page.locator(f"#figure-{figure} svg").count() == 1, figure
    page.wait_for_function(
        "() => Array.from(document.querySelectorAll('.wl-matrix')).every(canvas => canvas.getContext('2d')"
        ".getImageData(0, 0, canvas.width, canvas.height).data.some(value => value))"
    )
    assert "Wanda keeps it, magnitude does not" in page.inner_text("#ask-weight h3")
    assert "column 247" in page.inner_text("#ask-words")
    page.close()


def test_the_finding_and_the_titles_are_those_of_the_tensors(scores, state):
    scores.select_option("#scores-block", "2")
    settled(scores)
    linear = masked(state)
    wanda, magnitude = (choice.removed for choice in linear.choices)
    loud = linear.order.flip(0)[: round(0.1 * len(linear.order))]
    differ = 100 * float((wanda != magnitude).float().mean())
    kept = [100 * (1 - float(mask[:, loud].float().mean())) for mask in (wanda, magnitude)]
    said = scores.inner_text("#scores-finding")
    assert said == (
        f"They disagree on {differ:.1f}% of these weights. Of those that read the loudest tenth of the inputs, "
        f"Wanda keeps {kept[0]:.0f}%, magnitude {kept[1]:.0f}%."
    )
    assert "Wanda slants" in scores.inner_text("#figure-plane h3")
    flat = linear.W.abs().flatten()
    swapped = flat[wanda.flatten()] > flat.kthvalue(int(wanda.sum())).values
    assert f"{100 * float(swapped.float().mean()):.1f}%" in scores.inner_text("#figure-by-size h3")


@pytest.mark.parametrize("place", [(0, 0), (17, 100), (1535, 575)])
def test_a_weight_says_what_the_engine_says(scores, state, place):
    told = ask_weight(masked(state), *place)
    said = ask(scores, *place)
    assert f"is {short3(told.value)}:".replace("-", "−") in said
    assert f"{told.by_size:,}" in said
    assert f"‖X‖ = {short3(told.norm)}" in said
    assert f"|W|·‖X‖ = {short3(told.score)}" in said
    for by, fate, unit in zip(("Wanda", "Magnitude"), told.fates, ("scores", "sizes"), strict=True):
        word = "removes" if fate.removed else "keeps"
        assert f"{by} {word} it: " in said
        assert f"{unit} up to {short3(fate.cut)} go" in said
    own = f"weight={place[0]}%2C{place[1]}"
    assert own in wait_for_url(scores, own)  # another weight's may still stand there


def wait_for_url(page, part):
    page.wait_for_function("part => location.href.includes(part)", arg=part)
    page.wait_for_timeout(500)
    return page.url


def test_the_next_disagreement_is_one(scores, state):
    linear = masked(state)
    ask(scores, 5, 5)
    for _ in range(3):
        before = scores.inner_text("#ask-words")
        scores.click("#ask-next")
        scores.wait_for_function("text => document.getElementById('ask-words').innerText !== text", arg=before)
        row, column = map(int, re.findall(r"row (\d+), column (\d+)", scores.inner_text("#ask-words"))[0])
        first, second = (bool(choice.removed[row, column]) for choice in linear.choices)
        assert first != second
        assert "does not" in scores.inner_text("#ask-weight h3")


def test_a_place_of_the_plane_a_block_and_a_cell_are_chosen_with_the_mouse(scores):
    before = scores.inner_text("#ask-words")
    scores.click("#figure-plane svg", position={"x": 150, "y": 80})
    scores.wait_for_function("text => document.getElementById('ask-words').innerText !== text", arg=before)
    scores.click("#figure-blocks svg", position={"x": 200, "y": 30})
    scores.wait_for_function("() => document.getElementById('scores-block').value === '0'")
    settled(scores)
    assert "block 0" in scores.inner_text("#figure-plane p")
    before = scores.inner_text("#ask-words")
    scores.locator(".wl-matrix").nth(1).click(position={"x": 100, "y": 100})
    scores.wait_for_function("text => document.getElementById('ask-words').innerText !== text", arg=before)
    scores.select_option("#scores-block", "2")
    settled(scores)


def test_single_weights_are_moved_zoomed_and_asked_by_keys(scores):
    ask(scores, 3, 3)
    scores.locator(".wl-matrix").nth(1).focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowLeft", "Enter"):
        scores.keyboard.press(key)
    wait_for(scores, "ask-words", "row 5, ")
    before = scores.locator(".wl-weights section").nth(1).locator("p").first.inner_text()
    scores.keyboard.press("-")
    scores.wait_for_function(
        "text => document.querySelectorAll('.wl-weights section')[1].querySelector('p').innerText !== text", arg=before
    )
    scores.keyboard.press("Home")
    scores.keyboard.press("+")


def test_a_drag_of_single_weights_keeps_thirty_frames_a_second(scores):
    scores.locator(".wl-matrix").nth(1).scroll_into_view_if_needed()
    frames = max(scores.evaluate(DRAG) for _ in range(3))
    print(f"frames a second while dragged: {frames:.0f} (at least 30)")
    assert frames >= 30


def timed(page, question):
    """Seconds that a question of the page takes."""
    return page.evaluate(
        """async question => {
            const began = performance.now();
            const reply = await fetch(new URL('wanda/scores', document.baseURI), { method: 'POST',
                headers: { 'content-type': 'application/json' }, body: JSON.stringify(question) });
            await reply.json();
            return reply.ok ? (performance.now() - began) / 1000 : 1e9;
        }""",
        question,
    )


def questions(page):
    """The last question of the page, as one for tiles and one for a weight."""
    with page.expect_request("**/wanda/scores") as asked:
        page.click("#ask-telling")
    given = asked.value.post_data_json
    tiles = {"what": "tiles", "level": 1, "places": [[0, 1]], "sorted": True}
    return [{**given, **tiles}, {**given, "what": "weight", "row": 7, "column": 9, "how": None}]


@pytest.mark.alone
def test_tiles_and_answers_come_at_once_also_while_somebody_prunes(scores, state):
    asked = questions(scores)
    for question in asked:
        seconds = sorted(timed(scores, question) for _ in range(5))[2]
        print(f"{question['what']} on an idle engine: {seconds:.3f} s (within {SECONDS['idle']})")
        assert seconds <= SLACK * SECONDS["idle"]
    scores.click("#compare-masks")  # prunes both recipes first, and then goes through all weights
    times = []
    while scores.inner_text("#compare-masks") == "Stop" and len(times) < 40:
        times.append(timed(scores, asked[len(times) % 2]))
        time.sleep(0.05)
    scores.wait_for_function("() => document.getElementById('compare-masks').innerText !== 'Stop'")
    if times:
        print(f"while somebody prunes: {max(times):.3f} s at most of {len(times)} (within {SECONDS['busy']})")
        assert max(times) <= SLACK * SECONDS["busy"]


def test_masks_of_the_page_are_compared_in_the_whole_model(scores, state):
    if "Stored" in scores.inner_text("#figure-masks p"):
        scores.click("#compare-masks")
    scores.wait_for_function("() => !document.querySelector('#figure-masks > p').innerText.startsWith('Stored')")
    scores.wait_for_function("() => document.getElementById('compare-masks').innerText !== 'Stop'")
    loaded = state.models["builtin"]
    differ = total = 0
    for linear in loaded.lm.all_linears:
        wanda, magnitude = (choice.removed for choice in masked(state, linear.kind, linear.block).choices)
        differ, total = differ + int((wanda != magnitude).sum()), total + wanda.numel()
    assert f"disagree on {100 * differ / total:.1f}% of the weights" in scores.inner_text("#figure-masks h3")


def test_the_handle_moves_all_figures_and_the_one_of_compare(scores, state):
    scores.locator("#scores-at").fill("60")
    settled(scores)
    linear = masked(state, share=0.6)
    wanda, magnitude = (choice.removed for choice in linear.choices)
    wait_for(scores, "scores-finding", f"{100 * float((wanda != magnitude).float().mean()):.1f}%")
    scores.click("#nav-compare")
    assert scores.get_attribute(".wl-handle", "aria-valuenow") == "60"
    scores.click("#nav-scores")


def test_a_recipe_that_is_not_made_yet_is_named(browser, address):
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(3 * MINUTE)
    page.goto(f"{address}?tab=scores&r=wanda,order=faithful")
    wait_for(page, "scores-note", "Wanda 45% is not pruned yet")
    page.close()


def test_a_figure_is_taken_away_as_csv(scores, state):
    with scores.expect_download() as taken:
        scores.click("#figure-by-score [data-kind=csv]")
    rows = taken.value.path().read_text(encoding="utf-8").splitlines()
    assert taken.value.suggested_filename == "smollm2-135m-instruct-histogram-score-mlp.up_proj-2-wanda-60.csv"
    assert rows[0] == "from,to,kept,removed"
    assert sum(int(row.split(",")[3]) for row in rows[1:]) == int(masked(state, share=0.6).choices[0].removed.sum())


def test_where_a_token_was_asked_the_models_are_told_apart_along_the_answer(scores):
    scores.click("#nav-compare")
    scores.locator(".wl-col-1 .wl-token").first.click()
    scores.wait_for_selector(".wl-along")
    assert scores.locator(".wl-likely").count() == 3
    assert "KL" in scores.inner_text(".wl-along-box")
    scores.click("#nav-scores")


def test_nothing_raised_a_script_error(scores):
    assert scores.complaints == []
