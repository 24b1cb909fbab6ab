"""What masks protect: a matrix worked by hand, counts that must add up, and the model's own figures."""

import dataclasses

import numpy as np
import pytest
import torch
from families import tiny
from hypothesis import given
from hypothesis import strategies as st

from wanda_core.calibration.profile import profile
from wanda_core.errors import InputError
from wanda_core.explain import mask_comparison as module
from wanda_core.explain.mask_comparison import (
    column_detail,
    model_protection,
    model_protection_steps,
    protection,
    two_masks,
)
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import calibrate

# Two rows of very different scale. The last column's input is large: it is small by |W| and large by |W|·‖X‖.
W = torch.tensor([[4.0, -3.0, 2.0, 1.0], [0.2, 0.3, 0.4, -0.1]])
X_NORM = torch.tensor([1.0, 1.0, 1.0, 100.0])


def test_a_matrix_worked_by_hand():
    by_magnitude, by_wanda = two_masks(W, X_NORM, 0.5)
    assert by_magnitude.tolist() == [[False, False, True, True], [True, False, False, True]]
    assert by_wanda.tolist() == [[False, True, True, False], [True, True, False, False]]
    found = protection(W, X_NORM, 0.5)
    assert (found.parting.overall, found.parting.top, found.parting.columns) == (0.5, 1.0, 1)
    assert found.share_of_parting == 0.5  # two of the four weights lie in the one top column
    first = found.top[0]
    assert dataclasses.astuple(first) == (3, 100.0, 1.0, 0.0, 1.0)
    assert [column.index for column in found.top] == [3, 0, 1, 2]
    assert found.bins.starts.tolist() == [0, 1, 2, 3, 4]
    assert found.bins.norm.tolist() == [1, 1, 1, 100]
    assert found.bins.magnitude.tolist() == [0.5, 0.0, 0.5, 1.0]
    assert found.bins.wanda.tolist() == [0.5, 1.0, 0.5, 0.0]
    assert found.bins.differ.tolist() == [0.0, 1.0, 0.0, 1.0]


def test_one_threshold_for_the_matrix_takes_the_small_row_whole():
    by_magnitude, _ = two_masks(W, X_NORM, 0.5, "matrix")
    assert by_magnitude.tolist() == [[False, False, False, True], [True, True, True, True]]  # a tie goes along


def test_one_column_is_told_weight_by_weight():
    found = column_detail(W, X_NORM, 0.5, 3)
    assert (found.norm, found.rank) == (100.0, 0)
    assert (found.kept_by_both, found.cut_by_both, found.cut_by_magnitude, found.cut_by_wanda) == (0, 0, 2, 0)
    assert found.rows.tolist() == [0, 1]
    assert found.weights.tolist() == pytest.approx([1.0, -0.1])
    assert found.scores.tolist() == pytest.approx([100.0, 10.0])
    assert (found.magnitude_cuts.tolist(), found.wanda_cuts.tolist()) == ([True, True], [False, False])
    other = column_detail(W, X_NORM, 0.5, 1)
    assert (other.rank, other.kept_by_both, other.cut_by_wanda) == (1, 0, 2)


def test_a_long_column_is_thinned_from_the_largest_to_the_smallest(monkeypatch):
    monkeypatch.setattr(module, "MOST_WEIGHTS", 5)
    tall = torch.arange(1.0, 18.0)[:, None].repeat(1, 2)
    found = column_detail(tall, torch.ones(2), 0.5, 1)
    assert found.weights.tolist() == [17, 13, 9, 5, 1]
    assert found.kept_by_both + found.cut_by_both + found.cut_by_magnitude + found.cut_by_wanda == 17


@given(st.integers(0, 2**20), st.integers(2, 150), st.sampled_from([0.0, 0.3, 0.5, 0.9]))
def test_counts_add_up_and_no_norm_means_no_difference(seed, columns, sparsity):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(7, columns, generator=generator)
    norms = torch.rand(columns, generator=generator) * 10 + 0.1
    found = protection(weights, norms, sparsity)
    sizes = found.bins.starts.diff()
    cut = 7 * int(columns * sparsity)
    assert len(sizes) == min(64, columns)
    assert int(sizes.sum()) == columns
    assert int(sizes.max()) - int(sizes.min()) <= 1
    assert float((found.bins.magnitude * sizes).sum()) * 7 == pytest.approx(cut, abs=1e-2)
    assert float((found.bins.wanda * sizes).sum()) * 7 == pytest.approx(cut, abs=1e-2)
    assert float((found.bins.differ * sizes).sum()) / columns == pytest.approx(found.parting.overall, abs=1e-5)
    assert bool((found.bins.norm.diff() >= -1e-6).all())
    by_magnitude, by_wanda = (mask.numpy() for mask in two_masks(weights, norms, sparsity))
    top = np.argsort(-norms.numpy())[: found.parting.columns]
    differ = by_magnitude != by_wanda
    assert found.share_of_parting == pytest.approx(differ[:, top].sum() / max(1, differ.sum()), abs=1e-5)
    even = protection(weights, torch.full((columns,), 3.0), sparsity)
    assert (even.parting.overall, even.share_of_parting) == (0, 0)


