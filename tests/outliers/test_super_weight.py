"""One super weight: planted and found, a sum worked by hand, and taken away without touching the model."""

import copy
import os
from pathlib import Path

import pytest
import torch
from families import FAMILIES, tiny
from model_state import SKY, assert_same, state_of
from torch import nn

from wanda_core.errors import InputError, ModelError
from wanda_core.evaluation.generation import generate
from wanda_core.evaluation.perplexity import perplexity
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import Linear
from wanda_core.outliers.super_weight import (
    candidate,
    largest_weight,
    random_places,
    super_weight_steps,
    super_weight_trial,
    super_weights,
    super_weights_steps,
    zeroed,
)


def named(lm, name):
    return next(linear for block in lm.linears for linear in block if linear.name == name)


def last_linears(lm):
    kinds = {"mlp.down_proj", "mlp.c_proj", "fc2"}
    return [linear for block in lm.linears for linear in block if linear.kind in kinds]


def test_the_candidate_is_the_largest_term_of_the_largest_output():
    module = nn.Linear(3, 2, bias=False)
    module.weight = nn.Parameter(torch.tensor([[1.0, 2.0, 0.0], [-4.0, 1.0, 3.0]]), requires_grad=False)
    x = torch.tensor([[1.0, 1.0, 1.0], [-10.0, 2.0, 6.0]])  # outputs (3, 0) and (-6, 60)
    found = candidate(Linear("b.0.down", "down", 0, module), x, module(x))
    assert (found.token, found.row, found.column) == (1, 1, 0)
    assert (found.weight, found.input, found.spike) == (-4.0, -10.0, 60.0)
    assert found.share == pytest.approx(40 / 60)
    assert found.ratio == pytest.approx(40 / 3)  # of 0, 3, 6 and 60 the lower median is 3
    assert found.largest_input
    x[1, 1] = 11.0  # outputs 12 and 69: a larger input than that of the largest term
    assert not candidate(Linear("b.0.down", "down", 0, module), x, module(x)).largest_input
    with pytest.raises(ModelError, match="are not finite"):
        candidate(Linear("b.0.down", "down", 0, module), x, x * torch.inf)


def test_planted_weights_are_found_where_they_are_and_no_other_block_stands_out(tiny_llama, tiny_gpt2, tiny_opt):
    for dense in (tiny_llama, tiny_gpt2, tiny_opt):
        lm = LanguageModel(copy.deepcopy(dense.model), dense.tokenizer, "tiny", "local")
        before = super_weights(lm, SKY)
        assert {one.linear for one in before} == {linear.name for linear in last_linears(lm)}
        assert max(one.ratio for one in before) < 100
        planted = last_linears(lm)[-1]
        column = before[0].column
        with torch.no_grad():
            planted.weight[7, column] = -30_000.0  # a view: this writes to the copy
        kept = state_of(lm.model)
        first, *others = super_weights(lm, SKY)
        assert_same(kept, state_of(lm.model))
        assert (first.linear, first.row, first.column, first.weight) == (planted.name, 7, column, -30_000.0)
        assert first.share > 0.95
        assert first.ratio > 1000
        assert first.spike == pytest.approx(first.weight * first.input, rel=0.05)
        assert {one.linear: one for one in others} == {
            one.linear: one for one in before if one.linear != planted.name
        }  # what comes before the planted one is as it was


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_its_last_linears_looked_at_except_experts(tokenizer, family):
    lm = tiny(family, tokenizer, "cpu")
    before = state_of(lm.model)
    found = super_weights(lm, SKY)
    assert_same(before, state_of(lm.model))
    end_in_experts = {"Mixtral": [], "Qwen3Moe": [], "GptOss": [], "Qwen3Next": [], "Jamba": [0, 2]}
    assert sorted(one.block for one in found) == end_in_experts.get(family, list(range(len(lm.linears))))
    names = {"down_proj", "fc2", "c_proj", "dense_4h_to_h", "fc_out", "out_proj"}
    assert {one.kind.rpartition(".")[2] for one in found} <= names
    assert not {one.kind for one in found} & {"attn.c_proj", "self_attn.out_proj", "attn.out_proj"}


