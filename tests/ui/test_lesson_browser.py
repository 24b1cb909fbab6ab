"""The lesson as a learner does it: eight steps in a real browser, the numbers shown against the engine's."""

import base64
import csv
import io

import pytest
from browser import MINUTE, figure, wait_for, wait_for_address
from playwright.sync_api import expect

from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.evaluation.perplexity import perplexity
from wanda_core.explain.mask_comparison import protection
from wanda_core.explain.toy_example import choose, example_inputs, example_matrix, two_weights
from wanda_core.outliers.ablation import Ablation, ablated
from wanda_core.outliers.sentence import read_sentence
from wanda_core.outliers.sinks import sink_report
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec
from wanda_core.text.files import read_text
from wanda_ui.lesson.consequences import COST_WINDOWS, SEQ_LEN, SPARSITY
from wanda_ui.lesson.plan import SENTENCE, STEPS
from wanda_ui.markup import number

pytestmark = [pytest.mark.browser, pytest.mark.builtin]


@pytest.fixture(scope="module")
def loaded(state, page):
    """The page's own model, analysed."""
    from wanda_core.progress import finish

    return finish(state.open_steps("builtin"))


@pytest.fixture(scope="module")
def learner(page, address, loaded):
    """The visitor, at the first question."""
    page.goto(f"{address}?lesson=1")
    page.wait_for_selector("#lesson-1-see", state="visible")
    return page


def guess(page, step, name):
    page.check(f"#lesson-{step}-guess input[value={name}]")


def see(page, step):
    """Press See; -> finding and explanation."""
    shown = [f"#lesson-{step}-finding .wl-finding", f"#lesson-{step}-explanation .wl-explained"]
    page.evaluate("shown => document.querySelectorAll(shown).forEach(part => part.remove())", ", ".join(shown))
    page.click(f"#lesson-{step}-see")
    for part in shown:
        page.wait_for_selector(part)
    return page.inner_text(f"#lesson-{step}-finding"), page.inner_text(f"#lesson-{step}-explanation")


def onward(page, step):
    page.click(f"#lesson-{step}-next")
    page.wait_for_selector(f"#lesson-{step + 1}-see", state="visible")


def test_step_1_asks_for_a_guess_first_and_then_answers_at_every_slider(learner):
    learner.click("#lesson-1-see")
    learner.wait_for_selector("#lesson-1-status .wl-problem")
    guess(learner, 1, "first")
    finding, explanation = see(learner, 1)
    example = two_weights(0.5, 2, 40, 1)
    assert all(f"{error:.1f}" in finding for error in example.errors)
    assert "You guessed “w₁”; the numbers say “w₂”" in explanation
    left, right = figure(learner, "lesson-1-picture")
    assert left["y"] == [0.5, 2]
    assert right["y"] == list(example.errors)
    learner.fill("#lesson-1-x1 input[type=number]", "1")
    learner.press("#lesson-1-x1 input[type=number]", "Tab")
    wait_for(learner, "lesson-1-explanation", "Your guess fits")
    wait_for_address(learner, "x1=1&")
    wait_for_address(learner, "guess=first")


def test_step_2_shows_the_four_ways(learner):
    onward(learner, 1)
    guess(learner, 2, "wanda_row")
    finding, explanation = see(learner, 2)
    W, X = example_matrix(), example_inputs(8.0)
    assert f"{choose(W, X, 'wanda', 'row').mean_share:.0%}" in finding
    assert f"{choose(W, X, 'magnitude', 'matrix').mean_share:.0%}" in finding
    assert "Your guess fits" in explanation
    expect(learner.locator("#lesson-2-picture .wl-matrix")).to_have_count(4)
    expect(learner.locator("#lesson-2-picture .wl-cut")).to_have_count(4 * 12)


def test_step_3_meets_the_outlier_of_this_model(learner, loaded):
    onward(learner, 2)
    guess(learner, 3, "thousand")
    finding, _ = see(learner, 3)
    hidden = read_sentence(loaded.lm, SENTENCE).hidden
    assert "Channel 507" in finding
    (line,) = figure(learner, "lesson-3-picture")
    assert max(line["y"]) == pytest.approx(float(hidden[11, :, 507].abs().max()), rel=1e-3)
    assert line["x"][line["y"].index(max(line["y"]))] == 507


