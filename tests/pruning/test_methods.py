"""Every score, group and update by hand or against an oracle that computes it another way."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recipes import removal_mask

from wanda_core.errors import InputError, ModelError
from wanda_core.maths import scores, updates
from wanda_core.maths.owl import outlier_ratio, owl
from wanda_core.pruning.allocation import allotted
from wanda_core.recipe import PruneSpec


def noise(*size, seed=0):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


# scores


def test_ria_by_hand():
    W = torch.tensor([[1.0, -3.0], [1.0, 1.0]])
    found = scores.ria(W, torch.tensor([4.0, 9.0]))
    by_hand = [[(1 / 2 + 1 / 4) * 2, (3 / 4 + 3 / 4) * 3], [(1 / 2 + 1 / 2) * 2, (1 / 4 + 1 / 2) * 3]]
    assert torch.allclose(found, torch.tensor(by_hand))
    assert torch.isfinite(scores.ria(torch.zeros(2, 2), torch.ones(2))).all()


def test_random_scores_depend_on_the_seed_and_the_linear_alone():
    W = torch.zeros(5, 7)
    here, there, other = (
        scores.seed_of(seed, name) for seed, name in ((3, "layers.0.q"), (3, "layers.1.q"), (4, "layers.0.q"))
    )
    assert torch.equal(scores.random(W, here), scores.random(W + 1, here))
    assert not torch.equal(scores.random(W, here), scores.random(W, there))
    assert not torch.equal(scores.random(W, here), scores.random(W, other))


# groups


def lowest_by_python(values: list[float], share: float) -> list[bool]:
    order = sorted(range(len(values)), key=lambda i: (values[i], i))
    gone = set(order[: int(len(values) * share)])
    return [i in gone for i in range(len(values))]


@pytest.mark.parametrize("group", ["row", "matrix", "column", "row:128", "column:128"])
@pytest.mark.parametrize("shape", [(5, 300), (260, 7), (128, 128)])
def test_every_group_loses_its_own_lowest(group, shape):
    S = noise(*shape).abs()
    mask = removal_mask(S, PruneSpec("wanda", 0.4, group=group))
    along, _, size = group.partition(":")
    lines = [S.flatten()] if along == "matrix" else list(S.t() if along == "column" else S)
    cut = [mask.flatten()] if along == "matrix" else list(mask.t() if along == "column" else mask)
    for line, found in zip(lines, cut, strict=True):
        step = int(size or len(line))
        expected = [
            flag for i in range(0, len(line), step) for flag in lowest_by_python(line[i : i + step].tolist(), 0.4)
        ]
        assert found.tolist() == expected


@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(2, 12))
def test_per_input_column_any_scale_of_the_columns_cancels(seed, rows, columns):
    W = noise(rows, columns, seed=seed)
    X_norm = noise(columns, seed=seed + 1).abs() + 0.01
    by_wanda = removal_mask(scores.wanda(W, X_norm), PruneSpec("wanda", 0.5, group="column"))
    by_magnitude = removal_mask(scores.magnitude(W), PruneSpec("magnitude", 0.5, group="column"))
    assert torch.equal(by_wanda, by_magnitude)


def test_the_variant_cuts_up_to_one_share_of_every_rows_sum():
    S = noise(40, 64).abs() * torch.linspace(0.1, 10, 40)[:, None]
    mask = removal_mask(S, PruneSpec("wanda-variant", 0.5))
    assert abs(float(mask.float().mean()) - 0.5) < 0.01
    shares = []
    for row, cut in zip(S, mask, strict=True):
        assert row[cut].max() < row[~cut].min()
        shares.append((float(row[cut].sum() / row.sum()), float((row[cut].sum() + row[~cut].min()) / row.sum())))
    assert max(low for low, _ in shares) <= min(high for _, high in shares) + 1e-6  # one share serves all rows


def test_the_variant_leaves_a_row_alone_whose_first_score_is_already_too_much():
    S = torch.cat([torch.ones(1, 2), torch.tensor([[0.001, 1000.0]])])
    mask = removal_mask(S, PruneSpec("wanda-variant", 0.25))
    assert mask.tolist() == [[False, False], [True, False]]


# updates


def inputs(tokens, columns, seed=0):
    """Correlated inputs, as a model's are."""
    return noise(tokens, columns, seed=seed) @ (torch.eye(columns) + 0.4 * noise(columns, columns, seed=seed + 1))


def test_least_squares_finds_each_rows_own_solution():
    X, W = inputs(60, 12), noise(5, 12, seed=9)
    keep = noise(5, 12, seed=3) > 0
    H = updates.damped(X.T @ X, 0.01)
    found, residual = updates.least_squares(W, keep, H, torch.zeros(5, 12), steps=40)
    assert torch.allclose(residual, W @ H - found @ H, atol=1e-3)
    for row in range(5):
        on = keep[row]
        exact = torch.linalg.solve(H[on][:, on].double(), (W[row].double() @ H.double())[on])
        assert torch.allclose(found[row, on].double(), exact, atol=1e-4)
        assert not found[row, ~on].any()


