"""What stands in the address, tabs and their figures, models that cannot be loaded, a phone: in a real browser."""

from urllib.parse import quote

import pytest
from browser import MINUTE, column, let_go, ready, settled, wait_for, wait_for_address, zeros

from benchmarks.memory import prune_and_compare

pytestmark = [pytest.mark.browser, pytest.mark.builtin, pytest.mark.usefixtures("three_blocks", "few_windows")]


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
def test_a_model_that_cannot_be_loaded_leaves_everything_as_it_was(page, tmp_path, make, words):
    before = (
        page.inner_text("#wl-model-chip"),
        page.inner_text("#finding"),
        [column(page, which) for which in ("dense", 0, 1)],
    )
    page.select_option("#wl-model", "\0another")
    page.fill(".wl-typed", make(tmp_path))
    page.press(".wl-typed", "Enter")
    wait_for(page, "status", words)
    page.wait_for_function("() => document.getElementById('wl-model').value === 'builtin'")  # it says so while it opens
    assert (
        page.inner_text("#wl-model-chip"),
        page.inner_text("#finding"),
        [column(page, which) for which in ("dense", 0, 1)],
    ) == before
    assert words in page.inner_text("#status")
    assert "0% ·" not in page.inner_text("body")


def pickled(folder):
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    return str(folder)


def test_the_address_holds_the_state_and_opens_it_again(browser, address, page):
    page.select_option("#wl-method", "ria")
    let_go(page, 30)
    settled(page, "RIA 30%")
    wait_for_address(page, "r=ria")
    visitor = browser.new_page()
    visitor.goto(page.url)
    ready(visitor)
    assert column(visitor, 0)[0] == "RIA 30%"
    assert visitor.input_value("#wl-method") == "ria"
    visitor.close()
    page.select_option("#wl-method", "wanda")


@pytest.mark.parametrize(
    "query",
    [
        "r=nothing",
        "at=1e9",
        "tab=%3Cscript%3E",
        *(
            pytest.param(query, marks=pytest.mark.long)
            for query in ("r=wanda,order=never", "at=-3", "r=wanda,pattern=9:4")
        ),
        pytest.param("ask=" + "x" * 5000, marks=pytest.mark.long),
    ],
)
def test_an_address_from_anybody_is_passed_over(browser, address, query):
    visitor = browser.new_page()
    complaints = []
    visitor.on("pageerror", lambda error: complaints.append(str(error)))
    visitor.goto(f"{address}?{query}")
    ready(visitor)
    assert column(visitor, 0)[0] == "Wanda 45%"
    name, given = query.split("=", 1)
    if name in ("r", "at"):  # what was asked for and is not shown
        assert visitor.inner_text("#status").startswith(f"The link says {name}={given}, which is no recipe or share")
    assert complaints == []
    visitor.close()


@pytest.mark.long
def test_a_page_prunes_whatever_stands_in_its_address(browser, address):
    """What its scripts ask has the page's address behind it: two recipes, a prompt in another alphabet, words twice."""
    visitor = browser.new_page()
    visitor.set_default_timeout(3 * MINUTE)
    prompt = "하늘은 왜 파란가요? " * 8
    visitor.goto(f"{address}?lang=en&lang=en&r=ria&r=magnitude,pattern%3D2:4&at=50&ask={quote(prompt)}")
    ready(visitor)
    assert visitor.input_value("#wl-prompt") == prompt
    visitor.click("#prune")
    settled(visitor, "RIA 50%")
    assert zeros(column(visitor, 0)[3]) == pytest.approx(50, abs=0.2)
    visitor.fill("#wl-prompt", prompt * 7)
    wait_for_address(visitor, "ask=", there=False)  # too long for a link
    visitor.click("#ask")
    settled(visitor, "RIA 50%")
    assert visitor.locator(".wl-col-0:not(.wl-old) .wl-token").count()
    visitor.close()


def test_tabs_are_in_the_browsers_history(page):
    for name in ("scores", "outliers", "learn"):
        page.click(f"#nav-{name}")
        wait_for_address(page, f"tab={name}")
        page.wait_for_selector(f"#tab-{name}", state="visible")
    for name in ("outliers", "scores"):
        page.go_back()
        page.wait_for_selector(f"#tab-{name}", state="visible")
        assert page.get_attribute(f"#nav-{name}", "aria-selected") == "true"
    page.go_back()
    page.wait_for_selector("#view .wl-svg", state="visible")
    assert "lesson=" not in page.url
    page.go_forward()
    page.wait_for_selector("#tab-scores", state="visible")
    page.go_back()
    page.wait_for_selector("#view .wl-svg", state="visible")


