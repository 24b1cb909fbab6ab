"""The main job as a person does it: the real built-in model, the real page, a real browser."""

import math

import pytest
from browser import MINUTE, figure, open_tab, wait_for
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.builtin]


def test_outliers_show_channel_507_before_anything_is_pruned(page):
    open_tab(page, "outliers", "outliers-lines")
    top, _, _, median, *_ = figure(page, "outliers-lines")
    assert len(top["y"]) == 30
    assert top["y"][11] > 10_000 > 1_000 > top["y"][10]
    assert 1 < median["y"][11] < 3
    (heat,) = figure(page, "outliers-heatmap")
    assert heat["x"][0] == "507"
    assert len(heat["x"]) == 64 + 4
    assert heat["z"][11][0] == max(max(row) for row in heat["z"])
    assert "507" in page.inner_text("#outliers-lines-text")
    cells = [cell for cell in page.inner_text("#outliers-table").split() if cell.replace(",", "").isdigit()]
    assert "507" in cells


def test_prune_with_the_defaults_reports_zeros_seconds_and_both_perplexities(page):
    page.click("#prune")
    page.wait_for_selector("#status .wl-progress")
    wait_for(page, "status", "zeros")
    status = page.inner_text("#status")
    assert "50.0% zeros" in status
    words = status.replace(",", "").split()
    dense, pruned = (float(words[words.index(which) + 1]) for which in ("dense", "pruned"))
    assert 25 < dense < 45
    assert 1.5 < pruned / dense < 3.5


def test_compare_streams_two_answers_and_marks_where_they_part(page):
    page.click("#tab-compare-button")
    page.fill("#prompt textarea", "Name three colours.")
    page.click("#compare")
    wait_for(page, "verdict", "part at")
    page.wait_for_function("() => !document.querySelector('.wl-cursor')")
    expect(page.locator("#dense-output mark")).to_have_count(1)
    expect(page.locator("#pruned-output mark")).to_have_count(1)
    dense, pruned = (page.inner_text(f"#{which}-output .wl-text") for which in ("dense", "pruned"))
    assert len(dense) > 20
    assert dense != pruned
    assert "Wanda 50%" in page.inner_text("#pruned-output")


def test_scores_show_every_block_and_half_of_each_matrix_cut(page):
    open_tab(page, "scores", "scores-heatmap")
    (heat,) = figure(page, "scores-heatmap")
    assert len(heat["z"]) == 30
    for row in heat["z"]:
        assert math.isclose(sum(row), 100, abs_tol=1.5)  # percent of a block's weights, zeros left out
    pruned, kept, zeros = figure(page, "scores-histogram")
    assert sum(pruned["y"]) + zeros["y"][0] == 576 * 288
    assert sum(kept["y"]) == 576 * 288
    mean = [sum(x * y for x, y in zip(t["x"], t["y"], strict=True)) / sum(t["y"]) for t in (pruned, kept)]
    assert mean[0] < mean[1] - 0.3  # what was cut scores lower, by more than a factor of two
    by_weight = figure(page, "magnitude-histogram")
    assert sum(by_weight[1]["y"]) == 576 * 288


def test_choosing_another_linear_redraws_it(page):
    open_tab(page, "scores", "scores-heatmap")
    page.click("#scores-kind input")
    page.get_by_role("option", name="mlp.down_proj").click()
    page.wait_for_function(
        "() => document.querySelector('#scores-histogram').closest('.gradio-container').innerText"
        ".includes('Scores of mlp.down_proj differ')"
    )
    _, kept, _ = figure(page, "scores-histogram")
    assert sum(kept["y"]) == 576 * 768


BAD_TEXTS = {
    "only three words": (b"only three words", "257 are needed"),
    "empty": (b"", "is empty"),
    "binary": (bytes(range(256)), "not UTF-8 text"),
}


@pytest.mark.parametrize("case", BAD_TEXTS)
def test_a_bad_calibration_text_is_answered_in_one_sentence(page, tmp_path, case):
    content, words = BAD_TEXTS[case]
    if not page.is_visible("#calibration-file"):
        page.click("#calibration button")
    file = tmp_path / f"{case.replace(' ', '-')}.txt"
    file.write_bytes(content)
    page.set_input_files("#calibration-file input", str(file))
    page.wait_for_selector(f"#calibration-file >> text={file.stem}")
    page.click("#prune")
    page.wait_for_selector(f"#status .wl-problem >> text={words}")
    assert len(page.inner_text("#status .wl-problem").splitlines()) == 1
    page.click("#calibration-file button[aria-label='Clear'], #calibration-file [aria-label='Remove this file']")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: "no-such-owner/no-such-model", "no-such-owner/no-such-model"),
        (lambda folder: str(folder), "no config.json"),
        (lambda folder: str(folder / "missing"), "does not exist"),
        (lambda folder: pickled(folder), "safetensors only"),
    ],
    ids=["unknown hub id", "folder without a model", "no folder", "pickle only"],
)
def test_a_bad_model_is_answered_in_one_sentence_and_the_built_in_one_comes_back(page, tmp_path, make, words):
    choose_model(page, make(tmp_path))
    page.wait_for_selector(f"#status .wl-problem >> text={words}")
    assert len(page.inner_text("#status .wl-problem").splitlines()) == 1
    choose_model(page, "builtin")
    wait_for(page, "status", "Ready")


