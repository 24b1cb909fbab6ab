"""The sentence that says why a weight is kept: by hand, for every group and pattern, and what it never leaves out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recipes import MAGNITUDE, WANDA, X_NORM, W, by_hand, masked

from wanda_core.explain import asking
from wanda_core.explain.why import ordinal, why
from wanda_core.recipe import PruneSpec


def said(linear, row, column):
    titles = [choice.spec.label for choice in linear.choices]
    return why(asking.ask_weight(linear, row, column), titles, [choice.metric for choice in linear.choices])


def test_a_weight_that_is_small_and_hears_a_loud_input():
    assert said(by_hand(), 0, 3) == (
        "Weight [0, 3] is 1, 4th of the 4 in its row by size; it reads an input of norm 100, the loudest of 4, where "
        "the median is 1; so its score |W|·‖X‖ is 100, the largest of the 4 in its row by score; Wanda 50% keeps it, "
        "as scores up to 3 go in its row; Magnitude 50% removes it, as sizes up to 1 go in the whole matrix."
    )


@pytest.mark.parametrize(
    ("spec", "scope"),
    [
        (PruneSpec("wanda", 0.4), "in its row"),
        (PruneSpec("wanda", 0.4, group="column"), "in its column"),
        (PruneSpec("wanda", 0.4, group="row:128"), "in its 4 weights of its row"),
        (PruneSpec("magnitude", 0.6, group="model"), "in the whole model"),
        (PruneSpec("wanda", pattern="2:4"), "in its group of 4"),
        (PruneSpec("random", 0.5), "in its row"),
        (PruneSpec("wanda", 0.0), "as it removes nothing in its row"),
    ],
)
def test_what_a_weight_was_compared_with_is_named(spec, scope):
    sentence = said(masked(W, X_NORM, spec), 0, 3)
    assert scope in sentence
    assert sentence.count(". ") == 0
    assert sentence.endswith(".")


def test_an_input_that_was_always_zero_is_said_to_be():
    linear = masked(W, torch.tensor([1.0, 0.0, 1.0, 2.0]), WANDA, MAGNITUDE)
    assert "it reads an input that was always zero" in said(linear, 0, 1)


@given(st.integers(1, 10**6))
def test_a_place_ends_as_people_say_it(number):
    ending = ordinal(number)[-2:]
    teens = number % 100 in (11, 12, 13)
    assert ending == ("th" if teens else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th"))
    assert ordinal(number)[:-2].replace(",", "") == str(number)
