"""Take it with you: what is offered, in every state, by mouse, by keys and by touch, in both languages."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from view_alone import ATTACH, MODEL, Alone, take_answer, whole_view

from wanda_ui.language import words

pytestmark = pytest.mark.browser


@pytest.fixture
def view(whole):
    return whole


def test_it_is_asked_when_it_comes_into_sight_and_says_the_size_before(browser):
    view = Alone(browser, {"take": take_answer}, attached=False)
    assert view.page.is_hidden("#take-checkpoint")  # without a server there is none
    view.page.evaluate(ATTACH, MODEL)
    view.page.wait_for_timeout(300)
    assert view.asked == []  # it is not in sight
    view.page.locator("#take-away").scroll_into_view_if_needed()
    view.page.wait_for_function("() => document.getElementById('take-checkpoint').innerText.includes('269 MB')")
    (asked,) = view.asks("take")
    assert asked["model"] == "builtin"
    assert [recipe["key"] for recipe in asked["recipes"]] == ["wanda", "magnitude"]
    assert asked["ask"]["prompt"]
    for offered in ("report", "run", "points", "open"):
        assert view.page.is_visible(f"#take-{offered}"), offered
    assert view.page.locator("#view .wl-primary:visible").count() == 1
    view.close()


def test_command_and_python_are_those_of_the_recipe_that_is_chosen(view):
    page = view.page
    page.click("#take-command")
    page.wait_for_selector("#take-code-command:visible")
    assert page.inner_text("#take-code-command code").startswith("wanda-lab prune --method wanda --sparsity 0.45")
    page.select_option("#take-recipe", label="Magnitude 45%")
    assert "--method magnitude" in page.inner_text("#take-code-command code")
    page.click("#take-python")
    assert page.is_hidden("#take-code-command")
    assert "PruneSpec('magnitude', 0.45)" in page.inner_text("#take-code-python code")
    assert page.get_attribute("#take-python", "aria-expanded") == "true"
    page.click("#take-python")
    assert page.is_hidden("#take-panel")


def test_code_is_copied_and_selected_where_the_clipboard_is_shut(view):
    page = view.page
    view.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#take-command")
    page.click("#take-code-command-copy")
    page.wait_for_function("() => document.getElementById('take-code-command-copy').textContent === 'Copied'")
    assert page.evaluate("() => navigator.clipboard.readText()") == page.inner_text("#take-code-command code")
    page.evaluate("() => { navigator.clipboard.writeText = async () => { throw new Error('shut'); }; }")
    page.click("#take-code-command-copy")
    page.wait_for_function("() => document.getElementById('take-code-command-copy').textContent.startsWith('Selected')")
    assert page.evaluate("() => String(getSelection())") == page.inner_text("#take-code-command code")


def test_changed_recipes_are_asked_anew_and_what_is_old_is_grey(view):
    page = view.page
    page.click("#take-command")
    page.wait_for_selector("#take-code-command:visible")
    before = len(view.asks("take"))
    page.focus(".wl-handle")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert "wl-stale" in page.get_attribute("#take-panel", "class")
    page.wait_for_function("() => document.querySelector('#take-code-command code').textContent.includes('0.5 ')")
    assert "wl-stale" not in page.get_attribute("#take-panel", "class")
    assert len(view.asks("take")) == before + 1  # once, when it rests


def test_while_the_model_is_read_it_says_so_and_asks_again(browser):
    ready = []
    view = whole_view(browser, {"take": lambda given: take_answer(given) if ready else {"wait": True}})
    view.page.click("#take-checkpoint")
    view.page.wait_for_function("() => document.getElementById('take-wait').textContent.includes('being read')")
    assert view.page.is_hidden("#take-download")
    ready.append(1)
    view.page.wait_for_selector("#take-download:visible")
    view.close()


def test_what_goes_wrong_is_a_sentence(browser):
    view = whole_view(browser, {"take": {"status": 400, "detail": "The recipe is none; choose another"}})
    view.page.click("#take-command")
    view.page.wait_for_function("() => document.getElementById('take-wait').textContent.startsWith('The recipe')")
    view.answers["take"] = take_answer
    view.page.click("#take-command")
    view.page.click("#take-command")
    view.page.wait_for_selector("#take-code-command:visible")
    view.close()
    silent = whole_view(browser, {"take": {"status": 500}})
    silent.page.click("#take-command")
    silent.page.wait_for_selector("#take-wait.wl-problem-words")
    assert silent.page.inner_text("#take-wait").strip()
    silent.close()


def without_command(given, **checkpoint):
    """An answer for recipes that options cannot say."""
    answer = take_answer(given, **checkpoint)
    return {**answer, "recipes": [{**recipe, "command": ""} for recipe in answer["recipes"]]}


def test_python_stands_for_a_command_that_cannot_be(browser):
    view = whole_view(browser, {"take": without_command})
    view.page.evaluate("() => document.getElementById('take-command').click()")  # it goes when the answer is there
    view.page.wait_for_selector("#take-code-python:visible")
    assert view.page.is_hidden("#take-command")
    assert view.page.is_hidden("#take-code-command")
    assert view.page.get_attribute("#take-python", "aria-expanded") == "true"
    view.answers["take"] = lambda given: without_command(given, offered=False, why="It is public:")
    view.page.fill("#wl-at", "50")
    view.page.press("#wl-at", "Enter")
    view.page.click("#take-checkpoint")
    view.page.wait_for_selector("#take-instead:visible")
    assert view.page.inner_text("#take-instead code").startswith("import wanda_core")
    view.close()


def test_on_a_public_server_the_command_stands_in_its_place(browser):
    why = "This page is public and hands no checkpoints over; the command makes the same one."
    view = whole_view(browser, {"take": lambda given: take_answer(given, offered=False, why=why)})
    view.page.click("#take-checkpoint")
    view.page.wait_for_selector("#take-why:visible")
    assert view.page.inner_text("#take-why") == why
    assert view.page.inner_text("#take-instead code").startswith("wanda-lab prune")
    assert view.page.is_hidden("#take-download")
    assert view.page.is_hidden("#take-hub")
    assert "MB" not in view.page.inner_text("#take-checkpoint")
    view.close()


def test_all_of_it_is_done_by_keys(view):
    page = view.page
    view.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.focus("#take-checkpoint")
    page.keyboard.press("Enter")
    page.wait_for_selector("#take-download:visible")
    order = ["take-command", "take-python", "take-report", "take-run", "take-points", "take-open"]
    for name in order:
        page.keyboard.press("Tab")
        assert page.evaluate("() => document.activeElement.id") == name
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.name") == "take-dtype"
    page.keyboard.press("ArrowRight")
    assert page.is_checked("input[name=take-dtype][value=float16]")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.id") == "take-download"
    page.focus("#take-command")
    page.keyboard.press("Space")
    page.wait_for_selector("#take-code-command:visible")
    page.focus("#take-code-command-copy")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.getElementById('take-code-command-copy').textContent === 'Copied'")


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_axe_finds_nothing_serious_in_any_state(browser, theme):
    why = "This page is public; the command makes the same checkpoint."
    takes = [take_answer, lambda given: take_answer(given, offered=False, why=why), {"wait": True}]
    for take in takes:
        view = whole_view(browser, {"take": take}, query=f"&__theme={theme}")
        for name in ("command", "checkpoint"):
            view.page.click(f"#take-{name}")
            view.page.wait_for_timeout(300)
            if view.page.is_visible("#take-hub"):
                view.page.click("#take-hub summary")
                view.page.fill("#take-repository", "somebody/model")
                view.page.click("#take-push")
            found = Axe().run(view.page).response["violations"]
            grave = [rule for rule in found if rule["impact"] in ("serious", "critical")]
            assert not grave, [(rule["id"], rule["nodes"][0]["html"][:200]) for rule in grave]
        view.close()


def test_it_speaks_korean(browser):
    view = whole_view(browser, language="ko")
    page = view.page
    told = words("ko")
    assert page.inner_text("#take-title") == told["view.away.title"]
    page.click("#take-checkpoint")
    page.wait_for_selector("#take-download:visible")
    page.click("#take-hub summary")
    shown = page.inner_text("#take-away")
    for english in ("Take", "Prune", "Download", "Push", "stored", "Token", "private"):
        assert english not in shown
    for name in ("prune_download", "hub", "token_help", "private"):
        assert told[f"view.away.{name}"] in shown
    assert view.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    view.close()


def test_on_a_phone_nothing_is_wider_than_the_page(browser):
    view = whole_view(browser, viewport={"width": 400, "height": 800}, has_touch=True, is_mobile=True)
    for name in ("checkpoint", "command", "python"):
        view.page.click(f"#take-{name}")
        view.page.wait_for_timeout(100)
        if name == "checkpoint":
            view.page.click("#take-hub summary")
        assert view.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    heights = view.page.evaluate(
        "() => Array.from(document.querySelectorAll('#take-away :is(button, select, summary)'))"
        ".filter(each => each.checkVisibility()).map(each => each.getBoundingClientRect().height)"
    )
    assert min(heights) >= 44
    view.close()
