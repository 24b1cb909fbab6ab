"""What the rules of `architectures` cannot know, by model type: settings and their reasons, and what cannot be made."""

from typing import Any

_WHOLE = "AutoModelForCausalLM hands its class the configuration of the whole model, where the decoder's is expected"
_DRAFTS = "it drafts for another model, and runs only on that model's embeddings, keys and values"
_PART = "the model keeps the configuration of the text part only, whose model type AutoModelForCausalLM does not know"

# Model types that cannot be made, or cannot read token ids alone, each with the reason.
IMPOSSIBLE: dict[str, str] = {
    "gemma3n": "its image tower needs the package timm",
    "gemma4_assistant": _DRAFTS,
    "gemma4_unified_assistant": _DRAFTS,
    "musicgen": _WHOLE,
    "musicgen_melody": _WHOLE,
}

# Model types that can be made but are no causal decoders: a logit depends on tokens that come later.
NOT_CAUSAL: dict[str, str] = {"cpmant": "its mask lets all tokens of the prompt see each other"}

# Model types whose saved model AutoModelForCausalLM does not read back; their own class does.
NOT_RELOADABLE: dict[str, str] = {"emu3": _PART, "mllama": _PART}

_HYBRID = ["linear_attention", "full_attention"]
_LOCAL_AND_GLOBAL = ["sliding_attention", "full_attention"]
_DENSE_AND_SPARSE = ["dense", "sparse"]
_ALL_SHARED = {  # what a drafting model is checked for
    "hidden_size_per_layer_input": 0,
    "vocab_size_per_layer_input": 0,
    "num_kv_shared_layers": 2,
    "enable_moe_block": False,
}

