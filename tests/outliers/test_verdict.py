"""Verdicts by hand, at their borders, and in words that do not depend on what was measured."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanda_core.outliers.verdict import HARM, harms, verdict

PERPLEXITIES = st.floats(1.0, 1e12) | st.just(math.inf)


@pytest.mark.parametrize(
    ("chosen", "others", "said"),
    [
        (500_000.0, (30.5, 31.7), "these"),  # a massive activation at zero
        (30.3, (30.1, 30.2), "harmless"),  # the largest of three, and no more than that: its mean, or a quiet channel
        (59.9, (30.1, 30.2), "harmless"),
        (60.0, (30.0, 30.0), "these"),  # the border itself is harm
        (62.0, (30.1, 31.1), "these"),  # not twice the worst of the others, and still the only one that harms
        (62.0, (30.1, 60.0), "any"),
        (900.0, (700.0, 31.0), "any"),
        (100.0, (30.0, 5_000.0), "any"),
        (6_000.0, (100.0, 200.0), "these"),  # half of all channels: others harm as well, and these far more
        (30.2, (30.1, 900.0), "others"),
        (math.inf, (30.1, 900.0), "these"),
        (math.inf, (30.1, math.inf), "any"),
        (30.2, (30.1, math.inf), "others"),
    ],
)
def test_what_is_said_of_perplexities_beside_one_of_thirty(chosen, others, said):
    assert verdict(30.0, chosen, others) == said


@given(PERPLEXITIES, PERPLEXITIES, st.lists(PERPLEXITIES, min_size=5, max_size=5))
def test_nothing_is_blamed_without_an_effect_and_order_of_draws_means_nothing(untouched, chosen, others):
    said = verdict(untouched, chosen, others)
    assert verdict(untouched, chosen, sorted(others)) == said
    assert (said in ("these", "any")) == harms(untouched, chosen)
    if said == "these":
        assert all(chosen >= HARM * other or not harms(untouched, other) for other in others)
        assert all(chosen > other for other in others)
    if said == "harmless":
        assert not any(harms(untouched, other) for other in others)
