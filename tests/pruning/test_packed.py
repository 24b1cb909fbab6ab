"""Packed variants: a bit a weight, and laid over the dense model they give what the variant gave, bit for bit."""

import pickle

import pytest
import torch
from families import FAMILIES, tiny
from hypothesis import given
from hypothesis import strategies as st
from model_state import assert_same, hooks_of, state_of

from wanda_core.errors import ModelError
from wanda_core.progress import finish
from wanda_core.pruning import packed
from wanda_core.pruning.packed import fits_a_copy, laid_over, needed_bytes, pack, packed_bits, unpacked_bits
from wanda_core.pruning.prune import prune, prune_steps
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import draw


@pytest.fixture(scope="module")
def calibration():
    generator = torch.Generator().manual_seed(4)
    return draw(torch.randint(1, 250, (500,), generator=generator).tolist(), samples=4, seq_len=16)


def logits(lm, calibration):
    with torch.no_grad():
        return lm.model(calibration.ids[:2].to(lm.device)).logits


def parameters(lm):
    return {name: p.clone() for name, p in lm.model.named_parameters(remove_duplicate=False)}


def test_bits_by_hand():
    bits = torch.tensor([[True, False, True], [False, False, False], [False, False, True]])
    assert packed_bits(bits).tolist() == [0b10100000, 0b10000000]
    assert torch.equal(unpacked_bits(packed_bits(bits), (3, 3)), bits)


@given(st.lists(st.booleans(), min_size=0, max_size=70))
def test_bits_come_back_whatever_their_number(bits):
    tensor = torch.tensor(bits, dtype=torch.bool)
    again = packed_bits(tensor)
    assert len(again) == -(-len(bits) // 8)
    assert unpacked_bits(again, (len(bits),)).tolist() == bits


def test_bits_are_unpacked_on_another_device_as_on_the_cpu(device):
    bits = torch.rand(37, 11) > 0.3
    assert torch.equal(unpacked_bits(packed_bits(bits).to(device), (37, 11)).cpu(), bits)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_laid_over_is_the_variant_bit_for_bit(device, tokenizer, calibration, family):
    lm = tiny(family, tokenizer, device)
    before = state_of(lm.model)
    variant = prune(lm, PruneSpec("wanda", 0.5), calibration)
    small = pickle.loads(pickle.dumps(pack(lm, variant)))
    prunable = sum(linear.weight.numel() for linear in lm.all_linears)
    assert not small.changes_weights
    assert abs(small.nbytes - prunable / 8) <= len(small.parameters)  # a part of a byte for each
    assert abs(needed_bytes(lm, variant.spec) - small.nbytes) <= len(small.parameters)
    expected, weights = logits(variant.lm, calibration), parameters(variant.lm)
    with laid_over(lm, small, copied=True) as over:
        assert all(torch.equal(weights[name], p) for name, p in parameters(over).items())
        assert torch.equal(logits(over, calibration), expected)
    with laid_over(lm, small, copied=False) as over:
        assert torch.equal(logits(over, calibration), expected)
        assert not torch.equal(logits(lm, calibration), expected)  # beside it the dense model stays dense
        assert torch.equal(logits(over, calibration), expected)
    assert torch.equal(logits(over, calibration), logits(lm, calibration))  # lifted off
    for linear in variant.lm.all_linears:
        assert torch.equal(small.pruned_weight(lm, linear.name), linear.weight), linear.name
    assert_same(before, state_of(lm.model))


@pytest.mark.parametrize("spec", [PruneSpec("sparsegpt", 0.5), PruneSpec("wanda", 0.5, update="least-squares")])
def test_changed_weights_are_kept_whole(own_llama, calibration, spec):
    variant = prune(own_llama, spec, calibration)
    whole = pack(own_llama, variant)
    assert whole.changes_weights
    assert whole.nbytes == needed_bytes(own_llama, spec) == 4 * sum(w.weight.numel() for w in own_llama.all_linears)
    for copied in (True, False):
        with laid_over(own_llama, whole, copied) as over:
            assert torch.equal(logits(over, calibration), logits(variant.lm, calibration))


@pytest.mark.parametrize("family", ["Llama", "GPT2", "Qwen3Moe", "Jamba"])
@pytest.mark.parametrize("order", ["faithful", "in-flight", "one-shot"])
def test_a_model_packed_block_by_block_is_the_same_and_holds_no_second_copy(
    device, tokenizer, calibration, family, order
):
    lm = tiny(family, tokenizer, device)
    spec = PruneSpec("wanda", 0.5, order=order)
    usual = prune(lm, spec, calibration)
    tight = finish(prune_steps(lm, spec, calibration, make_twin=packed.packing_twin))
    dense = dict(lm.model.named_parameters())
    assert all(p is dense[name] for name, p in tight.lm.model.named_parameters())
    assert torch.equal(logits(tight.lm, calibration), logits(usual.lm, calibration))
    expected, small = pack(lm, usual), pack(lm, tight)
    assert expected.parameters.keys() == small.parameters.keys()
    for name, parameter in expected.parameters.items():
        assert torch.equal(parameter.kept, small.parameters[name].kept), name
    assert hooks_of(lm.model) == 0


def test_a_block_that_fails_leaves_the_dense_weights_in_their_place(own_llama, calibration):
    small = pack(own_llama, prune(own_llama, PruneSpec(), calibration))
    dense = dict(own_llama.model.named_parameters())
    with laid_over(own_llama, small, copied=False) as over:
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the model makes of a wrong width
            over.model.model.layers[0](torch.zeros(1, 2, 3))
        assert all(p is dense[name] for name, p in over.model.named_parameters())


def test_a_variant_of_another_state_of_the_model_is_refused(tiny_llama, own_llama, calibration):
    small = pack(own_llama, prune(own_llama, PruneSpec(), calibration))
    other = type(own_llama)(own_llama.model, own_llama.tokenizer, "tiny", "another")
    with pytest.raises(ModelError, match="prune it again"), laid_over(other, small):
        pass


def test_memory_decides_whether_there_is_a_copy(own_llama, calibration, monkeypatch):
    small = pack(own_llama, prune(own_llama, PruneSpec(), calibration))
    dense = dict(own_llama.model.named_parameters())
    for free, copies in ((2**40, True), (1000, False)):
        monkeypatch.setattr(packed, "free_memory", lambda device, free=free: free)
        assert fits_a_copy(own_llama) == copies
        with laid_over(own_llama, small) as over:
            assert any(p is not dense[name] for name, p in over.model.named_parameters()) == copies


def test_a_variant_is_packed_one_parameter_a_step(tiny_llama, monkeypatch):
    made, most, whole = [], 0, packed.pack_parameter
    monkeypatch.setattr(packed, "pack_parameter", lambda *given: made.append(given) or whole(*given))
    steps = packed.pack_steps(tiny_llama, prune(tiny_llama, PruneSpec("magnitude", 0.5)))
    for step in steps:
        most, seen = max(most, len(made)), step
        made.clear()
    assert (most, seen.fraction) == (1, 1.0)