def test_without_a_weight_the_model_is_that_with_a_zero_in_its_place(tiny_llama, tiny_gpt2, tiny_opt):
    for lm in (tiny_llama, tiny_gpt2, tiny_opt):
        linear = last_linears(lm)[0]
        row, column = divmod(int(linear.weight.abs().argmax()), linear.shape[1])
        ids = torch.tensor([lm.encode(SKY)], device=lm.device)
        other = LanguageModel(copy.deepcopy(lm.model), lm.tokenizer, "tiny", "local")
        with torch.no_grad():
            named(other, linear.name).weight[row, column] = 0
            expected = other.model(ids, use_cache=False).logits
            plain = lm.model(ids, use_cache=False).logits
            before = state_of(lm.model)
            with zeroed(lm, linear.name, row, column):
                found = lm.model(ids, use_cache=False).logits
                inside = state_of(lm.model)
            cached = None
            with zeroed(lm, linear.name, row, column):
                *_, cached = generate(lm, SKY, max_new_tokens=5)
        assert torch.allclose(found, expected, atol=1e-4)
        assert not torch.allclose(plain, expected, atol=1e-3)
        assert_same(before, (before[0], *inside[1:]))  # only the hook is new
        assert_same(before, state_of(lm.model))
        *_, by_hand = generate(other, SKY, max_new_tokens=5)
        assert cached.tokens == by_hand.tokens
        assert cached.probabilities == pytest.approx(by_hand.probabilities, rel=1e-4)


def test_taking_away_a_huge_term_leaves_no_rounding_of_it_in_bfloat16(own_llama):
    lm = LanguageModel(own_llama.model.bfloat16(), own_llama.tokenizer, "tiny", "local")
    linear = last_linears(lm)[0]
    ids = torch.tensor([lm.encode(SKY)], device=lm.device)
    with torch.no_grad():
        linear.weight[5, 11] = 0
        expected = lm.model(ids, use_cache=False).logits
        linear.weight[5, 11] = 1e6
        with zeroed(lm, linear.name, 5, 11):
            found = lm.model(ids, use_cache=False).logits
    assert float((found - expected).abs().max()) < 0.05 * float(expected.abs().max())


def test_the_trial_measures_the_chosen_the_largest_other_and_random_ones(tiny_gpt2, text):
    lm = tiny_gpt2
    name = lm.linears[1][-1].name
    report = super_weight_trial(lm, name, 3, 5, text, seq_len=16, windows=2, prompt="Rivers", line_tokens=4)
    assert report.untouched == perplexity(lm, text, seq_len=16, windows=2).perplexity
    for one in (report.chosen, report.largest, *report.random):
        assert one.weight == float(named(lm, one.linear).weight[one.row, one.column])
        with zeroed(lm, one.linear, one.row, one.column):
            assert one.perplexity == perplexity(lm, text, seq_len=16, windows=2).perplexity
            *_, end = generate(lm, "Rivers", max_new_tokens=4)
            assert one.line == end.text
    assert (report.chosen.linear, report.chosen.row, report.chosen.column) == (name, 3, 5)
    assert abs(report.largest.weight) == max(float(x.weight.abs().max()) for block in lm.linears for x in block)
    assert {one.linear for one in report.random} == {name}
    places = {(one.row, one.column) for one in report.random}
    assert len(places) == 5
    assert (3, 5) not in places
    assert report.random_range == (
        min(one.perplexity for one in report.random),
        max(one.perplexity for one in report.random),
    )


def test_the_largest_other_weight_is_not_the_chosen_one(tiny_llama):
    first = largest_weight(tiny_llama, ("nothing", 0, 0))
    second = largest_weight(tiny_llama, first)
    sizes = torch.cat([x.weight.abs().flatten() for block in tiny_llama.linears for x in block]).topk(2).values
    found = [float(named(tiny_llama, name).weight[row, column].abs()) for name, row, column in (first, second)]
    assert found == sizes.tolist()


