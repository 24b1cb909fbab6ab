"""A gated model in the view: where its licence is accepted, and the token with which it opens, which stays nowhere."""

import pytest

pytestmark = pytest.mark.browser

GATED = {"model": "owner/gated", "problem": "owner/gated is gated on the hub; accept its licence"}
LICENCE = "https://huggingface.co/owner/gated"
SECRET = "hf_secret0123456789"


@pytest.fixture
def view(whole):
    return whole


def test_it_says_where_the_licence_is_and_opens_with_a_token(view):
    page = view.page
    assert page.is_hidden("#gated")
    view.hear("opened", **GATED, gated=LICENCE)
    assert GATED["problem"] in page.inner_text("#status")
    link = page.locator("#gated a")
    assert (link.get_attribute("href"), link.get_attribute("rel")) == (LICENCE, "noopener noreferrer")
    assert "owner/gated" in link.inner_text()
    assert (page.get_attribute("#gated-token", "type"), page.get_attribute("#gated-token", "autocomplete")) == (
        "password",
        "off",
    )
    before = len(view.calls("open"))
    page.click("#gated button")
    assert len(view.calls("open")) == before  # the field says that it lacks the token
    page.fill("#gated-token", SECRET)
    page.press("#gated-token", "Enter")
    assert view.calls("open")[-1] == {"model": "owner/gated", "token": SECRET, "kind": "opened"}
    assert page.input_value("#gated-token") == ""
    assert SECRET not in page.content() + page.url
    assert page.is_hidden("#gated")
    view.hear("opened", **GATED, gated=LICENCE)
    assert page.is_visible("#gated")
    view.hear("opened", model="builtin", ready=True, title="SmolLM2-135M-Instruct", chip="float32")
    assert page.is_hidden("#gated")


def test_a_failure_of_another_kind_asks_for_no_token_and_an_address_of_another_kind_is_no_link(view):
    view.hear("opened", **GATED, gated=LICENCE)
    view.hear("opened", **GATED, gated=None)
    assert view.page.is_hidden("#gated")
    view.hear("opened", **GATED, gated="javascript:alert(1)")
    assert view.page.is_visible("#gated-token")
    assert view.page.is_hidden("#gated a")
