"""Tiny random decoders of every kind, built on the spot."""

import torch
import transformers

from wanda_core.model.language_model import LanguageModel

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
