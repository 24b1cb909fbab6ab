"""The small examples of why inputs matter, against numbers worked out by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wanda_core.errors import InputError
from wanda_core.explain.toy_example import (
    GROUPS,
    LOUD_INPUT,
    METRICS,
    choose,
    example_inputs,
    example_matrix,
    output_errors,
    two_weights,
)

NUMBERS = st.floats(-50, 50).map(lambda value: round(value, 1))


def test_the_papers_example_magnitude_cuts_the_wrong_weight():
    found = two_weights(0.5, 2.0, 40.0, 1.0)  # y = 20 + 2
    assert found.y == 22.0
    assert found.errors == (20.0, 2.0)
    assert (found.magnitude, found.wanda, found.cheaper) == (0, 1, 1)


def test_with_inputs_alike_both_cut_the_same():
    found = two_weights(-2.0, 0.5, 1.0, -1.0)
    assert found.errors == (2.0, 0.5)
    assert (found.magnitude, found.wanda, found.cheaper) == (1, 1, 1)


def test_equal_scores_are_said_to_be_no_choice():
    found = two_weights(1.0, -1.0, 3.0, 2.0)
    assert found.magnitude is None
    assert found.wanda == 1
    assert two_weights(0, 0, 0, 0).cheaper is None


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_for_one_input_wanda_always_cuts_what_costs_less(w1, w2, x1, x2):
    found = two_weights(w1, w2, x1, x2)
    if found.wanda is not None:
        assert found.errors[found.wanda] <= found.errors[1 - found.wanda] + 1e-3
    assert found.errors == pytest.approx((abs(w1 * x1), abs(w2 * x2)), abs=1e-3)


def test_output_errors_by_hand():
    W = torch.tensor([[3.0, 1.0], [0.0, 2.0], [0.0, 0.0]])
    X = torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    errors, shares = output_errors(W, torch.tensor([[3.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), X)
    assert errors.tolist() == [4.0, 8.0, 0.0]  # y₁ = (3, 4) loses the 4; y₂ = (0, 8) all; y₃ has nothing
    assert shares.tolist()[:2] == pytest.approx([0.8, 1.0])
    assert math.isnan(shares[2])


def test_a_quiet_row_is_silenced_by_one_budget_for_the_matrix_and_not_by_one_per_row():
    W = torch.tensor([[4.0, 3.0, 2.0, 1.0], [0.4, 0.3, 0.2, 0.1]])
    X = torch.eye(4)
    matrix, row = (choose(W, X, "magnitude", group) for group in GROUPS)
    assert matrix.cut.tolist() == [[False] * 4, [True] * 4]
    assert row.cut.tolist() == [[False, False, True, True]] * 2
    assert (matrix.silenced, row.silenced) == (1, 0)
    assert matrix.mean_share == pytest.approx(0.5)
    assert row.mean_share == pytest.approx(math.sqrt(5 / 30))
    assert matrix.error == pytest.approx(math.sqrt(0.30))
    assert row.error == pytest.approx(math.sqrt(5.05))


def test_the_example_starts_without_a_difference_and_ends_with_a_large_one():
    W = example_matrix()
    assert example_inputs(7.0).norm(dim=0).tolist() == pytest.approx([7 if j == LOUD_INPUT else 1 for j in range(6)])
    alike = [choose(W, example_inputs(1.0), metric, "row") for metric in METRICS]
    assert torch.equal(alike[0].cut, alike[1].cut)
    assert alike[0].cut.sum() == 12
    by_size, by_wanda = (choose(W, example_inputs(10.0), metric, "row") for metric in METRICS)
    assert by_size.cut[:, LOUD_INPUT].all()
    assert not by_wanda.cut[:, LOUD_INPUT].any()
    assert by_size.mean_share > 2 * by_wanda.mean_share


def test_what_is_no_number_or_no_metric_is_refused():
    with pytest.raises(InputError, match="not a finite number"):
        two_weights(math.nan, 1, 1, 1)
    with pytest.raises(InputError, match="magnitude, wanda"):
        choose(torch.ones(1, 2), torch.ones(1, 2), "size")
