"""A checkpoint taken away: pruned first where it is not made, saved by the browser, or pushed to the hub."""

import pytest
from view_alone import said, whole_view

pytestmark = pytest.mark.browser

ZIP = {"address": "wanda/checkpoint/t1/SmolLM2-wanda-45.zip", "name": "SmolLM2-wanda-45.zip", "bytes": 269_000_123}
SECRET = "hf_secret0123456789"


@pytest.fixture
def view(whole):
    return whole


def panel(view):
    return view.page.inner_text("#take-panel")


def look_ends(view, **more):
    """The server has looked at what the page asked for last."""
    run = view.calls("look")[-1]["run"]
    view.hear("run", run=run, columns={}, ended=True, **more)


def test_a_made_variant_is_saved_at_once_in_the_format_that_is_chosen(browser):
    view = whole_view(browser, {"checkpoint": ZIP})
    view.page.click("#take-checkpoint")
    view.page.wait_for_selector("#take-download:visible")
    assert "bfloat16 · 269 MB, as stored" in panel(view)
    assert view.page.is_checked("input[name=take-dtype][value=bfloat16]")
    view.page.check("input[name=take-dtype][value=float32]", force=True)
    assert "538 MB" in view.page.inner_text("#take-checkpoint")
    with view.page.expect_download() as taken:  # what a server sends is tried in test_download_browser.py
        view.page.click("#take-download")
    assert taken.value.suggested_filename == ZIP["name"]
    assert taken.value.url.endswith(ZIP["address"])
    (given,) = view.asks("checkpoint")
    assert (given["dtype"], given["recipe"]["key"], given["model"]) == ("float32", "wanda", "builtin")
    said(view, "269 MB")
    assert view.calls("look") == []
    view.close()


def test_what_is_not_made_is_pruned_first(browser):
    made = []
    view = whole_view(browser, {"checkpoint": lambda given: ZIP if made else {"missing": True}})
    page = view.page
    page.click("#take-checkpoint")
    page.wait_for_selector("#take-download:visible")
    assert page.inner_text("#take-download") == "Prune and download"
    page.click("#take-download")
    said(view, "pruned first")
    assert page.is_disabled("#take-download")
    made.append(1)
    with page.expect_download() as taken:
        look_ends(view)
    assert taken.value.suggested_filename == ZIP["name"]
    page.wait_for_function("() => !document.getElementById('take-download').disabled")
    assert len(view.calls("look")) == 1
    view.close()


def test_a_pruning_that_fails_or_is_cancelled_is_said(browser):
    view = whole_view(browser, {"checkpoint": {"missing": True}})
    page = view.page
    page.click("#take-checkpoint")
    page.click("#take-download")
    said(view, "pruned first")
    look_ends(view, problem="The text is too short; choose a longer one")
    said(view, "too short")
    page.click("#take-download")
    said(view, "pruned first")
    look_ends(view, done="Cancelled; what was measured before stays.")
    said(view, "is not pruned")
    view.answers["checkpoint"] = {"status": 400, "detail": "The disk is full; free some space"}
    page.click("#take-download")
    said(view, "The disk is full")
    assert "wl-problem-words" in page.get_attribute("#take-said", "class")
    view.close()


def push(view, repository="somebody/model-wanda-45", token=SECRET):
    page = view.page
    if page.is_hidden("#take-panel"):
        page.click("#take-checkpoint")
    if page.is_hidden("#take-repository"):
        page.click("#take-hub summary")
    page.fill("#take-repository", repository)
    page.fill("#take-token", token)
    page.click("#take-push")


def test_a_push_is_private_says_how_far_it_is_and_where_it_went(view):
    page = view.page
    push(view, "no owner")
    assert view.calls("push") == []  # the field says what is wrong with it
    push(view)
    (sent,) = view.calls("push")
    assert sent["repository"] == "somebody/model-wanda-45"
    assert sent["private"] is True
    assert sent["token"] == SECRET
    assert sent["recipe"]["key"] == "wanda"
    assert sent["dtype"] == "bfloat16"
    assert page.input_value("#take-token") == ""  # it is sent once
    assert page.get_attribute("#take-token", "type") == "password"
    assert page.get_attribute("#take-token", "autocomplete") == "off"
    assert SECRET not in page.content()
    assert page.is_disabled("#take-push")
    view.hear("pushed", run=sent["run"], progress={"words": "uploading · 120 of 269 MB", "percent": 45})
    assert "120 of 269 MB" in page.inner_text("#take-push-said")
    assert page.evaluate("() => document.querySelector('.wl-push-bar i').style.width") == "45%"
    view.hear("pushed", run=sent["run"] - 1, ended=True, problem="of another")
    assert page.is_disabled("#take-push")
    address = "https://huggingface.co/somebody/model-wanda-45"
    view.hear("pushed", run=sent["run"], ended=True, url=address, done="Pushed for you alone to see.")
    assert page.inner_text("#take-push-said").startswith("Pushed for you alone to see.")
    assert page.get_attribute("#take-push-said a", "href") == address
    assert page.get_attribute("#take-push-said a", "rel") == "noopener noreferrer"
    assert page.is_enabled("#take-push")


def test_a_push_is_cancelled_and_a_failed_one_says_why(view):
    page = view.page
    page.click("#take-checkpoint")
    page.click("#take-hub summary")
    page.check("input[name=take-visibility][value=public]", force=True)
    push(view, token="")
    page.click("#take-push-cancel")
    assert len(view.calls("cancel_push")) == 1
    (sent,) = view.calls("push")
    assert (sent["private"], sent["token"]) == (False, "")
    view.hear("pushed", run=sent["run"], ended=True, done="Cancelled; nothing was left on the hub.")
    assert "nothing was left" in page.inner_text("#take-push-said")
    assert page.is_hidden("#take-push-cancel")
    push(view)
    view.hear("pushed", run=sent["run"] + 1, ended=True, problem="The token may not write; give one that may")
    assert page.inner_text("#take-push-said").startswith("The token may not write")
    push(view)
    view.hear("pushed", run=sent["run"] + 2, ended=True, url="javascript:alert(1)")
    assert page.is_hidden("#take-push-said a")
