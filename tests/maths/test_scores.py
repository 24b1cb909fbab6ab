"""Scores by hand, and what scaling may and may not change."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wanda_core.maths import masks, scores


@pytest.fixture
def put(device):
    """A tensor on the device under test."""
    return lambda *rows: torch.tensor(rows, dtype=torch.float32, device=device)


def test_wanda_is_absolute_weight_times_input_norm(put):
    W = put([1.0, -2.0, 3.0], [-10.0, 20.0, 0.0])
    X_norm = torch.tensor([4.0, 1.0, 0.5], device=W.device)
    assert scores.wanda(W, X_norm).tolist() == [[4.0, 2.0, 1.5], [40.0, 20.0, 0.0]]


def test_magnitude_is_absolute_weight(put):
    assert scores.magnitude(put([1.0, -2.0], [-0.5, 0.0])).tolist() == [[1.0, 2.0], [0.5, 0.0]]


def test_a_small_weight_on_a_loud_input_outlives_a_large_one_on_a_quiet_input(put):
    W, X_norm = put([0.1, 5.0]), put([100.0, 1.0])[0]
    assert masks.lowest_per_row(scores.wanda(W, X_norm), 1).tolist() == [[False, True]]
    assert masks.lowest_per_row(scores.magnitude(W), 1).tolist() == [[True, False]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scores_of_half_precision_weights_are_float32(dtype, device):
    W = torch.tensor([[1.5, -300.0]], dtype=dtype, device=device)
    S = scores.wanda(W, torch.tensor([3.0, 1000.0], device=device))
    assert S.dtype == torch.float32
    assert S.tolist() == [[4.5, 300_000.0]]  # the second is beyond float16


def test_dead_columns_are_ordered_by_magnitude_below_every_live_weight(put):
    W = put([5.0, 0.0, -1.0, 2.0, 0.0])
    X_norm = put([0.0, 3.0, 0.0, 1.0, 0.0])[0]
    S = scores.dead_columns_by_magnitude(scores.wanda(W, X_norm), W, X_norm)
    assert torch.isfinite(S).all()
    # dead 0, dead 1, dead 5, then the live columns by their scores, the live zero first
    assert S.argsort(dim=1, stable=True).tolist() == [[4, 2, 0, 1, 3]]


def test_live_columns_keep_their_scores_bit_for_bit(put):
    W, X_norm = put([1.0, 2.0, 3.0]), put([0.3, 0.0, 0.7])[0]
    S = scores.wanda(W, X_norm)
    assert torch.equal(scores.dead_columns_by_magnitude(S, W, X_norm)[:, [0, 2]], S[:, [0, 2]])


shapes = st.tuples(st.integers(1, 6), st.integers(2, 24), st.integers(0, 2**31))


@given(shapes, st.integers(-8, 8), st.floats(0.05, 0.95))
def test_scaling_a_whole_row_never_changes_a_row_mask(shape, power, share):
    rows, columns, seed = shape
    generator = torch.Generator().manual_seed(seed)
    W, X_norm = torch.randn(rows, columns, generator=generator), torch.rand(columns, generator=generator) + 0.1
    k = int(columns * share)
    scaled = W.clone()
    scaled[0] *= 2.0**power  # a power of two is exact, so that not even a tie may move
    assert torch.equal(
        masks.lowest_per_row(scores.wanda(W, X_norm), k), masks.lowest_per_row(scores.wanda(scaled, X_norm), k)
    )


@given(shapes, st.integers(-8, 8), st.data())
def test_a_louder_input_is_undone_by_a_smaller_weight(shape, power, data):
    rows, columns, seed = shape
    generator = torch.Generator().manual_seed(seed)
    W, X_norm = torch.randn(rows, columns, generator=generator), torch.rand(columns, generator=generator) + 0.1
    column = data.draw(st.integers(0, columns - 1))
    other_W, other_norm = W.clone(), X_norm.clone()
    other_W[:, column] *= 2.0**power
    other_norm[column] *= 2.0**-power
    assert torch.equal(scores.wanda(W, X_norm), scores.wanda(other_W, other_norm))


@given(shapes)
def test_signs_never_matter(shape):
    rows, columns, seed = shape
    generator = torch.Generator().manual_seed(seed)
    W, X_norm = torch.randn(rows, columns, generator=generator), torch.rand(columns, generator=generator)
    assert torch.equal(scores.wanda(W, X_norm), scores.wanda(-W, X_norm))
    assert torch.equal(scores.magnitude(W), scores.magnitude(-W))
