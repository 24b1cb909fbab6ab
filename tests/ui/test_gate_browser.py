"""What the gate refuses, as a person sees it: a message on the page, in its language, and the page works on."""

import pytest
from browser import MINUTE, wait_for

from wanda_core.progress import finish
from wanda_ui.app_state import AppState, Loaded

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def state(tiny_llama):
    """A state whose built-in model is tiny and analysed."""
    state = AppState()
    state.models["builtin"] = Loaded(tiny_llama)
    finish(state.open_steps("builtin"))
    return state


@pytest.mark.parametrize(
    ("language", "ready", "sentence"),
    [
        ("en", "Ready", "Seed was given 1.5 and takes whole numbers only; type one, such as 16."),
        ("ko", "준비됐어요", "‘시드’에 1.5이(가) 왔지만 정수만 받습니다. 16처럼 정수를 입력하세요."),
    ],
)
def test_a_refused_value_shows_its_sentence_and_a_right_one_is_taken_after_it(
    browser, address, language, ready, sentence
):
    page = browser.new_page()
    page.set_default_timeout(MINUTE)
    try:
        page.goto(f"{address}?lang={language}")
        wait_for(page, "status", ready)
        page.fill("#answer-seed input", "1.5")
        page.click("#compare")
        toast = page.wait_for_selector("[data-testid=toast-text]")
        assert toast.inner_text() == sentence
        page.fill("#answer-seed input", "7")
        page.fill("#length input[type=number]", "8")
        page.click("#compare")
        page.wait_for_selector("#dense-output .wl-text")
    finally:
        page.close()


def test_a_file_that_is_too_large_is_refused_with_words(browser, address, tmp_path):
    page = browser.new_page()
    page.set_default_timeout(MINUTE)
    file = tmp_path / "large.txt"
    file.write_bytes(b"word " * 2_000_000)
    try:
        page.goto(f"{address}?lang=en")
        wait_for(page, "status", "Ready")
        page.click("#calibration > button")
        page.set_input_files("#calibration-file input[type=file]", file)
        assert "maximum allowed size" in page.wait_for_selector("[data-testid=toast-text]").inner_text()
    finally:
        page.close()
