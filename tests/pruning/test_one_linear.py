"""What a recipe removes of one linear: the mask that pruning the whole model gives it, or a refusal."""

import dataclasses
import re

import pytest
import torch
from families import tiny

from wanda_core.calibration.input_norms import LEAST_TOKENS
from wanda_core.calibration.profile import profile
from wanda_core.errors import InputError, ModelError
from wanda_core.methods import METHODS
from wanda_core.presets import preset
from wanda_core.pruning.allocation import allotted
from wanda_core.pruning.one_linear import is_decided_alone, norms_of, removed_of
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import calibrate

ALONE = [
    PruneSpec(method.name, 0.4, group=group, order="one-shot", seed=3)
    for method in METHODS.values()
    for group in method.groups
    if not method.sweeps and group != "model"
] + [
    PruneSpec(method.name, pattern=pattern, order="one-shot")
    for method in METHODS.values()
    for pattern in ("2:4", "1:8")
    if method.takes_patterns and not method.sweeps
]
FROM_THE_WHOLE = [
    PruneSpec("wanda"),
    PruneSpec("wanda", order="in-flight"),
    PruneSpec("ria"),
    PruneSpec("wanda-variant"),
    PruneSpec("sparsegpt"),
    PruneSpec("wanda", update="obs"),
    PruneSpec("magnitude", update="least-squares"),
    PruneSpec("magnitude", group="model"),
    PruneSpec("magnitude", group="model", order="one-shot"),
    preset("best"),
]


def named(spec):
    return f"{spec.label}, {spec.group}, {spec.order}"


@pytest.fixture(scope="module")
def models(tokenizer, device, tiny_llama, tiny_gpt2, text):
    """-> by family, the model and a profile of it; of the Mixtral one expert was sent one token too few."""
    found = {}
    for name, lm in (("Llama", tiny_llama), ("GPT2", tiny_gpt2), ("Mixtral", tiny("Mixtral", tokenizer, device))):
        taken = profile(lm, calibrate(lm, text, samples=4, seq_len=32))
        if name == "Mixtral":
            assert min(taken.tokens.values()) >= LEAST_TOKENS
            short = {linear: LEAST_TOKENS - 1 for linear in taken.tokens if ".1.mlp.experts.2." in linear}
            assert len(short) == 2
            taken = dataclasses.replace(taken, tokens={**taken.tokens, **short})
        found[name] = lm, taken
    return found


def assert_same_masks(lm, spec, taken, shares=None):
    """What every linear is told to lose are the zeros that pruning the whole model leaves in it."""
    variant = prune(lm, spec, profile=taken if spec.needs_calibration else None)
    shares = shares or [spec.target] * len(lm.linears)
    total = 0
    for linear in lm.all_linears:
        removed = removed_of(linear, spec, shares[linear.block], taken)
        assert (removed.shape, removed.dtype) == (linear.shape, torch.bool)
        assert torch.equal(removed, variant.pruned_weight(linear.name) == 0), linear.name
        total += int(removed.sum())
    assert total >= 0.9 * variant.report.sparsity * variant.report.n_prunable > 0
    return variant


@pytest.mark.parametrize("family", ["Llama", "GPT2", "Mixtral"])
@pytest.mark.parametrize("spec", ALONE, ids=named)
def test_the_mask_is_that_of_pruning_the_whole_model(models, family, spec):
    lm, taken = models[family]
    assert is_decided_alone(spec)
    variant = assert_same_masks(lm, spec, taken)
    few = 2 if family == "Mixtral" and spec.needs_norms else 0
    assert variant.report.by_magnitude == few


@pytest.mark.parametrize("method", ["wanda", "magnitude", "random"])
@pytest.mark.parametrize("share", [0, 0.05, 0.5])
def test_weights_that_were_zero_before_count_among_what_is_removed(tokenizer, device, text, method, share):
    lm = tiny("Llama", tokenizer, device)
    for linear in lm.all_linears:
        linear.weight.detach()[:, ::4] = 0
    spec = PruneSpec(method, share, group="row", order="one-shot")
    taken = profile(lm, calibrate(lm, text, samples=2, seq_len=16)) if spec.needs_norms else None
    variant = prune(lm, spec, profile=taken)
    for linear in lm.all_linears:
        removed = removed_of(linear, spec, share, taken)
        assert bool(removed[:, ::4].all())
        assert torch.equal(removed, variant.pruned_weight(linear.name) == 0), linear.name


def test_every_method_that_can_be_decided_alone_is_tested():
    assert {spec.method for spec in ALONE} == {name for name, method in METHODS.items() if not method.sweeps}


@pytest.mark.parametrize("spec", FROM_THE_WHOLE, ids=lambda spec: f"{named(spec)}, {spec.update}")
def test_what_follows_from_the_whole_model_is_refused(models, spec):
    lm, taken = models["Llama"]
    assert not is_decided_alone(spec)
    words = f"what {re.escape(spec.label)} removes of one linear follows from the whole model; prune it"
    with pytest.raises(InputError, match=f"^{words}$"):
        removed_of(lm.all_linears[0], spec, 0.5, taken)


@pytest.mark.parametrize("spec", [PruneSpec("magnitude"), PruneSpec("random", order="in-flight")], ids=named)
def test_the_order_says_nothing_where_no_inputs_are_looked_at(models, spec):
    lm, _ = models["GPT2"]
    assert is_decided_alone(spec)
    assert_same_masks(lm, spec, None)