def test_step_4_finds_the_same_channels_in_the_readers_own_sentence(learner):
    onward(learner, 3)
    learner.fill("#lesson-4-s textarea", "Emoji 🙂🚀 and שלום עולם, then مرحبا.")
    guess(learner, 4, "others")
    finding, explanation = see(learner, 4)
    assert finding.split()[0] in {"1", "2", "3"}
    assert "507" in explanation
    assert len(figure(learner, "lesson-4-picture")) == 2


def test_step_5_shows_the_sink_beside_its_cause(learner, loaded):
    onward(learner, 4)
    guess(learner, 5, "most")
    finding, explanation = see(learner, 5)
    report = sink_report(read_sentence(loaded.lm, SENTENCE))
    assert f"{float(report.per_block.max()):.0%}" in finding
    assert f"{report.correlation:.2f}" in explanation
    attention, _, size = figure(learner, "lesson-5-picture")
    assert attention["y"] == pytest.approx((100 * report.per_block).tolist(), abs=0.1)
    assert size["y"][12] > 10_000


def test_step_6_switches_the_outlier_off_and_leaves_the_model_as_it_was(learner, loaded):
    onward(learner, 5)
    guess(learner, 6, "none")
    learner.fill("#lesson-6-channel input, #lesson-6-channel textarea", "576")
    learner.click("#lesson-6-see")
    learner.wait_for_selector("#lesson-6-status .wl-problem >> text=channels 0 to 575")
    learner.fill("#lesson-6-channel input, #lesson-6-channel textarea", "")
    learner.click("#lesson-6-see")
    learner.wait_for_selector("#lesson-6-status .wl-progress")
    wait_for(learner, "lesson-6-finding", "Without channel 507")
    wait_for(learner, "lesson-6-explanation", "the outlier ruins it")
    (bars,) = figure(learner, "lesson-6-picture")
    text, settings = read_text(BUILTIN_EVALUATION), {"seq_len": SEQ_LEN, "windows": 2}
    with ablated(loaded.lm, Ablation((507,))):
        assert bars["x"][-1] == pytest.approx(perplexity(loaded.lm, text, **settings).perplexity, rel=1e-3)
    assert bars["x"][0] == pytest.approx(perplexity(loaded.lm, text, **settings).perplexity, rel=1e-3)
    assert len(bars["x"]) == 7


def test_cancel_in_step_6_has_the_last_word_and_keeps_what_was_found(learner):
    finding = learner.inner_text("#lesson-6-finding")
    learner.click("#lesson-6-see")
    learner.wait_for_selector("#lesson-6-status .wl-progress")
    learner.click("#lesson-6-cancel")
    learner.wait_for_selector("#lesson-6-status .wl-empty >> text=Cancelled")
    learner.wait_for_timeout(700)
    assert "Cancelled" in learner.inner_text("#lesson-6-status")
    assert learner.inner_text("#lesson-6-finding") == finding


def test_step_7_finds_where_the_masks_part(learner, loaded):
    onward(learner, 6)
    guess(learner, 7, "large")
    finding, explanation = see(learner, 7)
    linear = loaded.lm.linears[15][0]
    protected = protection(linear.weight, loaded.analysis.profile.norms[linear.name], 0.5)
    assert f"{protected.parting.top:.0%}" in finding
    assert f"{protected.parting.overall:.0%}" in finding
    assert "Your guess fits" in explanation
    magnitude, wanda = figure(learner, "lesson-7-picture")
    assert wanda["y"] == pytest.approx((100 * protected.bins.wanda).tolist(), abs=0.01)
    assert magnitude["y"][-1] > wanda["y"][-1]


def test_step_8_measures_both_methods_and_keeps_nothing(learner, loaded, state):
    onward(learner, 7)
    guess(learner, 8, "many")
    before = state.variants.keys
    learner.click("#lesson-8-see")
    learner.wait_for_selector("#lesson-8-status .wl-progress")
    wait_for(learner, "lesson-8-finding", "At 50% zeros")
    finding = learner.inner_text("#lesson-8-finding")
    spec = PruneSpec(method="wanda", sparsity=SPARSITY, order="one-shot")
    variant = prune(loaded.lm, spec, profile=loaded.analysis.profile)
    settings = {"seq_len": SEQ_LEN, "windows": COST_WINDOWS}
    text = read_text(BUILTIN_EVALUATION)
    assert f"Wanda {number(perplexity(variant.lm, text, **settings).perplexity)}" in finding
    assert f"dense {number(perplexity(loaded.lm, text, **settings).perplexity)}" in finding
    expect(learner.locator("#lesson-8-table tbody tr")).to_have_count(7)
    assert state.variants.keys == before


