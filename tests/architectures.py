"""A tiny random causal language model of every architecture that transformers knows.

The settings are read off each architecture's own configuration: sizes shrink by the name of the field, and the blocks
are cut down to one of each kind. What rules cannot know stands in `architecture_overrides`, by model type.
"""

from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from typing import Any

import torch
from architecture_overrides import IMPOSSIBLE, NOT_CAUSAL, NOT_RELOADABLE, OVERRIDES
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

__all__ = ["IMPOSSIBLE", "NAMES", "NOT_CAUSAL", "NOT_RELOADABLE", "tiny_config", "tiny_model"]

NAMES: tuple[str, ...] = tuple(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))

# The largest value that a field of that name keeps; a smaller default stays.
_GROUPS = {
    256: "max_position_embeddings n_positions n_ctx max_seq_len max_target_positions context_length model_max_length",
    64: "position_embedding_size num_position_embeddings encoder_hash_byte_group_vocab",
    48: "intermediate_size intermediate_size_mlp dense_intermediate_size ffn_dim ffn_hidden_size decoder_ffn_dim "
    "encoder_ffn_dim feed_forward_size dff dim_ff d_inner mlp_dim",
    32: "hidden_size hidden_size_global d_model n_embd emb_dim embedding_dim embedding_size input_embedding_size "
    "output_embedding_size word_embed_proj_dim lru_width vision_output_dim mm_embed_dim output_proj_dims image_size",
    16: "moe_intermediate_size expert_ffn_hidden_size shared_expert_intermediate_size shared_experts_intermediate_size "
    "shared_intermediate_size moe_shared_expert_intermediate_size prefix_dense_intermediate_size "
    "hidden_size_per_layer_input q_lora_rank kv_lora_rank o_lora_rank adapter_rank router_hidden_size index_head_dim "
    "dim_model_base mm_posemb_size rel_extent",
    8: "head_dim d_head dim_head attention_head_size v_head_dim qk_nope_head_dim qk_rope_head_dim swa_head_dim "
    "linear_head_dim linear_key_head_dim linear_value_head_dim kv_channels mamba_d_head mamba_head_dim mamba_num_heads "
    "mamba_n_heads sliding_window sliding_window_size window_size attention_window_size attention_chunk_size "
    "local_attention local_attention_window_len chunk_size mamba_chunk_size block_size rotary_dim index_topk "
    "patch_size",
    4: "num_attention_heads n_head n_heads num_heads attention_heads decoder_attention_heads encoder_attention_heads "
    "num_decoder_attention_heads num_encoder_attention_heads swa_num_attention_heads index_n_heads linear_num_heads "
    "linear_num_value_heads num_experts n_routed_experts num_local_experts moe_num_experts state_size mamba_d_state "
    "ssm_state_size laurel_rank mamba_dt_rank time_step_rank gated_norm_rank",
    2: "num_key_value_heads num_kv_heads swa_num_key_value_heads linear_num_key_heads n_groups o_groups n_group "
    "num_expert_group index_topk_blocks moe_num_shared_experts",
    1: "topk_group first_k_dense_replace num_dense_layers n_shared_experts num_shared_experts",
}
_LARGEST = {name: size for size, names in _GROUPS.items() for name in names.split()}

# Fields that get the same value whatever their default, `None` included.
_ALWAYS = {
    "eos_token_id": 0,
    "bos_token_id": 0,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
    "head_dim": 8,
    "num_key_value_heads": 2,
    "num_experts_per_tok": 2,
    "num_experts_per_token": 2,
    "moe_topk": 2,
    "moe_k": 2,
    "is_decoder": True,  # BERT and its kin attend to both sides otherwise
}
_VOCABULARY = {"vocab_size", "vocab_size_per_layer_input"}
_LAYERS = {
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "decoder_layers",
    "encoder_layers",
    "num_decoder_layers",
    "num_encoder_layers",
    "num_blocks",
    "depth",
}
_PER_LAYER = (  # lists with an entry for each block
    "layer_types",
    "mlp_layer_types",
    "layers_block_type",
    "indexer_types",
    "no_rope_layers",
    "layer_rope_theta",
)
# One-dimensional parameters that multiply, by a part of their name.
_AROUND_ONE = ("norm", "scale", "residual")
_COMMON = {field.name for field in fields(PreTrainedConfig)}


