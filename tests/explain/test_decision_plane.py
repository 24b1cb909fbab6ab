"""The plane on which both metrics are a cut: a matrix worked by hand, counts that add up, the model's own figures."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recipes import BY_MAGNITUDE, BY_WANDA, MAGNITUDE, WANDA, X_NORM, W, by_hand, masked

from wanda_core.explain.decision_plane import BINS, Cut, Kept, cut_of, decision_plane
from wanda_core.explain.mask_comparison import two_masks
from wanda_core.explain.masked_linear import Choice, MaskedLinear
from wanda_core.recipe import PruneSpec


def both_of(W, X_norm, sparsity):
    """A matrix under one-shot Wanda and magnitude per matrix."""
    specs = (dataclasses.replace(spec, sparsity=sparsity) for spec in (WANDA, MAGNITUDE))
    return masked(W, X_norm, *specs)


def plane_of(W, X_norm, sparsity, bins=BINS):
    return decision_plane(both_of(W, X_norm, sparsity), bins)


def counts_of(plane):
    return torch.stack([plane.both, plane.first, plane.second, plane.neither])


def test_a_matrix_worked_by_hand():
    plane = decision_plane(by_hand(), bins=2)
    assert plane.x_edges.tolist() == [0, 1, 2]
    assert plane.y_edges.tolist() == pytest.approx([-1, (math.log10(4) - 1) / 2, math.log10(4)])
    # rows: below and above |W| = 0.63; columns: ‖X‖ = 1 and 100
    assert plane.both.tolist() == [[0, 0], [1, 0]]  # 4
    assert plane.first.tolist() == [[1, 1], [0, 1]]  # 0.4, 0.1 and 1
    assert plane.second.tolist() == [[0, 0], [2, 0]]  # 3 and 2
    assert plane.neither.tolist() == [[2, 0], [0, 0]]  # 0.2 and 0.3
    slant, level = plane.cuts
    assert level == Cut("size", 0, 0, 0)  # |W| = 1
    assert slant.metric == "score"
    low, high = math.log10(0.3), math.log10(3)  # of row 1 and of row 0; of two the lower is the median
    assert (slant.median, slant.low, slant.high) == pytest.approx((low, low, high))
    assert plane.differ == 5 / 8
    assert plane.loudest_tenth == Kept(1, 1.0, 0.0)
    assert plane.loudest == Kept(3, 1.0, 0.0)


def test_the_masks_that_are_given_are_those_of_both_metrics():
    by_magnitude, by_wanda = two_masks(W, X_NORM, 0.5, "matrix")
    assert torch.equal(by_magnitude, BY_MAGNITUDE)
    assert torch.equal(by_wanda, BY_WANDA)


def test_recipes_the_other_way_round_change_places():
    plane, turned = decision_plane(by_hand(), 3), decision_plane(MaskedLinear(W, X_NORM, by_hand().choices[::-1]), 3)
    assert torch.equal(counts_of(turned), counts_of(plane)[[0, 2, 1, 3]])
    assert turned.cuts == plane.cuts[::-1]
    assert turned.differ == plane.differ
    assert turned.loudest == Kept(3, 0.0, 1.0)


def test_one_recipe_agrees_with_itself_and_a_third_is_left_out():
    wanda, magnitude = by_hand().choices
    alone = decision_plane(MaskedLinear(W, X_NORM, (wanda,)), 2)
    assert not alone.first.any()
    assert not alone.second.any()
    assert (alone.differ, alone.cuts[0]) == (0, alone.cuts[1])
    third = Choice(PruneSpec("random"), torch.ones_like(BY_WANDA))
    three = decision_plane(MaskedLinear(W, X_NORM, (wanda, magnitude, third)), 2)
    assert torch.equal(counts_of(three), counts_of(decision_plane(by_hand(), 2)))


def test_weights_lie_above_and_below_the_cuts_that_are_named():
    generator = torch.Generator().manual_seed(4)
    weights = torch.randn(1, 400, generator=generator)  # of one row, Wanda's cut is one line for all
    norms = torch.rand(400, generator=generator) * 3 + 0.1
    linear = both_of(weights, norms, 0.4)
    slant, level = decision_plane(linear).cuts
    by_wanda, by_magnitude = (choice.removed for choice in linear.choices)
    logs = weights.abs().log10()
    assert torch.equal(by_magnitude, logs <= level.median + 1e-6)
    assert torch.equal(by_wanda, logs <= slant.median - norms.log10() + 1e-6)


@given(st.integers(0, 2**20), st.integers(1, 60), st.sampled_from([0.0, 0.3, 0.5, 0.9]), st.integers(1, 20))
def test_every_weight_is_counted_once_with_its_fate(seed, columns, sparsity, bins):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(9, columns, generator=generator) * (torch.rand(9, columns, generator=generator) > 0.1)
    norms = torch.rand(columns, generator=generator) * (torch.rand(columns, generator=generator) > 0.1)
    linear = both_of(weights, norms, sparsity)
    by_wanda, by_magnitude = (choice.removed for choice in linear.choices)
    plane = decision_plane(linear, bins)
    counts = counts_of(plane)
    assert counts.shape == (4, bins, bins)
    assert int(counts.sum()) == weights.numel()
    fates = [~by_magnitude & ~by_wanda, by_magnitude & ~by_wanda, ~by_magnitude & by_wanda, by_magnitude & by_wanda]
    assert counts.sum(dim=(1, 2)).tolist() == [int(fate.sum()) for fate in fates]
    assert plane.differ == pytest.approx(float((by_magnitude != by_wanda).float().mean()))
    assert bool((plane.x_edges.diff() > 0).all())
    assert bool((plane.y_edges.diff() > 0).all())
    leftmost = int((norms.log10() < plane.x_edges[1]).sum()) if bins > 1 else columns
    assert int(counts[:, :, 0].sum()) == 9 * leftmost


def test_a_tenth_of_the_columns_is_loud_and_the_first_of_the_loudest_is_named():
    norms = torch.ones(20)
    norms[[3, 7]] = torch.tensor([5.0, 9.0])
    weights = torch.ones(4, 20)
    by_wanda = torch.zeros(4, 20, dtype=torch.bool)
    by_wanda[:1, 3], by_wanda[:, 0] = True, True
    by_magnitude = torch.zeros(4, 20, dtype=torch.bool)
    by_magnitude[:3, 7], by_magnitude[:, 1] = True, True
    plane = decision_plane(MaskedLinear(weights, norms, (Choice(WANDA, by_wanda), Choice(MAGNITUDE, by_magnitude))))
    assert plane.loudest_tenth == Kept(2, 7 / 8, 5 / 8)
    assert plane.loudest == Kept(7, 1.0, 0.25)


def test_numbers_all_alike_lie_in_the_middle():
    plane = plane_of(torch.full((2, 4), -10.0), torch.full((4,), 0.1), 0.0, bins=3)
    assert plane.x_edges.tolist() == pytest.approx([-1.5, -1 - 1 / 6, -1 + 1 / 6, -0.5])
    assert plane.both.tolist() == [[0, 0, 0], [0, 8, 0], [0, 0, 0]]


def test_one_column_that_is_all_but_silent_does_not_stretch_the_plane():
    norms = torch.linspace(1.0, 10.0, 300)
    norms[7] = 1e-9
    plane = plane_of(torch.ones(2, 300), norms, 0.5, bins=9)
    assert float(plane.x_edges[0]) == pytest.approx(0, abs=0.02)
    assert float(plane.x_edges[-1]) == pytest.approx(1)
    assert int(counts_of(plane)[:, :, 0].sum()) == 2 * int((norms.log10() < plane.x_edges[1]).sum())


def test_where_nothing_or_only_zeros_are_cut_there_is_no_cut():
    plane = plane_of(W, X_NORM, 0.0)
    assert (plane.cuts, plane.differ) == ((None, None), 0)
    everything = torch.ones(2, 4, dtype=torch.bool)
    zeros = MaskedLinear(torch.zeros(2, 4), X_NORM, (Choice(WANDA, everything), Choice(MAGNITUDE, everything)))
    assert [cut_of(zeros, choice) for choice in zeros.choices] == [None, None]
    assert int(decision_plane(zeros).neither.sum()) == 8


@pytest.mark.parametrize(
    "spec",
    [
        PruneSpec("ria"),
        PruneSpec("random"),
        PruneSpec("wanda", update="least-squares"),
        PruneSpec("wanda", pattern="2:4"),
        PruneSpec("magnitude", pattern="1:4"),
        PruneSpec("wanda", group="column"),
        PruneSpec("magnitude", group="row:128"),
        PruneSpec("wanda", group="column:128"),
    ],
    ids=lambda spec: f"{spec.label}, {spec.group}, {spec.update}",
)
def test_a_recipe_whose_cut_is_no_line_has_none(spec):
    linear = by_hand()
    assert cut_of(linear, Choice(spec, BY_WANDA)) is None


@pytest.mark.parametrize(
    ("method", "group"),
    [("wanda", "row"), ("wanda", "matrix"), ("magnitude", "row"), ("magnitude", "matrix"), ("magnitude", "model")],
)
def test_a_cut_is_the_largest_value_that_went_row_by_row_or_of_all(method, group):
    generator = torch.Generator().manual_seed(7)
    weights, norms = torch.randn(21, 30, generator=generator), torch.rand(30, generator=generator) + 0.1
    gone = torch.rand(21, 30, generator=generator) > 0.6
    gone[4] = False  # a row that loses nothing has no threshold
    choice = Choice(PruneSpec(method, group=group), gone)
    found = cut_of(MaskedLinear(weights, norms, (choice,)), choice)
    values = np.abs(weights.numpy()) * (norms.numpy() if method == "wanda" else 1)
    largest = [max(row[cut]) for row, cut in zip(values, gone.numpy(), strict=True) if cut.any()]
    logs = np.log10(largest if group == "row" else [max(largest)])
    low, middle, high = np.quantile(logs, [0.1, 0.5, 0.9], method="nearest")
    assert (found.low, found.median, found.high) == pytest.approx((low, middle, high), abs=0.05)
    assert found.metric == ("score" if method == "wanda" else "size")
    if group == "row":
        assert found.low < found.median < found.high
        assert sum(found.low - 1e-5 <= log <= found.high + 1e-5 for log in logs) >= 0.8 * len(logs)
    else:
        assert found.low == found.median == found.high == pytest.approx(float(logs[0]), abs=1e-5)


@pytest.mark.builtin
def test_the_built_in_models_eleventh_up_projection_at_45_percent(builtin_lm, builtin_profile):
    linear = builtin_lm.of_kind("mlp.up_proj")[11]
    plane = plane_of(linear.weight, builtin_profile.norms[linear.name].to(linear.weight.device), 0.45)
    assert plane.differ == pytest.approx(0.058, abs=0.004)
    assert plane.loudest_tenth.columns == 58
    assert (plane.loudest_tenth.first, plane.loudest_tenth.second) == pytest.approx((0.64, 0.50), abs=0.02)
    assert plane.loudest.columns == 247
    assert (plane.loudest.first, plane.loudest.second) == pytest.approx((0.90, 0.09), abs=0.02)
