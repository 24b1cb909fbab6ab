"""For everyone: axe-core on every tab in light and dark, names and order of headings, the page in Korean."""

from itertools import pairwise

import pytest
from browser import MINUTE, grave, ready

pytestmark = [pytest.mark.browser, pytest.mark.builtin]

TABS = {
    "compare": "#view .wl-svg",
    "scores": "#scores-view .wl-plane",
    "outliers": "#outliers-lines .main-svg",
    "learn": "#lesson-1-see",
}


@pytest.fixture(scope="module", params=["light", "dark"])
def visitor(request, browser, address):
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(2 * MINUTE)
    page.goto(f"{address}?__theme={request.param}")
    ready(page)
    yield page
    page.close()


@pytest.mark.parametrize("tab", TABS)
def test_axe_finds_nothing_serious_or_critical(visitor, tab):
    visitor.click(f"#nav-{tab}")
    visitor.wait_for_selector(TABS[tab], state="visible")
    visitor.wait_for_timeout(800)
    if tab == "compare":  # with all that unfolds
        visitor.evaluate(
            "() => { for (const part of document.querySelectorAll('.wl-view details')) part.open = true;"
            " document.getElementById('wl-more').hidden = false; }"
        )
        visitor.locator(".wl-col-0 .wl-token").first.click()
        visitor.wait_for_selector(".wl-why:not([hidden])")
    assert grave(visitor) == []


@pytest.mark.parametrize("tab", TABS)
def test_headings_go_down_one_level_at_a_time_and_figures_have_names(visitor, tab):
    visitor.click(f"#nav-{tab}")
    visitor.wait_for_selector(TABS[tab], state="visible")
    levels = visitor.evaluate(
        "() => Array.from(document.querySelectorAll('h1, h2, h3, h4'))"
        ".filter(e => e.checkVisibility() && e.innerText.trim()).map(e => Number(e.tagName[1]))"
    )
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels)), levels
    nameless = visitor.evaluate(
        "() => Array.from(document.querySelectorAll('.js-plotly-plot'))"
        ".filter(e => e.checkVisibility() && !e.closest('[aria-label]')).length"
    )
    assert nameless == 0


def test_the_korean_page_speaks_korean(browser, address):
    page = browser.new_page()
    page.goto(f"{address}?lang=ko")
    ready(page)
    assert page.get_attribute("html", "lang") == "ko"
    assert page.inner_text("#prune") == "가지치기"
    assert "퍼플렉시티" in page.inner_text("#finding")
    words = page.inner_text(".wl-view")
    for english in ("Perplexity", "weights", "Drag", "token"):
        assert english not in words
    page.click("#language-switch")
    page.wait_for_function("() => document.documentElement.lang === 'en'")
    page.close()


def test_what_moves_stands_still_for_those_who_ask(browser, address):
    page = browser.new_page(reduced_motion="reduce")
    page.goto(address)
    ready(page)
    moving = page.evaluate(
        "() => Array.from(document.querySelectorAll('.wl-view *'), e => getComputedStyle(e))"
        ".filter(e => e.animationName !== 'none' || parseFloat(e.transitionDuration) > 0).length"
    )
    assert moving == 0
    page.close()


def test_a_dark_page_is_printed_on_white(visitor):
    visitor.click("#nav-outliers")
    visitor.evaluate(
        "() => { window.darkOf = {};"
        "for (const name of ['beforeprint', 'afterprint'])"
        "  addEventListener(name, () => { darkOf[name] = document.body.classList.contains('dark') }, { once: true }) }"
    )
    dark = visitor.evaluate("() => document.body.classList.contains('dark')")
    assert visitor.pdf()
    assert visitor.evaluate("() => darkOf") == {"beforeprint": False, "afterprint": dark}