OVERRIDES: dict[str, dict[str, Any]] = {
    # Kinds of blocks that the default configuration has not, or only in more blocks than two.
    "bamba": {"attn_layer_indices": [1]},
    "cohere2_moe": {
        "layer_types": _LOCAL_AND_GLOBAL,
        "mlp_layer_types": _DENSE_AND_SPARSE,
        "num_shared_experts": 1,
    },
    "cohere_compass_text": {  # positions by kind of block, none where it sees all
        "layer_types": _LOCAL_AND_GLOBAL,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]},
            "full_attention": None,
        },
    },
    "deepseek_v4": {  # a window, both compressions with pieces that few tokens fill, both ways to choose experts
        "layer_types": ["sliding_attention", "heavily_compressed_attention", "compressed_sparse_attention"],
        "mlp_layer_types": ["hash_moe", "moe", "moe"],
        "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 8},
    },
    "deepseek_v2": {"first_k_dense_replace": 1},
    "dots1": {"first_k_dense_replace": 1, "n_routed_experts": 4, "n_shared_experts": 1},
    "flint": {"mlp_only_layers": [0]},
    "gemma3n_text": {  # the last two blocks use the keys and values of the first two, whose activations are sparse
        "num_hidden_layers": 4,
        "layer_types": _LOCAL_AND_GLOBAL * 2,
        "num_kv_shared_layers": 2,
        "activation_sparsity_pattern": [0.95, 0.95, 0.0, 0.0],
    },
    "gemma4": {  # as the small ones: shared keys and values, inputs of their own for every block
        "text_config": {
            "num_hidden_layers": 4,
            "layer_types": _LOCAL_AND_GLOBAL * 2,
            "num_kv_shared_layers": 2,
            "hidden_size_per_layer_input": 16,
            "use_double_wide_mlp": True,
            "attention_k_eq_v": False,
            "enable_moe_block": False,
        },
        "audio_config": None,
    },
    "gemma4_text": {  # as the large ones: experts beside the MLP, keys that serve as values
        "global_head_dim": 16,
        "num_global_key_value_heads": 1,
        "attention_k_eq_v": True,
        "hidden_size_per_layer_input": 0,
        "enable_moe_block": True,
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 16,
    },
    "glm_moe_dsa": {  # the second block uses the tokens that the first one selected
        "mlp_layer_types": _DENSE_AND_SPARSE,
        "indexer_types": ["full", "shared"],
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": _HYBRID},
    "inkling2_text": {"layer_types": ["hybrid_sliding", "hybrid"] * 2, "n_layers_per_attn_res_block": 2},
    "inkling_text": {"layer_types": ["hybrid_sliding", "hybrid"], "mlp_layer_types": _DENSE_AND_SPARSE},
    "jamba": {  # Mamba, Mamba with experts, attention, Mamba with experts
        "num_hidden_layers": 4,
        "attn_layer_period": 4,
        "attn_layer_offset": 2,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
    },
    "laguna": {"layer_types": _LOCAL_AND_GLOBAL, "num_attention_heads_per_layer": [4, 8]},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "conv", "full_attention"]},  # the first has no experts
    "llama4_text": {"moe_layers": [1]},  # every second block has experts, as in Maverick
    "mellum": {"layer_types": _LOCAL_AND_GLOBAL, "mlp_layer_types": _DENSE_AND_SPARSE},
    "minimax_m3_vl_text": {
        "layer_types": ["full_attention", "minimax_m3_sparse"],
        "mlp_layer_types": _DENSE_AND_SPARSE,
        "index_block_size": 4,
    },
    "mllama_text_model": {"num_hidden_layers": 3, "cross_attention_layers": [1]},  # text passes the second one by
    "qwen4_exp_text": {  # n-gram embeddings and sparse attention are off by default
        "ple_layer_ids": [1],
        "ple_embed_dim": 32,
        "heads_per_ngram": 2,
        "ngram_vocab_size_base": 64,
        "make_ngram_vocab_size_divisible_by": 8,
        "split_ngram_parts": 2,
        "hc_lowrank": 8,
        "indexer_n_heads": 4,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 8,
        "indexer_compress_ratio": 4,
    },
    "recurrent_gemma": {"num_hidden_layers": 3},  # two recurrent blocks, then one with attention
    "rwkv": {"rescale_every": 1},  # the first pass halves weights from the second block on, and what enters it
    "zamba": {"layers_block_type": ["linear_attention", "hybrid"] * 2},  # all hybrid blocks have the same attention
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"] * 2},
    "zaya": {"layer_types": ["hybrid", "hybrid_sliding"], "sliding_window": 8, "num_experts_per_tok": 1},  # no more
    # Experts that are fewer, or none, by default.
    "granitemoe_swa": {"shared_intermediate_size": 16},
    "granitemoeshared": {"shared_intermediate_size": 16},
    "hunyuan_v1_moe": {"num_experts": 4},
    "longcat_flash": {"zero_expert_num": 2},
    # What looks both ways by default.
    "xlm": {"causal": True},
    "xlnet": {"attn_type": "uni"},
    # Defaults that transformers itself cannot run or read again.
    "dbrx": {  # clipping needs a bound, rotation a base; the parts of this configuration are plain settings
        "attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8},
        "ffn_config": {"ffn_hidden_size": 16, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "xmod": {"default_language": "en_XX"},
    "youtu": {"pad_token_id": None},  # loading sets the row of the padding token to zero
    # Sizes that depend on each other, or have names that no rule knows.
    "blt": {  # as the real one: most lies in the transformer over patches, wider than its bytes; the text says how many
        "patching_threshold": 5.35,  # nats, where a uniform choice of 320 has 5.77
        "global_config": {"num_hidden_layers": 4, "hidden_size": 64, "encoder_cross_output_size": None},
        "encoder_config": {"num_hidden_layers": 1, "hidden_size_global": 64},
        "decoder_config": {"hidden_size_global": 64},
    },
    "dots3_note": {
        "vision_config": {"adapter_in_dim": 32, "adapter_out_dim": 32},
        "audio_config": {"adapter_input_size": 32, "adapter_out_dim": 32},
    },
    "dots3_note_text": {  # blocks with a window have sizes of their own
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 4,
        "swa_q_lora_rank": 16,
        "swa_kv_lora_rank": 16,
        "swa_head_dim": 16,
        "swa_qk_nope_head_dim": 8,
        "swa_v_head_dim": 8,
        "sliding_window": 8,
    },
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma4_assistant": {"text_config": _ALL_SHARED},
    "gemma4_unified_assistant": {"text_config": _ALL_SHARED},
    "gemma4_unified_text": {"global_head_dim": 16},
    "got_ocr2": {"vision_config": {"window_size": 2, "output_channels": 8}},
    "mamba2": {"num_heads": 8},  # heads times their size is twice the hidden size
    "phi4_multimodal": {  # towers smaller than the decoder, as in the real one
        "audio_config": {
            "num_blocks": 1,
            "hidden_size": 16,
            "ext_pw_out_channel": 16,
            "depthwise_separable_out_channel": 16,
            "nemo_conv_channels": 8,
        },
        "vision_config": {"num_hidden_layers": 1, "hidden_size": 16},
    },
    "reformer": {  # the axes multiply to the positions; hashing draws afresh in every pass unless seeded
        "attn_layers": ["local", "lsh"],
        "axial_pos_shape": [16, 16],
        "axial_pos_embds_dim": [16, 16],
        "local_attn_chunk_length": 8,
        "lsh_attn_chunk_length": 8,
        "num_buckets": 4,
        "hash_seed": 0,
    },
    "roc_bert": {
        "shape_vocab_size": 320,
        "shape_embed_dim": 16,
        "pronunciation_vocab_size": 320,
        "pronunciation_embed_dim": 16,
    },
}
