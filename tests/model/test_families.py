"""Decoders of every kind, found by structure: exact sparsity, masks by an oracle, the rest untouched, a round trip."""

import copy
import re

import pytest
import torch
import transformers
from families import FAMILIES, USUAL, tiny
from oracle import own_name, prune_wanda, taken_apart, weight_of

from wanda_core.checkpoint.save import save
from wanda_core.errors import ModelError
from wanda_core.model.linears import decoder_blocks
from wanda_core.model.loading import load_model
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import draw


@pytest.fixture(scope="module")
def calibration():
    generator = torch.Generator().manual_seed(4)
    return draw(torch.randint(1, 250, (500,), generator=generator).tolist(), samples=4, seq_len=16)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_pruned_as_the_oracle_does_and_comes_back_from_disk(
    device, tokenizer, calibration, tmp_path, family
):
    lm = tiny(family, tokenizer, device)
    found = prune(lm, PruneSpec("wanda", 0.5), calibration)
    names = {linear.name for linear in found.report.linears}
    assert len(names) == sum(len(block) for block in lm.linears) >= 2 * 2
    for linear in found.report.linears:
        assert linear.zeros == linear.shape[0] * int(linear.shape[1] * 0.5)

    expected = taken_apart(copy.deepcopy(lm.model))
    prune_wanda(expected, decoder_blocks(expected)[1], calibration.ids.to(device), sparsity=0.5)
    by_oracle = {own_name(name): module for name, module in expected.named_modules()}
    for linear in (linear for block in found.lm.linears for linear in block):
        differs = (linear.weight != weight_of(by_oracle[linear.name])).float().mean()
        assert differs == 0 if device.type == "cpu" else differs <= 1e-3, linear.name
    dense = dict(lm.model.named_parameters())
    touched = names | {
        re.sub(r"\.\d+(?=\.[a-z_]+$)", "", name) for name in names
    }  # experts.3.down_proj lies in experts.down_proj
    for name, parameter in found.lm.model.named_parameters():
        if name.removesuffix(".weight") not in touched:
            assert parameter is dense[name], f"{name} is not to be pruned"

    again = load_model(str(save(found, tmp_path / "out")), device=device, dtype=torch.float32)
    ids = calibration.ids[:1].to(device)
    with torch.no_grad():
        assert torch.equal(again.model(ids).logits, found.lm.model(ids).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_order_and_update_takes_every_family(device, tokenizer, calibration, family):
    lm = tiny(family, tokenizer, device)
    for spec in (
        PruneSpec("wanda", 0.5, order="in-flight"),
        PruneSpec("ria", 0.5, order="one-shot"),
        PruneSpec("sparsegpt", 0.5),
        PruneSpec("wanda", pattern="2:4", order="in-flight", update="least-squares"),
    ):
        found = prune(lm, spec, calibration)
        assert found.report.sparsity == pytest.approx(0.5, abs=0.01)
        with torch.no_grad():
            assert torch.isfinite(found.lm.model(calibration.ids[:1].to(device)).logits).all()


@pytest.mark.parametrize("family", ["Llama4Text", "JetMoe"])
def test_experts_held_in_another_form_are_refused_by_name(tokenizer, tmp_path, family):
    own = (
        {"intermediate_size_mlp": 48, "interleave_moe_layer_step": 1} if family == "Llama4Text" else {"kv_channels": 8}
    )
    sizes = {**USUAL, "num_local_experts": 4, "num_experts_per_tok": 1, **own}
    config = getattr(transformers, f"{family}Config")(vocab_size=len(tokenizer), **sizes)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(
        ModelError, match=r"holds its experts' weights in a form that is not supported \(\d.*(gate_up|linear)"
    ):
        load_model(str(tmp_path))
