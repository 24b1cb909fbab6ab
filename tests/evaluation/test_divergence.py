"""How far predictions are from each other, position by position: by hand, against float64, and on tiny models."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wanda_core.evaluation import divergence
from wanda_core.evaluation.divergence import divergence_along
from wanda_core.evaluation.perplexity import agreement
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec


def by_loop(dense, other):
    """KL(dense ‖ other) in float64, token by token."""
    found = []
    for p, q in zip(dense.double().numpy(), other.double().numpy(), strict=True):
        p, q = (np.exp(row - row.max()) / np.exp(row - row.max()).sum() for row in (p, q))
        found.append(sum(float(a) * math.log(a / b) for a, b in zip(p, q, strict=True)))
    return found


def logits(seed, length, words, spread=3.0):
    return torch.randn(length, words, generator=torch.Generator().manual_seed(seed)) * spread


def test_three_positions_worked_by_hand():
    dense = torch.tensor([[3.0, 1.0], [1.0, 1.0], [1.0, 1.0]]).log()  # ¾ and ¼, then even
    other = torch.tensor([[1.0, 1.0], [3.0, 1.0], [1.0, 1.0]]).log()
    found = divergence_along(dense, other)
    there, back = 0.75 * math.log(1.5) + 0.25 * math.log(0.5), 0.5 * math.log(2 / 3) + 0.5 * math.log(2)
    assert found.tolist() == pytest.approx([there, back, 0], abs=1e-6)
    assert there != pytest.approx(back, abs=0.005)  # which model is the dense one matters
    assert (found.dtype, found.device.type) == (torch.float32, "cpu")


@given(st.integers(0, 2**20), st.integers(1, 6), st.integers(1, 40), st.sampled_from([0.1, 3.0, 30.0]))
def test_it_is_the_oracles_and_never_below_zero(seed, length, words, spread):
    dense, other = logits(seed, length, words, spread), logits(seed + 1, length, words, spread)
    found = divergence_along(dense, other)
    assert found.shape == (length,)
    assert bool((found >= 0).all())
    assert found.tolist() == pytest.approx(by_loop(dense, other), rel=1e-4, abs=1e-5)
    moved = divergence_along(dense + 5, other - 7)  # logits mean the same, whatever is added to all of them
    assert moved.tolist() == pytest.approx(found.tolist(), rel=1e-3, abs=1e-4)
    assert not divergence_along(dense, dense).any()


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200])
def test_how_many_positions_are_read_at_once_makes_no_difference(monkeypatch, length):
    dense, other = logits(1, length, 50), logits(2, length, 50)
    found = divergence_along(dense, other)
    assert found.shape == (length,)
    for chunk in (1, 7, 10_000):
        monkeypatch.setattr(divergence, "CHUNK", chunk)
        torch.testing.assert_close(divergence_along(dense, other), found, rtol=1e-5, atol=1e-6)
    one_by_one = [float(divergence_along(dense[i : i + 1], other[i : i + 1])) for i in range(length)]
    assert one_by_one == pytest.approx(found.tolist(), rel=1e-5, abs=1e-6)


def test_no_position_gives_nothing():
    assert divergence_along(torch.zeros(0, 9), torch.zeros(0, 9)).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_logits_of_any_type_are_compared_in_float32(dtype):
    dense, other = logits(1, 5, 300).to(dtype), logits(2, 5, 300).to(dtype)
    found = divergence_along(dense, other)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(by_loop(dense, other), rel=1e-4)


def test_predictions_as_sure_as_they_can_be_stay_finite():
    sure = torch.zeros(1, 4).index_fill(1, torch.tensor([2]), 1e4)
    found = divergence_along(sure, -sure)
    assert found.tolist() == pytest.approx([1e4 + math.log(3)], rel=1e-5)
    assert not divergence_along(sure, sure).any()


@torch.no_grad()
def test_a_model_beside_itself_and_beside_its_variant(tiny_llama, text, device):
    ids = torch.tensor([tiny_llama.encode(text)[:64]], device=device)
    variant = prune(tiny_llama, PruneSpec("magnitude", 0.5))
    dense, again, pruned = (lm.model(ids, use_cache=False).logits[0] for lm in (tiny_llama, tiny_llama, variant.lm))
    assert not divergence_along(dense, again).any()
    found = divergence_along(dense, pruned)
    assert found.tolist() == pytest.approx(by_loop(dense.cpu(), pruned.cpu()), rel=1e-3, abs=1e-5)
    assert bool((found > 0).all())
    along = agreement(tiny_llama, variant.lm, text, seq_len=64, windows=1)
    assert along.kl == pytest.approx(float(found[:-1].mean()), rel=1e-3)  # after the last no token is foreseen
