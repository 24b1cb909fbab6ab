"""Decoders of every kind, found by structure: exact sparsity, masks by an oracle, the rest untouched, a round trip."""

import copy
import re

import pytest
import torch
import transformers
from oracle import own_name, prune_wanda, taken_apart, weight_of

from wanda_core.calibration import draw
from wanda_core.checkpoint import save
from wanda_core.errors import ModelError
from wanda_core.linears import decoder_blocks
from wanda_core.models import LanguageModel, load_model
from wanda_core.prune import prune
from wanda_core.recipe import PruneSpec

USUAL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
EVEN = {**USUAL, "num_key_value_heads": 4}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": 0, "eos_token_id": 0}
FAMILIES = {
    "Llama": USUAL,
    "Mistral": {**USUAL, "sliding_window": 8},
    "Qwen2": USUAL,
    "Qwen3": USUAL,
    "Gemma": USUAL,
    "Gemma2": {**USUAL, "sliding_window": 8},
    "Gemma3Text": {**USUAL, "num_hidden_layers": 6, "sliding_window": 8},  # every sixth block sees all
    "Phi3": USUAL,
    "OPT": {
        "hidden_size": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "word_embed_proj_dim": 32,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    },
    "GPT2": GPT,
    "GPTNeoX": EVEN,
    "GPTJ": {**GPT, "rotary_dim": 4},
    "Bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0},
    "Falcon": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "new_decoder_architecture": False,
        "multi_query": True,
        "parallel_attn": True,
        "alibi": False,
    },
    "StableLm": EVEN,
    "Olmo2": EVEN,
    "Mamba2": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_heads": 8,
        "head_dim": 8,
        "state_size": 8,
        "n_groups": 2,
        "chunk_size": 8,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    },
}

EXPERTS = {**USUAL, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
DEEPSEEK = {
    **EVEN,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,  # the first block has an ordinary MLP
    "n_group": 2,
    "topk_group": 1,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}
FAMILIES |= {
    "Mixtral": {**USUAL, "num_local_experts": 4, "num_experts_per_tok": 2},
    "Qwen3Moe": EXPERTS,
    "DeepseekV3": DEEPSEEK,
    "GptOss": {
        **USUAL,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 8,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
    "Jamba": {  # Mamba and attention in turn, experts in every second block
        **USUAL,
        "num_hidden_layers": 4,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "mamba_d_state": 4,
        "mamba_d_conv": 2,
        "mamba_expand": 2,
        "mamba_dt_rank": 4,
    },
    "Qwen3Next": {  # three blocks of linear attention, then one of softmax attention
        **EXPERTS,
        "num_hidden_layers": 4,
        "shared_expert_intermediate_size": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    },
}


@pytest.fixture(scope="module")
def calibration():
    generator = torch.Generator().manual_seed(4)
    return draw(torch.randint(1, 250, (500,), generator=generator).tolist(), samples=4, seq_len=16)


def tiny(family: str, tokenizer, device) -> LanguageModel:
    """A random model of a family, its weights large enough that activations differ from column to column."""
    config = getattr(transformers, f"{family}Config")(vocab_size=len(tokenizer), **FAMILIES[family])
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(drawn * 0.15 if parameter.dim() > 1 else 1 + 0.5 * drawn)
    model.requires_grad_(False)
    return LanguageModel(model.eval().to(device), tokenizer, "tiny", "local")


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