def test_the_whole_run_can_be_taken_away(browser, learner):
    wait_for(learner, "lesson-run", "8 of 8")
    content = {}
    for name in ("csv", "page"):
        _, _, data = learner.get_attribute(f"#lesson-{name}", "href").partition("base64,")
        content[name] = base64.b64decode(data).decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(content["csv"])))
    assert {row["step"] for row in rows} == {str(step) for step in range(1, 9)}
    assert any(row["quantity"] == "channel" and row["value"] == "507" for row in rows)
    paper = browser.new_page()
    paper.set_content(content["page"])
    paper.emulate_media(media="print")
    paper.set_viewport_size({"width": 703, "height": 1032})  # A4 at 96 dots an inch, less its margins
    assert paper.evaluate("() => document.documentElement.scrollHeight") <= 1032
    paper.close()


def test_free_play_goes_to_the_tab_where_it_can_be_explored(learner):
    learner.click("#lesson-8-free")
    learner.wait_for_selector("#wl-prompt", state="visible")
    wait_for_address(learner, "lesson=", there=False)
    learner.click("#nav-learn")
    learner.wait_for_selector("#lesson-8-see", state="visible")


@pytest.mark.parametrize(
    ("text", "words"), [("", "no text yet"), ("a" * 50_000, "50,000 characters"), ("🙂" * 500, "tokens and")]
)
def test_a_bad_sentence_is_answered_in_a_sentence(learner, address, text, words):
    learner.goto(f"{address}?lesson=3&guess=ten")
    learner.wait_for_selector("#lesson-3-see", state="visible")
    wait_until_checked(learner, 3, "ten")
    learner.fill("#lesson-3-s textarea", text)
    learner.click("#lesson-3-see")
    learner.wait_for_selector(f"#lesson-3-status .wl-problem >> text={words}")
    assert len(learner.inner_text("#lesson-3-status .wl-problem").splitlines()) == 1


def wait_until_checked(page, step, name):
    page.wait_for_selector(f"#lesson-{step}-guess input[value={name}]:checked", state="attached")


def test_an_address_opens_a_step_with_its_state_and_without_the_rest_of_the_page(browser, address, page):
    visitor = browser.new_page(viewport={"width": 400, "height": 850}, locale="ko-KR")
    visitor.set_default_timeout(2 * MINUTE)
    visitor.goto(f"{address}?lesson=6&guess=one&channel=12&hide=header,tabs")
    visitor.wait_for_selector("#lesson-6-see", state="visible")
    wait_until_checked(visitor, 6, "one")
    expect(visitor.locator("#lesson-6-channel input, #lesson-6-channel textarea")).to_have_value("12")
    for hidden in ("#prune", "#wl-model-chip", "#nav-compare"):
        assert not visitor.is_visible(hidden)
    wait_for(visitor, "lesson-6", "하나 끄기")
    assert visitor.evaluate("() => document.documentElement.scrollWidth") <= 400
    visitor.click("#lesson-6-free")
    visitor.wait_for_selector("#nav-compare", state="visible")
    visitor.close()


def test_in_korean_every_step_asks_and_answers_in_korean(learner, address):
    learner.goto(f"{address}?lang=ko&lesson=1")
    for step, plan in enumerate(STEPS, 1):
        learner.wait_for_selector(f"#lesson-{step}-see", state="visible")
        if plan.name in ("two", "matrix", "meet", "change", "sinks", "masks"):
            guess(learner, step, plan.guesses[0])
            shown = " ".join(see(learner, step))
            assert any("가" <= letter <= "힣" for letter in shown)
        assert "__i18n__" not in learner.inner_text("#lesson")
        assert "lesson." not in learner.inner_text("#lesson")
        if step < len(STEPS):
            onward(learner, step)
    learner.click("#lesson-8-see")
    learner.wait_for_selector("#lesson-8-status .wl-problem >> text=예상")


def test_the_lesson_raised_no_script_error(learner):
    assert learner.complaints == []
