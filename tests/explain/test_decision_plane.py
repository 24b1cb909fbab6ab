"""The plane on which both metrics are a cut: a matrix worked by hand, counts that add up, the model's own figures."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wanda_core.calibration.profile import profile
from wanda_core.errors import InputError
from wanda_core.explain.decision_plane import BINS, Kept, decision_plane, magnitude_cut, wanda_cut
from wanda_core.explain.mask_comparison import two_masks
from wanda_core.text.windows import calibrate

# Two rows of very different scale. The last column's input is large: it is small by |W| and large by |W|·‖X‖.
W = torch.tensor([[4.0, -3.0, 2.0, 1.0], [0.2, 0.3, 0.4, -0.1]])
X_NORM = torch.tensor([1.0, 1.0, 1.0, 100.0])
# Magnitude keeps 4, 3 and 2. Wanda cuts the two lowest scores of each row: 3 and 2, 0.2 and 0.3.
BY_MAGNITUDE = torch.tensor([[False, False, False, True], [True, True, True, True]])
BY_WANDA = torch.tensor([[False, True, True, False], [True, True, False, False]])


def plane_of(W, X_norm, sparsity, bins=BINS):
    return decision_plane(W, X_norm, *two_masks(W, X_norm, sparsity, "matrix"), bins)


def test_a_matrix_worked_by_hand():
    plane = decision_plane(W, X_NORM, BY_MAGNITUDE, BY_WANDA, bins=2)
    assert plane.x_edges.tolist() == [0, 1, 2]
    assert plane.y_edges.tolist() == pytest.approx([-1, (math.log10(4) - 1) / 2, math.log10(4)])
    # rows: below and above |W| = 0.63; columns: ‖X‖ = 1 and 100
    assert plane.both.tolist() == [[0, 0], [1, 0]]  # 4
    assert plane.wanda.tolist() == [[1, 1], [0, 1]]  # 0.4, 0.1 and 1
    assert plane.magnitude.tolist() == [[0, 0], [2, 0]]  # 3 and 2
    assert plane.cut.tolist() == [[2, 0], [0, 0]]  # 0.2 and 0.3
    assert plane.level == 0  # |W| = 1
    assert plane.slant == pytest.approx(math.log10(0.3))  # of 3 and 0.3 the lower median
    assert plane.differ == 5 / 8
    assert plane.loudest_tenth == Kept(1, 1.0, 0.0)
    assert plane.loudest == Kept(3, 1.0, 0.0)


def test_the_masks_that_are_given_are_those_of_both_metrics():
    by_magnitude, by_wanda = two_masks(W, X_NORM, 0.5, "matrix")
    assert torch.equal(by_magnitude, BY_MAGNITUDE)
    assert torch.equal(by_wanda, BY_WANDA)


def test_weights_lie_above_and_below_the_cuts_that_are_named():
    generator = torch.Generator().manual_seed(4)
    weights = torch.randn(1, 400, generator=generator)  # of one row, Wanda's cut is one line for all
    norms = torch.rand(400, generator=generator) * 3 + 0.1
    by_magnitude, by_wanda = two_masks(weights, norms, 0.4, "matrix")
    plane = decision_plane(weights, norms, by_magnitude, by_wanda)
    logs = weights.abs().log10()
    assert torch.equal(by_magnitude, logs <= plane.level + 1e-6)
    assert torch.equal(by_wanda, logs <= plane.slant - norms.log10() + 1e-6)


@given(st.integers(0, 2**20), st.integers(1, 60), st.sampled_from([0.0, 0.3, 0.5, 0.9]), st.integers(1, 20))
def test_every_weight_is_counted_once_with_its_fate(seed, columns, sparsity, bins):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(9, columns, generator=generator) * (torch.rand(9, columns, generator=generator) > 0.1)
    norms = torch.rand(columns, generator=generator) * (torch.rand(columns, generator=generator) > 0.1)
    by_magnitude, by_wanda = two_masks(weights, norms, sparsity, "matrix")
    plane = decision_plane(weights, norms, by_magnitude, by_wanda, bins)
    counts = torch.stack([plane.both, plane.wanda, plane.magnitude, plane.cut])
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
    plane = decision_plane(weights, norms, by_magnitude, by_wanda)
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
    leftmost = sum(fate[:, 0].sum() for fate in (plane.both, plane.wanda, plane.magnitude, plane.cut))
    assert int(leftmost) == 2 * int((norms.log10() < plane.x_edges[1]).sum())


def test_where_nothing_or_only_zeros_are_cut_there_is_no_cut():
    plane = plane_of(W, X_NORM, 0.0)
    assert (plane.level, plane.slant, plane.differ) == (None, None, 0)
    zeros = torch.zeros(2, 4)
    everything = torch.ones(2, 4, dtype=torch.bool)
    assert magnitude_cut(zeros, everything) is None
    assert wanda_cut(zeros, X_NORM, everything) is None
    assert int(decision_plane(zeros, X_NORM, everything, everything).cut.sum()) == 8


@pytest.mark.parametrize(
    "given_", [(W, X_NORM[:3], BY_MAGNITUDE, BY_WANDA), (W, X_NORM, BY_MAGNITUDE[:1], BY_WANDA)], ids=["norms", "mask"]
)
def test_shapes_that_do_not_fit_are_refused(given_):
    with pytest.raises(InputError, match="give one norm a column and masks of the weights' shape"):
        decision_plane(*given_)


@pytest.mark.builtin
def test_the_built_in_models_eleventh_up_projection_at_45_percent(builtin_lm):
    taken = profile(builtin_lm, calibrate(builtin_lm))
    linear = builtin_lm.of_kind("mlp.up_proj")[11]
    plane = plane_of(linear.weight, taken.norms[linear.name], 0.45)
    assert plane.differ == pytest.approx(0.058, abs=0.004)
    assert plane.loudest_tenth.columns == 58
    assert (plane.loudest_tenth.wanda, plane.loudest_tenth.magnitude) == pytest.approx((0.64, 0.50), abs=0.02)
    assert plane.loudest.columns == 247
    assert (plane.loudest.wanda, plane.loudest.magnitude) == pytest.approx((0.90, 0.09), abs=0.02)
