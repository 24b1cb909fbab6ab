"""What the view asks and the server refuses, or never hears of: it is said, and nothing waits for it."""

import json
from contextlib import nullcontext
from datetime import datetime

import pytest
from browser import MINUTE, ready, settled, wait_for
from view_alone import Alone

pytestmark = [pytest.mark.browser, pytest.mark.builtin, pytest.mark.usefixtures("three_blocks", "few_windows")]

FULL = "Too much is asked of this server; wait a minute."
SCRIPTS = "**/assets/*.js"  # of Gradio, without which no server hears the view
JOIN = "**/gradio_api/queue/join*"


def refuse(route):
    route.fulfill(status=429, content_type="application/json", body=json.dumps({"detail": FULL, "error": FULL}))


ENDS = {
    "refused": (refuse, FULL),
    "an error of a proxy": (lambda route: route.fulfill(status=502, body="<html>Bad gateway"), "does not answer"),
    "unreachable": (lambda route: route.abort(), "The server does not answer"),
}

AT_ITS_MIDDLE = """id => {
    const [element, box] = [document.getElementById(id), document.getElementById(id).getBoundingClientRect()];
    return element.contains(document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2));
}"""


@pytest.mark.parametrize("how", [pytest.param(how, marks=() if how == "refused" else pytest.mark.long) for how in ENDS])
def test_a_run_that_does_not_begin_is_said_and_can_be_asked_again(page, how):
    answer, words = ENDS[how]
    with page.expect_navigation() if how == "unreachable" else nullcontext():  # the page's client loads it again
        page.route(JOIN, answer)
        page.click("#prune")
        wait_for(page, "status", words)
        settled(page)
        if how != "unreachable":
            page.wait_for_selector(".toast-body")
            assert page.evaluate(AT_ITS_MIDDLE, "prune")  # no message lies over it
        page.unroute(JOIN)
    ready(page)
    page.click("#prune")
    page.wait_for_function("words => !document.getElementById('status').textContent.includes(words)", arg=words)
    settled(page)
    page.wait_for_selector("#buys-measure:enabled")


@pytest.mark.parametrize(
    ("press", "where"),
    [
        (["#measure"], "status"),
        (["#buys-measure"], "buys-said"),
        (["#nav-scores", "#compare-masks"], "figure-masks"),
    ],
)
def test_other_long_work_ends_where_it_is_asked_for(page, press, where):
    *before, button = press
    for each in before:
        page.click(each)
    page.route(JOIN, refuse)
    words, *_ = page.inner_text(button).split(" · ")  # behind which it may be told anew how long it takes
    page.click(button)
    wait_for(page, where, FULL)
    assert page.inner_text(button).startswith(words)
    page.unroute(JOIN)
    page.click("#nav-compare")


def test_a_model_that_is_refused_is_said(page):
    page.route(JOIN, refuse)
    page.select_option("#wl-model", "\0another")
    page.fill(".wl-typed", "someone/something")
    page.press(".wl-typed", "Enter")
    wait_for(page, "status", FULL)
    page.unroute(JOIN)
    assert page.complaints == []


def test_a_page_whose_first_request_is_refused_works_afterwards(browser, address):
    visitor = browser.new_page()
    visitor.set_default_timeout(3 * MINUTE)
    visitor.route(JOIN, refuse)
    visitor.goto(address)
    wait_for(visitor, "status", FULL)
    visitor.unroute(JOIN)
    visitor.click("#prune")
    settled(visitor, "Wanda 45%")
    ready(visitor)
    visitor.close()


def test_prune_pressed_before_the_page_has_a_server_is_not_lost(browser, address):
    visitor = browser.new_page()
    visitor.set_default_timeout(3 * MINUTE)
    visitor.route(SCRIPTS, lambda route: None)
    visitor.goto(address, wait_until="commit")
    visitor.click("#prune")
    wait_for(visitor, "status", "Getting ready; it prunes then.")
    visitor.unroute(SCRIPTS)  # which lets go what is held
    visitor.wait_for_function("() => document.getElementById('status').textContent.includes('zeros')")
    settled(visitor, "Wanda 45%")
    visitor.close()


def test_a_link_to_a_model_that_is_not_there_leaves_a_page_that_works(browser, address):
    visitor = browser.new_page()
    visitor.set_default_timeout(3 * MINUTE)
    visitor.goto(f"{address}?model=/nowhere/at/all")
    wait_for(visitor, "status", "does not exist")
    visitor.click("#prune")
    settled(visitor, "Wanda 45%")
    ready(visitor)
    visitor.wait_for_selector("#buys-measure:enabled")
    visitor.close()


def test_a_page_whose_model_was_refused_asks_again_later_and_later_by_itself(browser):
    view = Alone(browser, title=None)
    view.page.clock.install(time=datetime(2026, 1, 1))
    view.page.clock.pause_at(datetime(2026, 1, 2))  # no second passes but those below
    for seconds in (10, 20, 40, 80):
        before = len(view.calls("open"))
        view.hear("opened", model="builtin", problem=FULL)
        assert FULL in view.page.inner_text("#status")
        view.page.clock.run_for(1000 * seconds - 100)
        assert len(view.calls("open")) == before
        view.page.clock.run_for(200)
        assert view.calls("open")[before:] == [{"model": "builtin", "kind": "opened"}]
    before = len(view.calls("open"))
    view.hear("opened", model="builtin", ready=True, title="SmolLM2", chip="SmolLM2 · CPU float32")
    view.page.clock.run_for(1000)
    assert FULL not in view.page.inner_text("#status")
    assert view.page.is_enabled("#buys-measure")
    view.page.clock.run_for(600_000)
    assert len(view.calls("open")) == before
    view.close()


GONE = """async (progress) => {
    const [plain, watchers, heard] = [window.fetch, {}, []];
    window.fetch = async (address) => {
        if (address.includes("app_id")) throw new TypeError("gone");
        return new Response("{}");
    };
    const host = WandaLab.reaching({
        watch: (kind, call) => { watchers[kind] = call; },
        sweep: (data) => window.fetch("/gradio_api/queue/join", { body: JSON.stringify({ event_data: data }) }),
    });
    host.watch("sweep", (message) => heard.push(message));
    await host.sweep({ run: 1, model: "m" });
    watchers.sweep(progress);
    for (const _ of [1, 2]) await window.fetch("/gradio_api/app_id").catch(() => null);
    window.fetch = plain;
    return heard;
}"""


def test_a_server_that_goes_away_while_it_works_is_said_once(page):
    under_way = {"run": 1, "progress": {"percent": 10}, "ended": False}
    first, *others = page.evaluate(GONE, under_way)
    assert first == under_way
    assert [(other["run"], other["ended"], other["problem"][:26]) for other in others] == [
        (1, True, "The server does not answer")
    ]


def test_what_has_ended_before_the_server_goes_away_stays_as_it_is(page):
    ended = {"run": 1, "ended": True, "points": {}}
    assert page.evaluate(GONE, ended) == [ended]
