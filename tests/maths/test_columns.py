"""Scores of columns and the columns solved anew: by hand, and against a plain minimisation."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wanda_core.maths import columns, updates

W = torch.tensor([[1.0, -2.0, 0.0, 3.0], [0.5, 1.0, -4.0, 0.0]])


def test_wanda_gathered_by_hand():
    X_norm = torch.tensor([2.0, 1.0, 0.5, 0.1])
    assert columns.gathered(W, X_norm).tolist() == pytest.approx([3.0, 3.0, 2.0, 0.3])


def test_fluctuation_by_hand():
    variance = torch.tensor([1.0, 2.0, 0.25, 0.0])
    assert columns.fluctuation(W, variance).tolist() == pytest.approx([1.25, 10.0, 4.0, 0.0])


def test_size_by_hand():
    assert columns.size(W).tolist() == [1.5, 3.0, 4.0, 3.0]


def test_what_is_drawn_follows_from_the_seed_alone():
    assert torch.equal(columns.drawn(W, 3), columns.drawn(-W, 3))
    assert not torch.equal(columns.drawn(W, 3), columns.drawn(W, 4))


def test_the_highest_units_stay_and_of_equal_ones_the_right_ones():
    assert columns.highest(torch.tensor([1.0, 5.0, 1.0, 3.0]), 4, 2).tolist() == [1, 3]
    assert columns.highest(torch.tensor([1.0, 1.0, 1.0, 1.0]), 4, 2).tolist() == [2, 3]  # the leftmost go first
    assert columns.highest(torch.tensor([1.0, 5.0, 4.0, 3.0]), 2, 1).tolist() == [1]  # 6 against 7


@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(1, 4))
def test_the_columns_that_stay_are_where_the_error_is_least(seed, inputs, rows):
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(30, inputs, generator=generator, dtype=torch.float64)
    W = torch.randn(rows, inputs, generator=generator, dtype=torch.float64)
    target = torch.randn(30, rows, generator=generator, dtype=torch.float64)
    keep = torch.arange(inputs)[torch.rand(inputs, generator=generator) > 0.4]
    if not len(keep):
        keep = torch.tensor([0])
    H, B = X.t() @ X, target.t() @ X
    found = columns.resolved(W, keep, H, B - W @ H)
    expected = torch.linalg.lstsq(X[:, keep], target).solution.t()
    assert torch.allclose(found, expected, atol=1e-8)


def test_nothing_gone_and_no_other_target_leaves_the_weights_as_they_are():
    X = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    H = updates.damped(X.t() @ X, 0.05)
    assert torch.allclose(columns.resolved(W, torch.arange(4), H, torch.zeros(2, 4)), W, atol=1e-5)