def test_the_masks_are_those_that_pruning_lays_over_the_model(tiny_gpt2, text):
    calibration = calibrate(tiny_gpt2, text, samples=2, seq_len=12)
    found = profile(tiny_gpt2, calibration)
    wanda = prune(tiny_gpt2, PruneSpec("wanda", 0.5, order="one-shot"), profile=found)
    magnitude = prune(tiny_gpt2, PruneSpec("magnitude", 0.5, group="matrix"))
    for linear in (linear for block in tiny_gpt2.linears for linear in block):
        by_magnitude, by_wanda = two_masks(linear.weight, found.norms[linear.name], 0.5, "matrix")
        assert torch.equal(by_wanda, wanda.pruned_weight(linear.name) == 0)
        assert torch.equal(by_magnitude, magnitude.pruned_weight(linear.name) == 0)


def test_a_column_without_input_goes_first_by_wanda():
    by_wanda = two_masks(W, torch.tensor([0.0, 1.0, 1.0, 1.0]), 0.25)[1]
    assert by_wanda.nonzero().tolist() == [[0, 0], [1, 0]]


def test_a_whole_model_is_the_sum_of_its_linears(tiny_llama, tiny_gpt2, tiny_opt, text):
    for lm in (tiny_llama, tiny_gpt2, tiny_opt):
        taken = profile(lm, calibrate(lm, text, samples=2, seq_len=12))
        found = model_protection(lm, taken, 0.5)
        assert found.overall.shape == found.top.shape == (len(lm.linears[0]), len(lm.linears))
        for linear in (linear for block in lm.linears for linear in block):
            alone = protection(linear.weight, taken.norms[linear.name], 0.5).parting
            place = found.kinds.index(linear.kind), linear.block
            assert float(found.overall[place]) == pytest.approx(alone.overall)
            assert float(found.top[place]) == pytest.approx(alone.top)
        assert next(model_protection_steps(lm, taken, 0.5)).total == len(lm.linears)


def test_experts_of_a_layer_are_one_kind_and_those_without_tokens_are_left_out(tokenizer, text):
    lm = tiny("Qwen3Moe", tokenizer, "cpu")
    taken = profile(lm, calibrate(lm, text, samples=2, seq_len=16))
    found = model_protection(lm, taken, 0.5)
    assert {"mlp.experts.*.gate_up_proj", "mlp.experts.*.down_proj"} <= set(found.kinds)
    assert bool(torch.isfinite(found.overall).all())
    few = model_protection(lm, dataclasses.replace(taken, tokens={}), 0.5)
    assert few.left_out == 2 * 4 * 2
    assert not any("expert" in kind for kind in few.kinds)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: protection(W, X_NORM, 0.96), "0.96"),
        (lambda: protection(W, X_NORM, 0.5, "column"), "not one of row, matrix"),
        (lambda: protection(W, X_NORM[:3], 0.5), "give one norm a column"),
        (lambda: column_detail(W, X_NORM, 0.5, 4), "column 4 does not exist; this linear has columns 0 to 3"),
        (lambda: column_detail(W, X_NORM, 0.5, True), "column True does not exist"),
    ],
)
def test_what_makes_no_sense_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()


@pytest.mark.builtin
def test_in_the_built_in_model_the_masks_part_where_the_norms_are_largest(builtin_lm, builtin_profile):
    found = model_protection(builtin_lm, builtin_profile, 0.5)
    assert found.overall.shape == (7, 30)
    q = found.kinds.index("self_attn.q_proj")
    assert float(found.overall[q, 12]) == pytest.approx(0.066, abs=0.01)
    assert float(found.top[q, 12]) == pytest.approx(0.63, abs=0.05)
    assert bool((found.overall < 0.25).all())
    assert bool((found.top > found.overall).all())
    assert float(found.top.mean()) > 4 * float(found.overall.mean())
