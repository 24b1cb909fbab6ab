"""What a variant buys: counted against the pruned model itself, timed in turns, kept, and told as it is."""

import json

import pytest
from engine_room import READING, server
from view_alone import Alone
from view_events import CANCELLED, column, event, told, visitor

from wanda_core.progress import finish
from wanda_core.pruning.packed import laid_over
from wanda_core.recipe import PruneSpec
from wanda_ui.engine import buying
from wanda_ui.engine.buying import NEW, PROMPT, ROUNDS, bought_steps
from wanda_ui.engine.recipe import Recipe
from wanda_ui.language import words

HALF = Recipe(PruneSpec("magnitude", 0.5))
TOLD = {
    "parameters": [134515008, 134515008],
    "nonzero": [134515008, 81427008],
    "nbytes": [538060032, 538060032],
    "prefill": [300.0, 306.0],
    "decode": [20.0, 20.4],
}
SMALLER = {**TOLD, "parameters": [134515008, 118590720], "nbytes": [538060032, 474362880], "decode": [20.0, 22.4]}


@pytest.fixture
def state(tiny_llama):
    state = server(tiny_llama)
    yield state
    assert state.engine.settle()


@pytest.mark.parametrize("recipe", [HALF, Recipe(PruneSpec("wanda", pattern="2:4"), READING)], ids=["bits", "pattern"])
def test_weights_are_those_of_the_model_itself_and_zeros_change_no_size(state, tiny_llama, recipe):
    found = finish(bought_steps(state, "tiny", recipe))
    dense, own = found.footprints
    held = list(tiny_llama.model.parameters())
    assert dense.parameters == own.parameters == sum(p.numel() for p in held)
    assert dense.nbytes == own.nbytes == 4 * dense.parameters
    (variant,) = finish(state.made_steps("tiny", [recipe]))
    with laid_over(tiny_llama, variant) as pruned:
        assert own.nonzero == sum(int((p != 0).sum()) for p in pruned.model.parameters()) < dense.nonzero
    assert [(speed.prompt, speed.new, speed.rounds) for speed in found.speeds] == [(PROMPT, NEW, ROUNDS)] * 2
    assert all(speed.prefill > 0 and speed.decode > 0 for speed in found.speeds)


def test_what_was_measured_is_kept_with_the_model(state, monkeypatch):
    first = finish(bought_steps(state, "tiny", HALF))
    monkeypatch.setattr(buying, "footprint", lambda model: 1 / 0)
    assert finish(bought_steps(state, "tiny", HALF)) is first


def test_without_room_for_copies_sizes_are_told_and_no_speed(state, monkeypatch):
    whole = finish(bought_steps(state, "tiny", HALF))
    state.loaded("tiny").measurements.clear()
    monkeypatch.setattr(buying, "fits_a_copy", lambda lm: False)
    found = finish(bought_steps(state, "tiny", HALF))
    assert found.speeds is None
    assert found.footprints == whole.footprints


def test_the_view_is_told_progress_then_the_numbers(view):
    updates = view.buys(visitor(), event(column(method="magnitude")))
    messages = told(view, updates, "bought")
    assert [message["ended"] for message in messages] == [False] * (len(messages) - 1) + [True]
    last = messages[-1]
    assert (last["run"], last["model"], last["key"], last["at"]) == (1, "tiny", "recipe 0", 50)
    assert any(message.get("progress") for message in messages)
    assert set(last["bought"]) == {"parameters", "nonzero", "nbytes", "prefill", "decode"}
    assert last["bought"]["parameters"][0] == last["bought"]["parameters"][1]
    assert last["bought"]["nonzero"][1] < last["bought"]["nonzero"][0]
    json.dumps(last)


def test_two_recipes_are_refused_and_cancel_is_told(view):
    (last,) = told(view, view.buys(visitor(), event(column(), column(1))), "bought")
    assert last["ended"]
    assert "one recipe at a time" in last["problem"]
    updates = view.buys(visitor(), event(column(method="magnitude", at=61)))
    first = next(updates)
    view.cancel_buys.press(visitor())
    messages = told(view, [first, *updates], "bought")
    assert messages[-1]["done"] == CANCELLED
    assert "bought" not in messages[-1]


def cells(page):
    return page.locator("#buys tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.children].map(cell => cell.textContent))"
    )


@pytest.mark.browser
@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_card_says_nothing_where_nothing_is_won(browser, language):
    said = {name.removeprefix("view.buys."): text for name, text in words(language).items() if "view.buys." in name}
    view = Alone(browser, language=language)
    page = view.page
    assert page.locator("#buys table").count() == 0
    page.locator("#buys-measure").click()
    (data,) = [data for name, data in page.evaluate("calls") if name == "buys"]
    assert (data["model"], [recipe["key"] for recipe in data["recipes"]], data["run"]) == ("builtin", ["wanda"], 1)
    message = {"run": 1, "model": "builtin", "key": "wanda", "at": data["recipes"][0]["at"]}
    page.evaluate("heard.bought", {**message, "progress": {"words": "half way", "percent": 50}, "ended": False})
    assert page.locator("#buys-said").inner_text() == "half way"
    page.locator("#buys-measure").click()
    assert ["cancel_buys", {}] in page.evaluate("calls")
    page.evaluate("heard.bought", {**message, "bought": TOLD, "ended": True})
    title = page.locator("#buys thead th").nth(2).inner_text()
    assert page.locator("#buys-said").inner_text() == said["nothing"].format(title=title)
    table = cells(page)
    assert [row[3] for row in table[:5]] == [said["none"], said["not_stored"], *[said["none"]] * 3]
    assert table[0][1:3] == ["134.5 M", "134.5 M"]
    assert table[1][1:3] == ["134.5 M", "81.4 M"]
    assert table[5][0] == said["perplexity"]
    assert page.locator("#buys .wl-won").count() == 0

    page.evaluate("heard.bought", {**message, "run": 7, "bought": SMALLER, "ended": True})  # of no run of ours
    assert cells(page) == table
    page.locator("#buys-measure").click()
    page.evaluate("heard.bought", {**message, "run": 2, "bought": SMALLER, "ended": True})
    table = cells(page)
    assert [table[place][3] for place in (0, 2, 3, 4)] == ["−12%", "−12%", said["none"], "+12%"]
    assert page.locator("#buys-said").inner_text() == said["both"].format(title=title, smaller="12%", faster="12%")
    assert page.locator("#buys .wl-won").count() == 3

    page.locator("#wl-at").fill("20")
    page.locator("#wl-at").press("Enter")
    assert page.locator("#buys table").is_hidden()
    assert "20%" in page.locator("#buys-said").inner_text()
    page.locator("#buys-measure").click()
    page.evaluate("heard.bought", {**message, "run": 3, "at": 20, "problem": "no such luck", "ended": True})
    assert page.locator("#buys-said").inner_text() == "no such luck"
    assert not view.complaints
    view.context.close()
