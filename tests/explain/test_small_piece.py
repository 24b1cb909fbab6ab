"""A piece to prune by hand: its arithmetic by hand, the best mask against every mask, the errors against the model."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wanda_core.errors import InputError
from wanda_core.explain.small_piece import (
    BUDGET,
    COLUMNS,
    ROWS,
    Piece,
    best_mask,
    mask_by,
    norms_of,
    output_error,
    piece_steps,
    total_error,
)
from wanda_core.progress import finish
from wanda_core.text.windows import calibrate


def piece(W, X, budget):
    W, X = torch.tensor(W), torch.tensor(X, dtype=torch.float64)
    return Piece("by.hand", tuple(range(len(W))), tuple(range(W.shape[1])), W, X.T @ X, 1, len(X), budget)


def test_by_hand_two_inputs_that_cancel_go_together():
    """x₁ = x₂ always, so w = (1, -1, 1.5): removing the first two changes nothing, though both score high."""
    hand = piece([[1.0, -1.0, 1.5]], [[3.0, 3.0, 1.0], [4.0, 4.0, 0.0]], 2)
    assert norms_of(hand).tolist() == [5.0, 5.0, 1.0]
    assert mask_by(hand, "magnitude").tolist() == [[True, True, False]]
    assert mask_by(hand, "wanda").tolist() == [[True, False, True]]  # scores 5, 5, 1.5
    assert best_mask(hand).tolist() == [[True, True, False]]
    assert total_error(hand, best_mask(hand)) == 0
    # without w₁ and w₃ the output loses 3 + 1.5 on the first token and 4 on the second
    assert total_error(hand, mask_by(hand, "wanda")) == pytest.approx((4.5**2 + 4**2) ** 0.5)


@given(st.integers(0, 10_000))
def test_the_best_of_all_masks_is_found_and_no_method_is_better(seed):
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(2, 6, generator=generator)
    X = torch.randn(9, 6, generator=generator) * torch.tensor([9.0, 1, 1, 1, 0.3, 0])
    hand = piece(W.tolist(), X.tolist(), 3)
    Y = X.double() @ W.double().T
    best = best_mask(hand)
    assert best.sum(dim=1).tolist() == [3, 3]
    for row in range(2):
        losses = []
        for gone in itertools.combinations(range(6), 3):
            kept = W[row].double().clone()
            kept[list(gone)] = 0
            losses.append(float((Y[:, row] - X.double() @ kept).norm()))
        assert float(output_error(hand, best)[row]) == pytest.approx(min(losses), abs=1e-6)
    for method in ("magnitude", "wanda"):
        mask = mask_by(hand, method)
        assert mask.sum(dim=1).tolist() == [3, 3]
        assert total_error(hand, mask) >= total_error(hand, best) - 1e-9


def test_a_piece_of_a_model_loses_what_the_model_loses(tiny_llama):
    linear = next(linear for linear in tiny_llama.all_linears if min(linear.shape) >= COLUMNS)
    calibration = calibrate(tiny_llama, samples=2, seq_len=24)
    cut = finish(piece_steps(tiny_llama, linear, calibration))
    assert cut.W.shape == (ROWS, COLUMNS)
    assert len(set(cut.rows)) == ROWS
    assert len(set(cut.columns)) == COLUMNS
    assert (cut.windows, cut.seq_len) == (2, 24)
    inputs = []
    handle = linear.module.register_forward_pre_hook(lambda module, args: inputs.append(args[0].flatten(0, 1)))
    with torch.no_grad():
        tiny_llama.model(calibration.ids.to(tiny_llama.device))
    handle.remove()
    X = torch.cat(inputs)[:, list(cut.columns)].double()
    removed = mask_by(cut, "wanda")
    assert int(removed.sum()) == ROWS * BUDGET
    W = linear.weight[list(cut.rows)][:, list(cut.columns)].double()
    lost = (X @ (W * removed).T).norm(dim=0) / 2**0.5  # in one of two windows, in the mean of squares
    torch.testing.assert_close(output_error(cut, removed), lost, rtol=2e-2, atol=1e-4)


def test_what_is_too_small_is_refused(tiny_llama):
    linear = tiny_llama.all_linears[0]

    class Small:
        name, shape = linear.name, (3, 8)

    with pytest.raises(InputError, match=r"has 3 × 8 weights, and a piece has 4 × 8; choose a larger one"):
        finish(piece_steps(tiny_llama, Small(), calibrate(tiny_llama, samples=1, seq_len=16)))


def test_a_third_method_is_none(tiny_llama):
    with pytest.raises(InputError, match="is not one of magnitude, wanda"):
        mask_by(piece([[1.0, 2.0]], [[1.0, 1.0]], 1), "ria")
