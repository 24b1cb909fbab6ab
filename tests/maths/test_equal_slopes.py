"""Sparsities at equal slopes: worked out by hand, then what must hold of every model and budget."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanda_core.checks import MAX_SPARSITY
from wanda_core.maths.sensitivity import LEAST_GROWTH, LEAST_LOSS, Sensitivities, equal_slopes, exponential

losses = st.tuples(st.floats(1e-6, 1.0), st.floats(1.6, 50.0)).map(lambda pair: (pair[0], pair[0] * pair[1]))
blocks = st.lists(st.tuples(losses, st.integers(1, 10**7)), min_size=1, max_size=12)
shares = st.floats(0.0, MAX_SPARSITY)


def slope(pair, weights, share):
    a, b = exponential((0.5, 0.7), pair)
    return b * math.exp(a + b * share) / weights


def test_the_curve_goes_through_both_points():
    a, b = exponential((0.5, 0.7), (0.02, 0.08))
    assert b == pytest.approx(math.log(4) / 0.2)
    assert math.exp(a + b * 0.5) == pytest.approx(0.02)
    assert math.exp(a + b * 0.7) == pytest.approx(0.08)


def test_a_loss_of_nothing_and_one_that_does_not_grow_still_give_a_curve():
    a, b = exponential((0.5, 0.7), (0.0, 0.0))
    assert math.exp(a + b * 0.5) == pytest.approx(LEAST_LOSS)
    assert b == pytest.approx(math.log(LEAST_GROWTH) / 0.2)


def test_two_blocks_by_hand():
    # Both grow tenfold on 0.2, one loses ten times as much: at equal slopes it stands 0.2 lower.
    found = Sensitivities(((0.1, 1.0), (0.01, 0.1)), 4, 256).sparsities([7, 7], 0.6)
    assert found == pytest.approx([0.5, 0.7])
    # With three times the weights in the second, log10(3) fifths more of the difference, and the mean by weights.
    first, second = Sensitivities(((0.1, 1.0), (0.01, 0.1)), 4, 256).sparsities([1, 3], 0.6)
    assert second - first == pytest.approx(0.2 + 0.2 * math.log10(3))
    assert first + 3 * second == pytest.approx(4 * 0.6)


def test_a_block_at_a_bound_leaves_the_rest_to_the_others():
    # The second would stand 0.6 higher, 0.9 and 1.5 around the mean; it stops at 0.95.
    found = Sensitivities(((0.1, 1.0), (1e-4, 1e-3)), 4, 256).sparsities([1, 1], 0.9)
    assert found == pytest.approx([0.85, 0.95])
    assert equal_slopes([(0.0, 10.0), (5.0, 10.0)], [1, 1], 0.1) == pytest.approx([0.2, 0.0])


@given(blocks, shares)
def test_the_budget_is_met_within_bounds_and_slopes_are_equal_inside(given_blocks, share):
    pairs, weights = [pair for pair, _ in given_blocks], [count for _, count in given_blocks]
    found = Sensitivities(tuple(pairs), 1, 2).sparsities(weights, share)
    assert all(0 <= one <= MAX_SPARSITY for one in found)
    removed = math.fsum(one * count for one, count in zip(found, weights, strict=True))
    assert removed == pytest.approx(share * sum(weights), rel=1e-9, abs=1e-6)
    slopes = [slope(pair, count, one) for pair, count, one in zip(pairs, weights, found, strict=True)]
    inside = [at for at, one in zip(slopes, found, strict=True) if 1e-9 < one < MAX_SPARSITY - 1e-9]
    level = inside[0] if inside else None
    for at, one in zip(slopes, found, strict=True):
        if level is not None:
            assert at == pytest.approx(level, rel=1e-4) or (at > level if one < 0.5 else at < level)


@given(blocks, shares, shares)
def test_every_block_gives_more_where_more_is_asked(given_blocks, one, other):
    measured = Sensitivities(tuple(pair for pair, _ in given_blocks), 1, 2)
    weights = [count for _, count in given_blocks]
    less, more = (measured.sparsities(weights, share) for share in sorted((one, other)))
    assert all(low <= high + 1e-9 for low, high in zip(less, more, strict=True))


@given(losses, st.floats(1.1, 100.0), st.floats(0.05, 0.9))
def test_the_block_that_loses_more_gives_less(pair, times, share):
    worse = (pair[0] * times, pair[1] * times)
    first, second = Sensitivities((worse, pair), 1, 2).sparsities([5, 5], share)
    assert first < second


@pytest.mark.parametrize("given_losses", [[], [[0.1]], [[0.1, math.nan]], [[0.1, -1]], [["a", 1]], None])
def test_what_was_never_measured_is_refused(given_losses):
    with pytest.raises((ValueError, TypeError)):
        Sensitivities.read({"losses": given_losses, "windows": 4, "seq_len": 256})


def test_they_come_back_from_plain_values():
    measured = Sensitivities(((0.1, 1.0), (0.0, 0.1)), 4, 256)
    assert Sensitivities.read({"losses": [[0.1, 1], [0, 0.1]], "windows": 4, "seq_len": 256}) == measured