def tiny_config(model_type: str, vocab_size: int) -> PreTrainedConfig:
    """Return the configuration of a model of some ten thousand parameters, with every kind of block at least once."""
    kind = CONFIG_MAPPING[model_type]
    return kind(**_settings(kind, vocab_size, OVERRIDES.get(model_type, {})))


def tiny_model(model_type: str, vocab_size: int, seed: int = 0) -> nn.Module:
    """Return a random model of that architecture, its weights large enough that activations differ by column.

    It is in evaluation mode and asks for no gradients. Buffers are as the class makes them, but for a table of experts
    by token, which must not send every token to the same one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(tiny_config(model_type, vocab_size))
    generator = torch.Generator().manual_seed(seed + 1)
    norms = {id(p) for m in model.modules() if "norm" in type(m).__name__.lower() for p in m.parameters(recurse=False)}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(_scaled(noise, name, id(parameter) in norms))
        for name, buffer in model.named_buffers():
            if name.endswith("tid2eid"):  # the experts of each token, which checkpoints bring; the class has zeros
                drawn = torch.rand(len(buffer), model.config.n_routed_experts, generator=generator)
                buffer.copy_(drawn.argsort(dim=-1)[:, : buffer.shape[1]])
    return model.eval().requires_grad_(False)


def _scaled(noise: Tensor, name: str, of_norm: bool) -> Tensor:
    """Scale standard normal noise to what the parameter of that name may hold without dying out or overflowing."""
    last = name.rpartition(".")[2]
    if noise.dim() > 1:
        return noise * 0.15
    if not last.endswith("bias") and (of_norm or any(word in name for word in _AROUND_ONE)):
        return 1 + 0.3 * noise
    return noise * 0.1


def _settings(kind: type[PreTrainedConfig], vocab_size: int, own: dict[str, Any]) -> dict[str, Any]:
    """Return what a configuration class is called with. own: settings that take precedence, nested for its parts."""
    defaults = {f.name: _default(f) for f in fields(kind) if f.name not in _COMMON}
    lists = _one_of_each(kind, defaults.keys()) if not own.keys() & set(_PER_LAYER) else {}
    layers = max([2, *(len(own.get(name) or lists.get(name, ())) for name in _PER_LAYER)])
    settings: dict[str, Any] = {}
    for name, default in defaults.items():
        if name in _VOCABULARY:
            settings[name] = vocab_size
        elif name in _ALWAYS:
            settings[name] = _ALWAYS[name]
        elif name in _LAYERS and default is not None:
            settings[name] = layers
        elif name in lists:
            settings[name] = lists[name]
        elif "drop" in name and isinstance(default, (int, float)) and not isinstance(default, bool):
            settings[name] = 0.0
        elif name in _LARGEST and type(default) is int:
            settings[name] = min(default, _LARGEST[name])
    if "kv_lora_rank" in defaults:  # latent attention expands the latent to one key per query head
        settings["num_key_value_heads"] = settings["num_attention_heads"]
    parts = {name: _part(spec, vocab_size, own.get(name, {})) for name, spec in kind.sub_configs_defaults.items()}
    return settings | own | parts


def _part(spec: Any, vocab_size: int, own: dict[str, Any] | None) -> PreTrainedConfig | None:
    """Return the configuration of one part of a composite model, or None where it is left out."""
    if own is None:
        return None
    named = spec.config_class is AutoConfig
    kind = CONFIG_MAPPING[spec.model_type] if named else spec.config_class
    return kind(**_settings(kind, vocab_size, OVERRIDES.get(kind.model_type, {}) | own))


def _one_of_each(kind: type[PreTrainedConfig], names: Iterable[str]) -> dict[str, list[Any]]:
    """Return the lists of the default configuration that say what each block is, cut down to one block of each kind."""
    told = [name for name in _PER_LAYER if name in names]
    if not told:
        return {}
    full = kind()
    depth = full.num_hidden_layers
    lists = {name: getattr(full, name) for name in told}
    lists = {name: values for name, values in lists.items() if isinstance(values, list) and len(values) == depth}
    kinds = list(dict.fromkeys(zip(*lists.values(), strict=True)))
    if len(kinds) == 1:
        kinds *= 2
    return {name: [values[i] for values in kinds] for i, name in enumerate(lists)}


def _default(field: Field) -> Any:
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else None
