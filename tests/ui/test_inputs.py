"""What arrives from the browser: numbers of any kind, and texts that should be numbers."""

import math

import pytest

from wanda_core.errors import InputError
from wanda_ui.inputs import as_int, as_share, is_number, some_text, typed_number, whole_number


@pytest.mark.parametrize(("value", "number"), [(3, 3), (3.0, 3), (-2.0, -2), (10**400, 10**400)])
def test_a_whole_number_may_come_as_a_float(value, number):
    assert whole_number(value, "samples") == number
    assert type(whole_number(value, "samples")) is int
    assert as_int(value) == number


@pytest.mark.parametrize("value", [0.5, math.nan, math.inf, -math.inf, True, None, "3", [3]])
def test_what_is_no_whole_number_is_refused_by_its_name_or_left_to_the_engine(value):
    with pytest.raises(InputError, match=r"^samples .* is not a whole number; type one"):
        whole_number(value, "samples")
    assert as_int(value) is value


def test_percent_becomes_a_share_and_what_is_no_number_stays():
    assert (as_share(50), as_share(12.5)) == (0.5, 0.125)
    assert [as_share(value) for value in (None, "50", True)] == [None, "50", True]
    assert is_number(math.nan)
    assert not is_number(True)


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("507", 507), ("007", 7), ("9" * 9, 999_999_999), ("9" * 10, None), ("", None), ("-1", None)]
    + [(text, None) for text in ("1.0", "1e3", " 7", "7\n", "١", "²", "7_0")],
)
def test_typed_numbers_are_ascii_digits_and_few_of_them(text, number):
    assert typed_number(text) == number
    assert typed_number(text, most_digits=3) == (number if len(text) <= 3 else None)


@pytest.mark.parametrize("value", ["", "  \n\t", "\u3000", None, 7, ["words"]])
def test_a_text_of_blanks_is_none(value):
    assert some_text(" a word ", "prompt") == " a word "
    with pytest.raises(InputError, match=r"^the prompt is empty; write a few words$"):
        some_text(value, "prompt")