@pytest.mark.parametrize("method", ["wanda", "magnitude", "wanda-variant", "random"])
def test_every_block_has_the_sparsity_it_is_allotted(models, method):
    lm, taken = models["Llama"]
    shares = [0.1, 0.7, 0.3]
    assert_same_masks(lm, PruneSpec(method, 0.5, allocation=shares, order="one-shot"), taken, shares)
    owl = PruneSpec(method, 0.5, allocation="owl", order="one-shot")
    allotment = allotted(owl, lm.walk("read"), taken)
    assert allotment.outlier_ratios
    assert_same_masks(lm, owl, taken, allotment.sparsities)


def test_an_expert_with_too_few_tokens_loses_its_smallest_and_with_enough_its_lowest_scores(models):
    lm, taken = models["Mixtral"]
    spec = PruneSpec("wanda", 0.5, order="one-shot")
    short, enough = (
        next(linear for linear in lm.linears[1] if linear.kind == f"mlp.experts.{expert}.down_proj")
        for expert in (2, 1)
    )
    assert norms_of(short, taken) is None
    assert torch.equal(norms_of(enough, taken).cpu(), taken.norms[enough.name])
    exactly = dataclasses.replace(taken, tokens={**taken.tokens, short.name: LEAST_TOKENS})
    assert norms_of(short, exactly) is not None
    for linear, values in (
        (short, short.weight.abs()),
        (enough, enough.weight.abs() * taken.norms[enough.name].to(enough.weight.device)),
    ):
        removed = removed_of(linear, spec, 0.5, taken)
        for row, gone in zip(values.tolist(), removed.tolist(), strict=True):
            lowest = sorted(range(len(row)), key=row.__getitem__)[: len(row) // 2]
            assert [place for place, flag in enumerate(gone) if flag] == sorted(lowest)


def test_weights_that_are_zero_already_are_among_those_that_go(models, text):
    lm = prune(models["Llama"][0], PruneSpec("magnitude", 0.3)).lm
    taken = profile(lm, calibrate(lm, text, samples=2, seq_len=32))
    assert_same_masks(lm, PruneSpec("wanda", 0.5, order="one-shot"), taken)
    for linear in lm.all_linears:
        removed = removed_of(linear, PruneSpec("magnitude", 0.5, group="row"), 0.5, None)
        zeros = linear.weight == 0
        few = zeros.sum(dim=1) <= linear.shape[1] // 2  # of a row with more some stay
        assert bool(few.any())
        assert bool(removed[few][zeros[few]].all())


def test_columns_that_hear_nothing_go_first_and_by_magnitude(own_llama, text):
    with torch.no_grad():
        own_llama.model.model.layers[0].input_layernorm.weight[[3, 7, 11]] = 0
    taken = profile(own_llama, calibrate(own_llama, text, samples=2, seq_len=32))
    spec = PruneSpec("wanda", 2.5 / 64, order="one-shot")  # two of the three silent columns in every row
    assert_same_masks(own_llama, spec, taken)
    linear = own_llama.linears[0][0]
    removed = removed_of(linear, spec, spec.target, taken)
    assert removed.sum(dim=0).nonzero().flatten().tolist() == [3, 7, 11]
    silent = linear.weight[:, [3, 7, 11]].abs()
    assert torch.equal(silent[~removed[:, [3, 7, 11]]], silent.max(dim=1).values)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_lose_the_same(own_llama, text, dtype):
    own_llama.model.to(dtype)
    taken = profile(own_llama, calibrate(own_llama, text, samples=2, seq_len=32))
    for spec in (PruneSpec("wanda", order="one-shot"), PruneSpec("magnitude"), PruneSpec("ria", order="one-shot")):
        assert_same_masks(own_llama, spec, taken)


@pytest.mark.parametrize("method", ["wanda", "magnitude"])
def test_a_pattern_that_does_not_divide_the_columns_is_refused(models, method):
    lm, taken = models["Llama"]
    spec = PruneSpec(method, pattern="3:5", order="one-shot")
    words = "pattern 3:5 needs a number of input columns divisible by 5, and model.layers.0.self_attn.q_proj has 64; "
    with pytest.raises(InputError, match=f"^{re.escape(words)}choose another pattern$"):
        removed_of(lm.linears[0][0], spec, spec.target, taken)


def test_norms_that_are_needed_and_not_given_are_asked_for_and_never_guessed(models):
    """By magnitude there would be a mask too, and nobody would notice."""
    lm, taken = models["Llama"]
    linear = lm.linears[0][0]
    others = dataclasses.replace(taken, norms={name: held for name, held in taken.norms.items() if name != linear.name})
    for given in (None, others):
        with pytest.raises(
            InputError, match=r"^Wanda 50% needs the norms of model\.layers\.0\.self_attn\.q_proj's inp"
        ):
            removed_of(linear, PruneSpec(order="one-shot"), 0.5, given)
        assert int(removed_of(linear, PruneSpec("magnitude", group="row"), 0.5, given).sum()) == 64 * 32


def test_a_weight_that_is_not_finite_is_refused_by_name(own_llama):
    with torch.no_grad():
        own_llama.model.model.layers[2].mlp.down_proj.weight[3, 5] = float("nan")
    with pytest.raises(ModelError, match=r"model\.layers\.2\.mlp\.down_proj has weights .* not finite"):
        removed_of(own_llama.linears[2][-1], PruneSpec("magnitude"), 0.5, None)


def test_nothing_that_is_given_is_written_to(models):
    lm, taken = models["GPT2"]
    linear = lm.all_linears[-1]
    weight, norms = linear.weight.clone(), taken.norms[linear.name].clone()
    removed_of(linear, PruneSpec(order="one-shot"), 0.5, taken)
    assert torch.equal(linear.weight, weight)
    assert torch.equal(taken.norms[linear.name], norms)
