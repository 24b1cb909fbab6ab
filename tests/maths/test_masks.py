"""Masks by hand, then against plain sorts, then for any shape."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import mask_groups, mask_matrix, mask_rows
from recipes import removal_mask

from wanda_core.maths import masks, selection
from wanda_core.recipe import PruneSpec


def on(device, rows):
    return torch.tensor(rows, dtype=torch.float32, device=device)


def test_rows_of_very_different_scale_lose_the_same_count(device):
    S = on(device, [[1.0, 4.0, 2.0, 3.0], [1000.0, 4000.0, 3000.0, 2000.0]])
    assert masks.lowest_per_row(S, 2).tolist() == [[True, False, True, False], [True, False, False, True]]


def test_per_matrix_the_small_row_goes_first(device):
    S = on(device, [[1.0, 4.0, 2.0, 3.0], [1000.0, 4000.0, 3000.0, 2000.0]])
    by_matrix = removal_mask(S, PruneSpec(method="wanda", sparsity=0.5, group="matrix"))
    assert by_matrix.tolist() == [[True] * 4, [False] * 4]


def test_ties_cut_the_lowest_column(device):
    S = on(device, [[5.0, 5.0, 5.0, 5.0], [7.0, 1.0, 7.0, 7.0], [0.0, 2.0, 0.0, 0.0]])
    assert masks.lowest_per_row(S, 2).tolist() == [
        [True, True, False, False],
        [True, True, False, False],
        [True, False, True, False],
    ]


def test_negative_zero_ties_with_zero(device):
    assert masks.lowest_per_row(on(device, [[0.0, -0.0, 1.0]]), 1).tolist() == [[True, False, False]]


@pytest.mark.parametrize(("k", "cut"), [(-1, 0), (0, 0), (3, 3), (4, 3)])
def test_none_or_all_of_a_row_may_go(device, k, cut):
    assert int(masks.lowest_per_row(on(device, [[3.0, 1.0, 2.0]]), k).sum()) == cut


def test_two_of_four_keeps_the_two_highest_of_every_four(device):
    S = on(device, [[1.0, 2.0, 3.0, 4.0, 8.0, 7.0, 6.0, 5.0]])
    assert masks.lowest_n_of_m(S, 2, 4).tolist() == [[True, True, False, False, False, False, True, True]]


def test_one_of_four_keeps_one_and_three_of_four_keeps_three(device):
    S = on(device, [[4.0, 2.0, 3.0, 1.0]])
    assert masks.lowest_n_of_m(S, 1, 4).tolist() == [[False, True, True, True]]
    assert masks.lowest_n_of_m(S, 3, 4).tolist() == [[False, False, False, True]]


def test_ties_inside_a_group_cut_the_lowest_column(device):
    S = on(device, [[1.0, 1.0, 1.0, 1.0, 9.0, 0.0, 0.0, 0.0]])
    assert masks.lowest_n_of_m(S, 2, 4).tolist() == [[True, True, False, False, False, True, True, False]]


def test_magnitude_per_matrix_takes_the_threshold_and_its_ties_too(device):
    S = on(device, [[1.0, 2.0], [2.0, 3.0]])
    spec = PruneSpec(method="magnitude", sparsity=0.25)
    # place int(4 * 0.25) = 1 of 1, 2, 2, 3 holds 2: three weights go, not one
    assert removal_mask(S, spec).tolist() == [[True, True], [True, False]]


def test_wanda_per_matrix_cuts_the_exact_count(device):
    S = on(device, [[1.0, 2.0], [2.0, 3.0]])
    spec = PruneSpec(method="wanda", sparsity=0.5, group="matrix")
    assert removal_mask(S, spec).tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize("method", ["wanda", "magnitude"])
@pytest.mark.parametrize("group", ["row", "matrix"])
def test_sparsity_zero_removes_nothing(device, method, group):
    spec = PruneSpec(method=method, sparsity=0, group=group)
    assert not removal_mask(on(device, [[0.0, 1.0], [2.0, 0.0]]), spec).any()


def test_the_count_per_row_is_rounded_down(device):
    S = on(device, [[3.0, 1.0, 2.0]])
    assert int(removal_mask(S, PruneSpec(sparsity=0.5)).sum()) == 1
    assert int(removal_mask(S, PruneSpec(sparsity=0.3)).sum()) == 0


def test_a_mask_follows_a_matrix_that_is_a_transposed_view(device):
    stored = torch.rand(12, 8, generator=torch.Generator().manual_seed(0)).to(device)
    for spec in (PruneSpec(), PruneSpec(pattern="2:4"), PruneSpec(group="matrix"), PruneSpec(method="magnitude")):
        assert torch.equal(removal_mask(stored.t(), spec), removal_mask(stored.t().contiguous(), spec))


def random_scores(rows: int, columns: int, seed: int, ties: bool) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if ties:
        return torch.randint(0, 4, (rows, columns), generator=generator).float()
    return torch.rand(rows, columns, generator=generator)


grids = st.builds(random_scores, st.integers(1, 7), st.integers(1, 40), st.integers(0, 2**31), st.booleans())


@given(grids, st.floats(0, 0.95))
def test_a_row_mask_is_the_stable_sort_and_exact_in_every_row(device, S, sparsity):
    cut = removal_mask(S.to(device), PruneSpec(sparsity=sparsity)).cpu()
    assert cut.sum(dim=1).tolist() == [int(S.shape[1] * sparsity)] * S.shape[0]
    assert torch.equal(cut, mask_rows(S, sparsity))


@given(st.integers(1, 5), st.integers(1, 6), st.integers(2, 16), st.data(), st.integers(0, 2**31), st.booleans())
def test_n_of_m_holds_in_every_group(device, rows, groups, m, data, seed, ties):
    n = data.draw(st.integers(1, m - 1))
    S = random_scores(rows, groups * m, seed, ties)
    cut = removal_mask(S.to(device), PruneSpec(pattern=f"{n}:{m}")).cpu()
    assert (~cut).reshape(-1, m).sum(dim=1).tolist() == [n] * (rows * groups)
    assert torch.equal(cut, mask_groups(S, n, m))


@given(grids, st.floats(0.01, 0.95))
def test_magnitude_per_matrix_is_the_plain_sort(device, S, sparsity):
    if int(S.numel() * sparsity) == 0:
        return  # nothing was asked for; the published code would still cut one
    spec = PruneSpec(method="magnitude", sparsity=sparsity)
    assert torch.equal(removal_mask(S.to(device), spec).cpu(), mask_matrix(S, sparsity))


@given(grids, st.floats(0, 0.95))
def test_wanda_per_matrix_is_one_stable_sort_of_all(device, S, sparsity):
    cut = removal_mask(S.to(device), PruneSpec(sparsity=sparsity, group="matrix")).cpu()
    assert torch.equal(cut, mask_rows(S.reshape(1, -1), sparsity).reshape(S.shape))


@given(grids, st.floats(0, 0.95), st.floats(0, 0.95))
def test_a_higher_sparsity_removes_all_that_a_lower_one_does(device, S, one, other):
    low, high = sorted((one, other))
    S = S.to(device)
    gone = removal_mask(S, PruneSpec(sparsity=low))
    assert bool((gone <= removal_mask(S, PruneSpec(sparsity=high))).all())


@given(st.lists(grids, min_size=1, max_size=4), st.data())
def test_the_kth_of_all_is_the_kth_of_the_joined_sort(device, parts, data):
    # values over many powers of two, so that several bins are in play; some zeros of either sign
    parts = [(S * 10 ** ((S * 7 % 5) - 2)).to(device) for S in parts]
    parts[0] = torch.cat([parts[0].flatten(), torch.tensor([0.0, -0.0, -0.0], device=device)])
    joined = torch.cat([S.flatten() for S in parts]).abs().sort().values
    k = data.draw(st.integers(0, len(joined) - 1))
    assert selection.kth_of_all(lambda: iter(parts), k).item() == joined[k].item()


def test_the_kth_of_all_counts_ties_and_negative_zeros(device):
    parts = [on(device, [2.0, -0.0]), on(device, [[2.0], [1.0]]), on(device, [2.0, 0.0])]
    found = [selection.kth_of_all(lambda: iter(parts), k).item() for k in range(6)]
    assert found == [0.0, 0.0, 1.0, 2.0, 2.0, 2.0]
    assert str(found[0]) == "0.0"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_scores_are_cut_like_their_float32_values(device, dtype):
    S = torch.rand(6, 40, generator=torch.Generator().manual_seed(3)).to(dtype).to(device)
    for spec in (PruneSpec(), PruneSpec(pattern="4:8"), PruneSpec(method="magnitude", sparsity=0.4)):
        assert torch.equal(removal_mask(S, spec), removal_mask(S.float(), spec))
    parts = [S, S[:2]]
    assert selection.kth_of_all(lambda: iter(parts), 77).item() == torch.cat(parts).float().flatten().sort().values[77]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_without_writes_plus_zero_and_keeps_every_other_bit(dtype, device):
    W = torch.tensor([[-1.5, -0.0, float("inf")], [2.0, -3.0, 0.0]], dtype=dtype, device=device)
    mask = torch.tensor([[True, False, False], [False, True, True]], device=device)
    for matrix, cut in ((W, mask), (W.t(), mask.t())):
        found, by_hand = masks.without(matrix, cut), matrix.masked_fill(cut, 0)
        assert torch.equal(found, by_hand)
        assert torch.equal(found.signbit(), by_hand.signbit())
    assert W[0, 0] == -1.5


@pytest.mark.parametrize("spec", [PruneSpec(), PruneSpec(group="row:128"), PruneSpec("magnitude", group="row")])
def test_no_rows_give_no_mask(spec):
    assert removal_mask(torch.zeros(0, 256), spec).shape == (0, 256)


def test_scores_of_any_type_are_cut_by_their_own_threshold():
    scores = torch.tensor([[1.0, 1.0 - 1e-12, 2.0, 3.0]], dtype=torch.float64)  # apart in float64 alone
    assert masks.lowest_per_row(scores, 1).tolist() == [[False, True, False, False]]
    assert masks.lowest_per_row(scores * 0.1, 2).sum() == 2
    for kind in (torch.bfloat16, torch.float16, torch.float32):
        assert masks.lowest_per_row(scores.to(kind), 2).tolist() == [[True, True, False, False]]


@pytest.mark.parametrize("columns", range(2, 9))
def test_the_kth_of_many_short_rows_is_that_of_a_sort_ties_included(columns):
    generator = torch.Generator().manual_seed(columns)
    for scores in (
        torch.randn(5000, columns, generator=generator),
        torch.randint(0, 3, (5000, columns), generator=generator).float(),
        torch.zeros(5000, columns),
    ):
        ordered = scores.sort(dim=1).values
        for k in range(1, columns + 1):
            assert torch.equal(selection.kth_smallest(scores, k), ordered[:, k - 1 : k])
            if k < columns:
                places = scores.argsort(dim=1, stable=True)[:, :k]
                lowest = torch.zeros_like(scores).scatter(1, places, 1).bool()
                assert torch.equal(masks.lowest_per_row(scores, k), lowest)