def test_every_step_of_least_squares_lowers_the_error():
    X, W = inputs(60, 20), noise(6, 20, seed=9)
    keep = noise(6, 20, seed=3) > 0
    H = updates.damped(X.T @ X, 0.05)
    errors = []
    for steps in (1, 2, 4, 8):
        E = updates.least_squares(W, keep, H, torch.zeros_like(W), steps)[0] - W
        errors.append(float((E @ H * E).sum()))
    E = W * keep - W
    assert float((E @ H * E).sum()) > errors[0] > errors[1] > errors[2] > errors[3]


def test_least_squares_goes_on_from_where_it_stood_with_another_mask_and_target():
    X, W, B = inputs(60, 12), noise(5, 12, seed=9), noise(5, 12, seed=8)
    H = updates.damped(X.T @ X, 0.05)
    first, second = noise(5, 12, seed=3) > 0, noise(5, 12, seed=4) > 0
    given = (W.clone(), B - W @ H)
    on_the_way, residual = updates.least_squares(*given[:1], first, H, given[1], steps=2)
    found, left = updates.least_squares(on_the_way, second, H, residual, steps=40)
    for row in range(5):
        on = second[row]
        exact = torch.linalg.solve(H[on][:, on].double(), B[row, on].double())
        assert torch.allclose(found[row, on].double(), exact, atol=1e-4)
        assert not found[row, ~on].any()
    assert torch.allclose(left, B - found @ H, atol=1e-3)
    assert torch.equal(given[0], W)
    assert torch.equal(given[1], B - W @ H)
    step = updates.pull(found, H, left)
    assert torch.allclose(step, found + (B - found @ H) / H.diagonal(), atol=1e-4)


def test_damping_by_hand():
    gram = torch.tensor([[4.0, 3.0], [3.0, 8.0]])
    assert torch.allclose(updates.damped(gram, 0.1), torch.tensor([[4.6, 3.0], [3.0, 8.6]]))
    assert torch.allclose(updates.damped(gram, 0.1, 0.5), torch.tensor([[6.6, 3.0], [3.0, 12.6]]))
    assert updates.damped(torch.zeros(2, 2), 0.1, 0.5).diagonal().min() > 0
    assert torch.equal(gram, torch.tensor([[4.0, 3.0], [3.0, 8.0]]))


def obs_one_by_one(W: torch.Tensor, H: torch.Tensor, gone: torch.Tensor) -> torch.Tensor:
    """Optimal brain surgeon in float64, weight after weight: the inverse of what is left is taken afresh each time."""
    W, H = W.double().clone(), H.double()
    columns = W.shape[1]
    for row in range(len(W)):
        for j in range(columns):
            inverse = torch.linalg.inv(H[j:, j:])
            if gone[row, j]:
                W[row, j:] -= W[row, j] / inverse[0, 0] * inverse[0]
                W[row, j] = 0
    return W.float()


@pytest.mark.parametrize("columns", [9, 140])
def test_obs_updates_as_one_weight_at_a_time_does(columns):
    X, W = inputs(400, columns), noise(3, columns, seed=9)
    gone = noise(3, columns, seed=3) > 0.3
    gram = X.T @ X
    found, mask = updates.obs(W, gram, lambda part, root, start: gone[:, start : start + part.shape[1]])
    assert torch.equal(mask, gone)
    expected = obs_one_by_one(W, updates.damped(gram, updates.OBS_DAMPING), gone)
    assert torch.allclose(found, expected, atol=2e-3)


def test_obs_leaves_dead_columns_at_zero_and_names_inputs_that_do_not_suffice():
    X, W = inputs(50, 6), noise(2, 6, seed=9)
    X[:, 2] = 0
    found, _ = updates.obs(W, X.T @ X, lambda part, root, start: torch.zeros_like(part) > 0)
    assert not found[:, 2].any()
    with pytest.raises(ModelError, match="cannot be inverted"):
        updates.obs(W, -torch.eye(6), lambda part, root, start: torch.zeros_like(part) > 0)


# allocation


def test_owl_by_hand():
    assert owl([0.0, 0.5, 1.0], 0.7) == pytest.approx([0.78, 0.7, 0.62])
    assert owl([0.2, 0.2], 0.7) == [0.7, 0.7]
    assert max(owl([0.0, 1.0], 0.93)) <= 0.95


def test_an_outlier_is_a_score_five_times_the_mean_of_its_block():
    W = torch.tensor([[1.0, 1, 1, 1, 1, 1, 1, 1, 1, 100.0]])
    assert outlier_ratio([(W, torch.ones(10))]) == pytest.approx(0.1)
    assert outlier_ratio([(W, torch.ones(10)), (torch.ones(1, 10), torch.ones(10))]) == pytest.approx(0.05)
    assert outlier_ratio([(W, torch.tensor([1.0] * 9 + [0.01]))]) == 0


def test_a_given_allocation_fits_the_model(tiny_llama):
    spec = PruneSpec(allocation=(0.1, 0.2, 0.3))
    assert allotted(spec, tiny_llama.walk("read"), None).sparsities == [0.1, 0.2, 0.3]
    with pytest.raises(InputError, match="lists 2 blocks and the model has 3"):
        allotted(PruneSpec(allocation=(0.1, 0.2)), tiny_llama.walk("read"), None)
    assert math.isclose(sum(owl([0.1, 0.4, 0.2], 0.6)) / 3, 0.6)
