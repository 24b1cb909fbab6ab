"""What the gate refuses, as a person sees it: a message on the page, in its language, and the page works on."""

import pytest
from browser import MINUTE, ready, settled, wait_for

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


@pytest.fixture
def visitor(browser, address):
    page = browser.new_page()
    page.set_default_timeout(MINUTE)
    page.goto(f"{address}?lang=en")
    ready(page)
    yield page
    page.close()


def test_a_refused_value_is_marked_where_it_stands_and_a_right_one_is_taken_after_it(visitor):
    visitor.click(".wl-asking summary")
    visitor.fill("#wl-answer-seed", "1.5")
    visitor.press("#wl-answer-seed", "Tab")
    assert not visitor.evaluate("() => document.getElementById('wl-answer-seed').checkValidity()")
    visitor.fill("#wl-answer-seed", "7")
    visitor.fill("#wl-answer-length", "8")
    visitor.press("#wl-answer-length", "Tab")
    visitor.click("#ask")
    settled(visitor)
    assert visitor.locator(".wl-col-dense .wl-token").count() == 8


def test_what_a_changed_page_sends_is_answered_in_a_sentence(visitor):
    """The page itself cannot send it: its fields are changed by hand."""
    visitor.click(".wl-asking summary")
    visitor.evaluate(
        "() => { const field = document.getElementById('wl-answer-length');"
        " field.max = 10 ** 9; field.value = 99999; field.dispatchEvent(new Event('change')); }"
    )
    visitor.click("#ask")
    wait_for(visitor, "status", "max_new_tokens 99999")
    settled(visitor)
    assert len(visitor.inner_text("#status").splitlines()) == 1


def test_a_file_that_is_too_large_is_refused_with_words(visitor, tmp_path):
    file = tmp_path / "large.txt"
    file.write_bytes(b"word " * 2_000_000)
    visitor.click(".wl-more-button")
    visitor.set_input_files("#wl-text", file)
    wait_for(visitor, "status", "8.0 MB are read")