def pickled(folder):
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    return str(folder)


def choose_model(page, name):
    page.fill("#model input", name)
    page.press("#model input", "Enter")
    page.press("#model input", "Tab")


def test_after_bad_input_nothing_is_lost(page):
    page.click("#prune")  # the variant made above is still there
    wait_for(page, "status", "zeros")
    page.click("#tab-compare-button")
    page.fill("#prompt textarea", "Name a river.")
    page.click("#compare")
    wait_for(page, "pruned-output", "Wanda 50%")
    page.wait_for_function("() => !document.querySelector('.wl-cursor')")


def test_cancel_stops_both_answers_where_they_are(page):
    page.fill("#length input[type=number]", "256")
    page.fill("#prompt textarea", "Tell me a long story.")
    page.click("#compare")
    page.wait_for_selector("#pruned-output .wl-cursor")
    page.click("#cancel")
    page.wait_for_function("() => !document.querySelector('.wl-cursor')")
    assert "Wanda 50%" in page.inner_text("#pruned-output")
    assert page.inner_text("#verdict") == ""
    page.fill("#length input[type=number]", "48")


def test_a_moved_slider_prunes_at_once_from_known_norms(page):
    box = page.locator("#sparsity input[type=range]").bounding_box()
    page.mouse.click(box["x"] + 0.63 * box["width"], box["y"] + box["height"] / 2)
    wait_for(page, "status", "one-shot")
    status = page.inner_text("#status")
    percent = page.input_value("#sparsity input[type=range]")
    assert 55 < float(percent) < 65
    assert f"Wanda {percent}%" in status
    page.fill("#sparsity input[type=range]", "50")
    page.click("#prune")
    wait_for(page, "status", "faithful")


def test_cancel_stops_a_pruning_and_says_that_nothing_changed(page):
    page.click("#pattern label:has-text('2:4')")
    page.click("#prune")
    page.wait_for_selector("#status .wl-progress")
    page.click("#cancel")
    page.wait_for_function("() => !document.querySelector('#status .wl-progress')")
    page.wait_for_timeout(1000)
    assert not page.locator("#status .wl-progress").count()
    assert "Wanda 50%" in page.inner_text("#status")


def test_a_second_visitor_is_greeted_too(browser, address):
    """The model is there and analysed before they come."""
    visitor = browser.new_page()
    visitor.goto(address)
    wait_for(visitor, "status", "Ready")
    visitor.wait_for_timeout(1500)
    assert "answers here" in visitor.inner_text("#dense-output")
    assert "Prune" in visitor.inner_text("#pruned-output")
    visitor.close()


def test_the_page_fits_a_phone(page):
    page.set_viewport_size({"width": 400, "height": 850})
    for name in ("compare", "scores", "outliers"):
        page.click(f"#tab-{name}-button")
        page.wait_for_timeout(800)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 400
    page.set_viewport_size({"width": 1440, "height": 1000})


def test_prune_pressed_before_the_tabs_are_filled_goes_first_and_is_shown(browser, address, state, page):
    page.close()  # one visitor at a time: what is looked at is the order of one visitor's jobs
    state.models["builtin"].analysis = None
    state.variants.clear()
    hasty = browser.new_page(viewport={"width": 1440, "height": 1000})
    hasty.set_default_timeout(3 * MINUTE)
    hasty.goto(address)
    wait_for(hasty, "status", "Ready")
    hasty.click("#method label:has-text('Magnitude')")
    hasty.click("#prune")
    hasty.wait_for_selector("#status .wl-progress")
    wait_for(hasty, "status", "zeros")
    open_tab(hasty, "scores", "scores-histogram")
    pruned, kept, zeros = figure(hasty, "scores-histogram")
    assert sum(pruned["y"]) + zeros["y"][0] > 0
    assert sum(kept["y"]) > 0
    hasty.close()


def test_the_page_raised_no_script_error(page):
    assert page.complaints == []
