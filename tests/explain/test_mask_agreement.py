"""Where masks differ in a whole model, against counting weight by weight: blocks alike, experts, kinds not in all."""

import math
from itertools import combinations

import pytest
import torch
from families import tiny
from recipes import MAGNITUDE, WANDA

from wanda_core.calibration.profile import profile
from wanda_core.explain.mask_agreement import mask_agreement_steps
from wanda_core.progress import Progress, finish
from wanda_core.pruning.one_linear import removed_of
from wanda_core.pruning.prune import prune
from wanda_core.text.windows import calibrate


def by_lot(lm, count):
    """Masks of every linear, each with another share, the last two alike. -> by name"""
    generator = torch.Generator().manual_seed(9)
    found = {}
    for linear in lm.all_linears:
        masks = [
            torch.rand(linear.shape, generator=generator) < 0.2 + 0.1 * i + 0.1 * linear.block for i in range(count)
        ]
        found[linear.name] = [*masks[:-1], masks[-2]] if count > 2 else masks
    return found


def counted(lm, masks, kind, first, second, blocks):
    """Weights of a kind in some blocks on which two masks differ, and all of them, one by one."""
    differ = total = 0
    for linear in lm.all_linears:
        joint = ".".join("*" if part.isdigit() else part for part in linear.kind.split("."))
        if kind in (joint, None) and linear.block in blocks:
            pairs = zip(masks[linear.name][first].flatten(), masks[linear.name][second].flatten(), strict=True)
            differ += sum(bool(one) != bool(other) for one, other in pairs)
            total += linear.weight.numel()
    return differ, total


@pytest.mark.parametrize(("family", "count"), [("Llama", 2), ("Mixtral", 3), ("DeepseekV3", 2)])
def test_shares_are_those_of_counting(tokenizer, family, count):
    lm = tiny(family, tokenizer, "cpu")
    masks = by_lot(lm, count)
    found = finish(mask_agreement_steps(lm, count, lambda linear: masks[linear.name]))
    blocks = range(len(lm.linears))
    assert found.pairs == tuple(combinations(range(count), 2))
    assert found.differ.shape == (len(found.pairs), len(found.kinds), len(blocks))
    assert found.overall.shape == (len(found.pairs),)
    for place, pair in enumerate(found.pairs):
        for row, kind in enumerate(found.kinds):
            for block in blocks:
                differ, total = counted(lm, masks, kind, *pair, [block])
                share = float(found.differ[place, row, block])
                assert math.isnan(share) if not total else share == pytest.approx(differ / total)
        differ, total = counted(lm, masks, None, *pair, blocks)
        assert float(found.overall[place]) == pytest.approx(differ / total)
    assert count < 3 or not found.differ[found.pairs.index((1, 2))].any()


def test_kinds_go_in_the_models_order_and_experts_of_a_layer_are_one(tokenizer):
    kinds = {}
    for family in ("Llama", "Mixtral"):
        lm = tiny(family, tokenizer, "cpu")
        masks = by_lot(lm, 2)
        kinds[family] = finish(mask_agreement_steps(lm, 2, lambda linear, masks=masks: masks[linear.name])).kinds
    attention = tuple(f"self_attn.{letter}_proj" for letter in "qkvo")
    assert kinds["Llama"] == (*attention, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    assert set(kinds["Mixtral"]) == {*attention, "mlp.experts.*.gate_up_proj", "mlp.experts.*.down_proj"}


def test_a_kind_that_a_block_does_not_have_is_no_number_there(tokenizer):
    """The first block of DeepSeek has an ordinary MLP, the second experts."""
    lm = tiny("DeepseekV3", tokenizer, "cpu")
    masks = by_lot(lm, 2)
    found = finish(mask_agreement_steps(lm, 2, lambda linear: masks[linear.name]))
    missing = {kind: row.isnan().tolist() for kind, row in zip(found.kinds, found.differ[0], strict=True)}
    assert missing["mlp.down_proj"] == [False, True]
    assert missing["mlp.experts.*.down_proj"] == [True, False]
    assert missing["self_attn.o_proj"] == [False, False]
    assert bool(torch.isfinite(found.overall).all())


@pytest.mark.parametrize("which", ["tiny_llama", "tiny_gpt2"])
def test_wanda_and_magnitude_differ_as_much_as_the_pruned_models_do(request, device, text, which):
    lm = request.getfixturevalue(which)
    taken = profile(lm, calibrate(lm, text, samples=2, seq_len=16))
    found = finish(
        mask_agreement_steps(
            lm, 2, lambda linear: [removed_of(linear, spec, spec.target, taken) for spec in (WANDA, MAGNITUDE)]
        )
    )
    by_wanda, by_magnitude = prune(lm, WANDA, profile=taken), prune(lm, MAGNITUDE)
    differ = total = 0
    for linear in lm.all_linears:
        zeros = [variant.pruned_weight(linear.name) == 0 for variant in (by_wanda, by_magnitude)]
        share = float((zeros[0] != zeros[1]).float().mean())
        assert share == pytest.approx(float(found.differ[0, found.kinds.index(linear.kind), linear.block]))
        differ, total = differ + int((zeros[0] != zeros[1]).sum()), total + linear.weight.numel()
    assert 0 < float(found.overall[0]) == pytest.approx(differ / total)


def test_progress_goes_block_by_block_to_the_end(tiny_llama):
    steps: list[Progress] = []
    nothing = torch.zeros(1, dtype=torch.bool)
    finish(mask_agreement_steps(tiny_llama, 1, lambda linear: [nothing.expand(linear.shape)]), steps.append)
    assert [(step.done, step.total, step.unit) for step in steps] == [(n, 3, "blocks") for n in range(4)]
    assert steps[-1].fraction == 1


def test_one_recipe_alone_has_no_pair(tiny_llama):
    nothing = torch.zeros(1, dtype=torch.bool)
    found = finish(mask_agreement_steps(tiny_llama, 1, lambda linear: [nothing.expand(linear.shape)]))
    assert found.pairs == ()
    assert found.differ.shape == (0, 7, 3)
    assert found.overall.shape == (0,)
