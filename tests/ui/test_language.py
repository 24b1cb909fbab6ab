"""The words of the page: every key in every language, with the same values in it, and the right language chosen."""

import string

import pytest

from wanda_ui.language import LANGUAGES, choose, in_language, label, say, words

OTHERS = [language for language in LANGUAGES if language != "en"]
FOR_THE_MODEL = {"view.own.placeholder"}  # prompts, in English in every language: the built-in model speaks little else


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("language", OTHERS)
def test_no_key_is_missing_and_none_is_left_over(language):
    assert words(language).keys() == words("en").keys()


@pytest.mark.parametrize("language", OTHERS)
def test_the_same_values_stand_in_every_language(language):
    different = [key for key, text in words("en").items() if fields(text) != fields(words(language)[key])]
    assert different == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_words_are_empty_and_no_value_goes_without_a_name(language):
    assert [key for key, text in words(language).items() if not text.strip()] == []
    assert [key for key, text in words(language).items() if "" in fields(text)] == []


@pytest.mark.parametrize("language", OTHERS)
def test_longer_texts_are_really_translated(language):
    same = {key for key, text in words("en").items() if len(text.split()) > 3 and words(language)[key] == text}
    assert same == FOR_THE_MODEL


@pytest.mark.parametrize(
    ("asked", "accepted", "chosen"),
    [
        ("ko", "en-US,en;q=0.9", "ko"),
        ("en", "ko-KR", "en"),
        (None, "ko-KR,ko;q=0.9,en-US;q=0.8", "ko"),
        (None, "fr-FR,fr;q=0.9,en;q=0.3,ko;q=0.7", "ko"),
        (None, "fr, de", "en"),
        ("<script>", None, "en"),
        ("KO", "ko;q=x, en;q=0.1", "en"),
        (None, "", "en"),
    ],
)
def test_the_address_decides_then_the_browser_then_english(asked, accepted, chosen):
    assert choose(asked, accepted) == chosen


def test_a_key_that_nobody_wrote_is_an_error_and_not_an_empty_label():
    with pytest.raises(KeyError):
        label("page.no_such_key")
    with pytest.raises(KeyError):
        say("ko", "page.no_such_key")


def test_the_page_says_its_language_before_any_other_script_runs():
    html = in_language('<!doctype html>\n<html\n\tlang="en">\n<head>\n<script>first()</script></head></html>', "ko")
    assert '<html\n\tlang="ko">' in html
    assert html.index("navigator") < html.index("first()")