def test_a_tabs_figures_are_sent_once(browser, address):
    visitor = browser.new_page(viewport={"width": 1440, "height": 1000})
    visitor.goto(address)
    ready(visitor)
    visitor.click("#nav-outliers")
    visitor.wait_for_selector("#outliers-lines .main-svg", state="visible")
    visitor.wait_for_timeout(1500)
    mark = "document.querySelector('#outliers-lines .js-plotly-plot').seen"  # another payload makes another element
    visitor.evaluate(f"() => {{ {mark} = true; }}")
    visitor.click("#nav-compare")
    visitor.click("#nav-outliers")
    visitor.wait_for_timeout(2500)
    assert visitor.evaluate(f"() => {mark}") is True
    # Its colour bar and clip paths are named within the page: by an address they would be lost with the next one.
    named = "[...document.querySelectorAll('#outliers-heatmap :is([clip-path], [style*=\"url(\"])')]"
    named = visitor.evaluate(f"() => {named}.map(part => part.getAttribute('clip-path') || part.getAttribute('style'))")
    assert any("fill" in each for each in named)
    assert [each for each in named if "http" in each] == []
    visitor.close()


@pytest.mark.long
def test_what_is_measured_of_the_apps_memory_is_a_prune_and_the_answers_of_both(browser, address):
    visitor = browser.new_page()
    prune_and_compare(visitor, address)
    assert "zeros" in column(visitor, 0)[3]
    for which in ("dense", 0):
        assert visitor.locator(f".wl-col-{which}:not(.wl-old) .wl-token").count()
    visitor.close()


@pytest.mark.long
def test_measured_before_is_said_when_nothing_was_run(page):
    let_go(page, 45)
    settled(page, "Wanda 45%")
    let_go(page, 50)
    settled(page, "Wanda 50%")
    let_go(page, 45)
    settled(page, "Wanda 45%")
    assert "as measured before" in column(page, 0)[3]


def test_the_page_fits_a_phone_and_folds_its_strip(browser, address):
    phone = browser.new_page(viewport={"width": 400, "height": 850}, has_touch=True)
    phone.goto(address)
    ready(phone)
    assert phone.is_hidden("#wl-method")
    fold = phone.locator(".wl-fold")
    assert "Wanda" in fold.inner_text()
    fold.click()
    assert phone.is_visible("#wl-method")
    for name in ("compare", "scores", "outliers", "learn"):
        phone.click(f"#nav-{name}")
        phone.wait_for_timeout(600)
        assert phone.evaluate("() => document.documentElement.scrollWidth") <= 400, name
    phone.close()


def test_the_page_raised_no_script_error(page):
    assert page.complaints == []


def test_a_model_that_another_site_names_is_opened_by_a_press_alone(browser, address):
    visitor = browser.new_page()
    visitor.set_default_timeout(3 * MINUTE)
    visitor.goto(
        address.replace("127.0.0.1", "localhost") + "wanda/elsewhere"
    )  # a page of another site, whatever it is
    visitor.evaluate("to => { location.href = to; }", f"{address}?model=no-such-owner/no-such-model&r=ria")
    visitor.wait_for_selector("#offered")
    assert "offer=no-such-owner" in visitor.url
    assert "names the model no-such-owner/no-such-model" in visitor.inner_text("#status")
    ready(visitor)
    assert visitor.input_value("#wl-method") == "ria"
    asked = []
    visitor.on("request", lambda request: asked.append(request.post_data or "") if "/join" in request.url else None)
    fast = "() => { for (let n = 0; n < 9; n++) document.getElementById('offered').click();"
    fast += " return document.getElementById('offered-sure').disabled; }"
    assert visitor.evaluate(fast)  # however often one place is pressed, nothing is opened
    before = [visitor.locator(f"#offered{name}").bounding_box() for name in ("", "-sure")]
    assert (
        before[0]["x"] + before[0]["width"] <= before[1]["x"] or before[0]["y"] + before[0]["height"] <= before[1]["y"]
    )
    assert not [told for told in asked if "no-such-owner" in told]
    visitor.click("#offered-sure")
    wait_for(visitor, "status", "no-such-owner/no-such-model")
    assert not visitor.is_visible("#offered")
    wait_for_address(visitor, "r=ria")
    assert "offer=" not in visitor.url
    visitor.close()
