"""What the gate refuses, as a person sees it: a message on the page, in its language, and the page works on."""

from urllib.parse import urlsplit

import pytest
from browser import MINUTE, ready, settled, wait_for

from wanda_core.progress import finish
from wanda_ui.app_state import AppState, Loaded
from wanda_ui.gate import uploads

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


def test_why_a_file_is_not_taken_is_read_on_the_page(visitor, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    file = tmp_path / "text.txt"
    file.write_text("The sky is blue. " * 100)
    visitor.click(".wl-more-button")
    with monkeypatch.context() as patch:
        patch.setattr(uploads, "_write", full)
        visitor.set_input_files("#wl-text", file)
        wait_for(visitor, "status", "The disk that this server keeps uploads on is full; send the file again")
    visitor.route("**/gradio_api/upload*", lambda route: route.fulfill(status=502, body="<h1>Bad Gateway</h1>"))
    visitor.set_input_files("#wl-text", [])
    visitor.set_input_files("#wl-text", file)
    wait_for(visitor, "status", "The file did not arrive; choose it again.")  # a proxy's page is no sentence


def test_the_page_works_under_its_policy_and_another_site_cannot_show_it(browser, address):
    page = browser.new_page()
    page.set_default_timeout(MINUTE)
    said = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.goto(f"{address}?lang=en")
    ready(page)
    for name in ("scores", "outliers", "learn", "compare"):
        page.click(f"#nav-{name}")
    assert not [text for text in said if "Security Policy" in text or "Refused" in text or "X-Frame" in text]
    page.goto(f"{address}wanda/elsewhere")  # a page of this site may
    page.set_content(f"<iframe src='{address}class'></iframe>")
    page.frame_locator("iframe").locator("#wl-sheet").wait_for(state="attached")
    port = urlsplit(address).port
    page.goto(f"http://localhost:{port}/wanda/elsewhere")  # and one of another may not
    with page.expect_console_message(lambda message: "frame-ancestors" in message.text):
        page.set_content(f"<iframe src='{address}?model=owner/model'></iframe>")
    assert not page.frame_locator("iframe").locator("#wl-stage").count()
    page.close()