def test_random_places_are_all_others_in_the_end():
    assert sorted(random_places((2, 3), (0, 1), 5, 0)) == [(0, 0), (0, 2), (1, 0), (1, 1), (1, 2)]
    with pytest.raises(InputError, match="the matrix has 5; draw fewer"):
        random_places((2, 3), (0, 1), 6, 0)


def test_between_two_steps_and_after_a_cancel_the_model_is_its_own(own_llama, text):
    before = state_of(own_llama.model)
    for steps in (
        super_weights_steps(own_llama, SKY),
        super_weight_steps(own_llama, own_llama.linears[0][-1].name, 0, 0, text, seq_len=16, windows=1),
    ):
        for _, _ in zip(range(3), steps, strict=False):
            assert_same(before, state_of(own_llama.model))
        steps.close()
        assert_same(before, state_of(own_llama.model))


@pytest.mark.parametrize(
    ("place", "settings", "words"),
    [
        (("nowhere", 0, 0), {}, "linear 'nowhere' does not exist"),
        (("model.layers.0.mlp.down_proj", 64, 0), {}, "row 64 does not exist; .* has rows 0 to 63"),
        (("model.layers.0.mlp.down_proj", 0, -1), {}, "column -1 does not exist; .* has columns 0 to 95"),
        (("model.layers.0.mlp.down_proj", True, 0), {}, "row True does not exist"),
        (("model.layers.0.mlp.down_proj", 0, 0), {"draws": 4}, "draws 4"),
        (("model.layers.0.mlp.down_proj", 0, 0), {"prompt": ""}, "the prompt is empty"),
    ],
)
def test_a_weight_that_is_not_there_is_refused(tiny_llama, text, place, settings, words):
    with pytest.raises(InputError, match=words):
        super_weight_trial(tiny_llama, *place, text, seq_len=16, windows=1, **settings)


def test_the_weight_of_an_expert_is_refused_by_name(tokenizer):
    lm = tiny("Mixtral", tokenizer, "cpu")
    name = next(linear.name for linear in lm.linears[0] if linear.routed)
    with pytest.raises(InputError, match="belongs to a routed expert"), zeroed(lm, name, 0, 0):
        pass


@pytest.mark.builtin
def test_in_the_built_in_model_one_weight_of_block_11_makes_three_quarters_of_the_spike(builtin_lm):
    first, second, *_ = super_weights(builtin_lm, SKY)
    assert (first.block, first.kind, first.row, first.column) == (11, "mlp.down_proj", 507, 1229)
    assert first.weight == pytest.approx(5.88, abs=0.01)
    assert first.share == pytest.approx(0.74, abs=0.01)
    assert (first.token, first.largest_input) == (0, True)
    assert 20_000 < first.spike < 27_000
    assert first.ratio > 5 * second.ratio


@pytest.mark.builtin
@pytest.mark.skipif("WANDA_WIKITEXT" not in os.environ, reason="WANDA_WIKITEXT does not name wiki.test.raw")
def test_taken_away_it_costs_a_factor_of_ten_and_others_cost_nothing(builtin_lm):
    whole = Path(os.environ["WANDA_WIKITEXT"]).read_text(encoding="utf-8")
    text = "".join(f"{line}\n" for line in whole.split("\n") if line.strip())[:60_000]  # copies differ in blank lines
    down = "model.layers.{}.mlp.down_proj"
    report = super_weight_trial(builtin_lm, down.format(11), 507, 1229, text)
    assert report.untouched == pytest.approx(30.15, abs=0.02)
    assert report.chosen.perplexity == pytest.approx(300, abs=3)
    assert all(30.0 < one < 30.3 for one in report.random_range)
    with zeroed(builtin_lm, down.format(2), 507, 90):
        assert perplexity(builtin_lm, text, windows=8).perplexity == pytest.approx(43.7, abs=0.2)
