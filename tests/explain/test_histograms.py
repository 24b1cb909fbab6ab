"""Histograms of scores: nothing is lost, nothing far out moves the axis, and `misplaced` is that of a plain loop."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recipes import BY_MAGNITUDE, BY_WANDA, X_NORM, W

from wanda_core.calibration.profile import profile
from wanda_core.explain.histograms import BINS, disagreement, histogram, score_grid, score_of
from wanda_core.text.windows import calibrate


def drawn(seed, rows, columns, zeros=0.0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, columns, generator=generator).abs()
    return values * (torch.rand(rows, columns, generator=generator) >= zeros)


def misplaced_by_loop(values, removed):
    """How many of what goes would stay if as many of the lowest went instead, as a share of them."""
    gone = [float(value) for value, flag in zip(values.flatten(), removed.flatten(), strict=True) if flag]
    if not gone:
        return 0.0
    line = sorted(values.flatten().tolist())[len(gone) - 1]
    return sum(value > line for value in gone) / len(gone)


def test_a_matrix_worked_by_hand():
    sizes = histogram(W.abs(), BY_WANDA)
    # The four lowest are 0.1, 0.2, 0.3 and 0.4; Wanda removes 0.2 and 0.3 of them, and 2 and 3 instead.
    assert sizes.misplaced == 0.5
    assert (int(sizes.kept.sum()), int(sizes.removed.sum()), sizes.zeros) == (4, 4, 0)
    assert [float(sizes.edges[0]), float(sizes.edges[-1])] == pytest.approx([-1, math.log10(3)])
    assert (int(sizes.removed[-1]), int(sizes.kept[-1])) == (1, 1)  # 3, and 4, which lies beyond the last edge
    assert int(sizes.kept[0]) == 1  # 0.1
    scores = histogram(W.abs() * X_NORM, BY_WANDA)
    assert scores.misplaced == 0.25  # of 0.2, 0.3, 0.4, 2 | 3, 4, 10, 100 it removes 0.2, 0.3, 2 and 3
    assert histogram(W.abs(), BY_MAGNITUDE).misplaced == 0  # a cut along its own axis


def test_a_matrix_worked_by_hand_under_a_cut_along_the_axis():
    scores = W.abs() * X_NORM
    assert histogram(scores, scores <= 2).misplaced == 0
    assert histogram(scores, scores >= 4).misplaced == 1
    assert histogram(scores, torch.ones_like(scores, dtype=torch.bool)).misplaced == 0


@given(
    st.integers(0, 2**20),
    st.integers(1, 20),
    st.integers(1, 40),
    st.sampled_from([0.0, 0.2, 1.0]),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from(["lowest", "by lot"]),
)
def test_every_weight_is_counted_once_and_zeros_apart(seed, rows, columns, zeros, share, how):
    values = drawn(seed, rows, columns, zeros)
    values = values.round(decimals=1) if seed % 2 else values  # many equal ones, and more zeros
    by_lot = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed + 1))
    order = (values if how == "lowest" else by_lot).flatten().argsort(stable=True)
    gone = torch.zeros(rows * columns, dtype=torch.bool)
    gone[order[: int(share * rows * columns)]] = True
    gone = gone.reshape(rows, columns)
    found = histogram(values, gone)
    above = values > 0
    assert found.kept.shape == found.removed.shape == (BINS,)
    assert found.edges.shape == (BINS + 1,)
    assert bool((found.edges.diff() > 0).all())
    assert found.zeros == int((~above).sum())
    assert int(found.kept.sum()) == int((above & ~gone).sum())
    assert int(found.removed.sum()) == int((above & gone).sum())
    assert found.misplaced == pytest.approx(misplaced_by_loop(values, gone))
    assert how == "by lot" or found.misplaced == 0


def test_counts_lie_where_the_values_do():
    values, gone = drawn(3, 30, 40), drawn(4, 30, 40) > 0.7
    found = histogram(values, gone)
    edges = found.edges.numpy()
    inner = edges[1:-1]
    for counts, chosen in ((found.kept, ~gone), (found.removed, gone)):
        logs = np.log10(values[chosen].numpy())
        expected = np.bincount(np.searchsorted(inner, logs, side="right"), minlength=BINS)
        assert np.abs(np.cumsum(counts.numpy()) - np.cumsum(expected)).max() <= 1  # one may lie on an edge, as float32


@pytest.mark.parametrize("shape", [(4, 50), (64, 64), (300, 700)])
def test_one_super_weight_does_not_move_the_axis_and_the_median_lies_inside(shape):
    values = drawn(7, *shape)
    nothing = torch.zeros(shape, dtype=torch.bool)
    before = histogram(values, nothing).edges
    values[2, 3] = 1e6
    found = histogram(values, nothing)
    assert float(found.edges[-1]) < 1
    assert found.edges.tolist() == pytest.approx(before.tolist(), abs=0.2)
    assert float(found.edges[0]) < float(values.median().log10()) < float(found.edges[-1])
    assert int(found.kept[-1]) >= 1
    assert int(found.kept.sum()) == values.numel()


def test_one_weight_that_is_all_but_zero_does_not_move_the_axis_either():
    values = drawn(7, 64, 64)
    values[5, 5] = 1e-25
    assert float(histogram(values, values < 0).edges[0]) > -4


def test_the_axis_of_a_large_matrix_is_taken_from_all_its_columns():
    values = torch.full((1024, 1024), 100.0)
    values[:, ::16] = 1  # a step of sixteen from weight to weight would see nothing else
    found = histogram(values, values < 0)
    assert [float(found.edges[0]), float(found.edges[-1])] == pytest.approx([0, 2], abs=1e-6)
    assert found.kept.nonzero().flatten().tolist() == [0, BINS - 1]


def test_values_all_alike_lie_in_the_middle_and_zeros_need_no_axis():
    alike = histogram(torch.full((3, 4), 10.0), torch.zeros(3, 4, dtype=torch.bool))
    assert [float(alike.edges[0]), float(alike.edges[-1])] == pytest.approx([0.5, 1.5])
    assert alike.kept.nonzero().flatten().tolist() == [BINS // 2]
    nothing = histogram(torch.zeros(3, 4), torch.ones(3, 4, dtype=torch.bool))
    assert (nothing.zeros, int(nothing.kept.sum()), int(nothing.removed.sum()), nothing.misplaced) == (12, 0, 0, 0)
    assert bool((nothing.edges.diff() > 0).all())


def test_disagreement_by_hand():
    found = disagreement(BY_WANDA, BY_MAGNITUDE, X_NORM)
    assert (found.overall, found.top, found.columns) == (5 / 8, 1, 1)
    norms = torch.arange(200.0)
    first = torch.zeros(3, 200, dtype=torch.bool)
    second = first.clone()
    second[0, 198], second[1, 199], second[:, 0] = True, True, True
    found = disagreement(first, second, norms)
    assert (found.overall, found.top, found.columns) == pytest.approx((5 / 600, 2 / 6, 2))


@pytest.mark.parametrize("which", ["tiny_llama", "tiny_gpt2"])
def test_every_block_has_a_row_of_its_own_on_one_axis(request, device, text, which):
    lm = request.getfixturevalue(which)
    taken = profile(lm, calibrate(lm, text, samples=2, seq_len=16))
    linears = lm.of_kind(lm.kinds[-1])
    for norms in (taken.norms, None):
        grid = score_grid(linears, norms)
        assert grid.blocks == tuple(range(len(lm.linears)))
        assert grid.share.shape == (len(linears), BINS)
        assert grid.share.sum(dim=1).tolist() == pytest.approx([1] * len(linears))
        low, high = float(grid.edges[0]), float(grid.edges[-1])
        for linear, median, row in zip(linears, grid.median.tolist(), grid.share, strict=True):
            values = linear.weight.abs().cpu().double()
            values = values if norms is None else values * norms[linear.name].double()
            torch.testing.assert_close(score_of(linear, norms).cpu().double(), values, rtol=1e-6, atol=0)
            middle = sorted(values.flatten().tolist())[(values.numel() - 1) // 2]  # of two the lower
            assert median == pytest.approx(math.log10(middle), abs=1e-5)
            assert low < median < high
            beyond = float((values.log10() >= high).double().mean())
            assert beyond - 1e-6 <= float(row[-1]) < 0.01


def test_a_block_whose_linear_is_all_zero_has_no_median(own_llama):
    linears = own_llama.of_kind("mlp.up_proj")
    with torch.no_grad():
        linears[1].module.weight.zero_()
    grid = score_grid(linears, None)
    assert [math.isnan(value) for value in grid.median.tolist()] == [False, True, False]
    assert float(grid.share[1].sum()) == 0
    assert bool(torch.isfinite(grid.edges).all())


def test_blocks_of_very_different_scales_share_an_axis_that_holds_them_all(own_llama):
    linears = own_llama.of_kind("mlp.up_proj")
    with torch.no_grad():
        linears[0].module.weight.mul_(1e-3)
        linears[2].module.weight.mul_(1e3)
    grid = score_grid(linears, None)
    low, high = float(grid.edges[0]), float(grid.edges[-1])
    assert 6 < high - low < 10
    assert all(low < median < high for median in grid.median.tolist())
    assert float(grid.share[:, [0, -1]].max()) < 0.3  # nothing is pushed into a corner
