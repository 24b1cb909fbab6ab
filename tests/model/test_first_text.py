"""Tables that a configuration makes with the first text are counted before it is read."""

import pytest
import torch
from architectures import tiny_config
from transformers import AutoConfig

from wanda_core.errors import ModelError
from wanda_core.model.first_text import bytes_of_first_text
from wanda_core.model.limits import check_count, check_numbers_of

LARGE = 200 * 10**6
REFORMER = {"attn_layers": ["lsh", "local"], "hidden_size": 32}
HASHES = {"num_hashes": 200, "num_buckets": 10**6}


def model_of(config):
    model = torch.nn.Linear(2, 2, bias=False)
    model.config = config
    return model


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("prophetnet", {"max_position_embeddings": 8000}),
        ("cpmant", {"prompt_length": 8000}),
        ("reformer", {**REFORMER, "lsh_attn_chunk_length": 4, "local_attn_chunk_length": 25_000_001}),
        ("reformer", {**REFORMER, "lsh_attn_chunk_length": 4, "local_attn_chunk_length": 2**40 + 1}),
        ("reformer", {"attn_layers": ["lsh"], "lsh_attn_chunk_length": 100_000}),
        ("reformer", {"attn_layers": ["local"], "local_num_chunks_before": 10**6}),
        ("reformer", {"attn_layers": ["lsh"], **HASHES}),
        ("reformer", {"attn_layers": ["lsh"], **HASHES, "num_buckets": [10**6, 10**6]}),
        ("qwen4_exp_text", {"indexer_budget": 10**6}),
    ],
    ids=str,
)
def test_a_setting_that_makes_large_tables_is_refused(kind, settings):
    config = tiny_config(kind, 320)
    check_count("owner/model", model_of(config), 4, 0)
    for name, value in settings.items():
        setattr(config, name, value)
    with pytest.raises(ModelError, match=r"'owner/model' has a config.json that makes tables of [\d.,]+ GB beside its"):
        check_count("owner/model", model_of(config), 4, 0)


ENWIK8 = {
    **{"attn_layers": ["local", "local", "lsh", "local"] * 3, "lsh_attn_chunk_length": 256, "num_buckets": 512},
    **{"local_attn_chunk_length": 128, "hidden_size": 1024, "num_attention_heads": 8, "num_hashes": 4},
}


@pytest.mark.parametrize(
    "settings", [("prophetnet", {}), ("cpmant", {}), ("reformer", {}), ("reformer", ENWIK8)], ids=str
)
def test_what_models_have_is_far_from_it(settings):
    kind, more = settings
    assert bytes_of_first_text(model_of(AutoConfig.for_model(kind, **more))) < LARGE


@pytest.mark.parametrize("name", ["ngram", "pretraining_tp", "num_hashes"])
def test_rounds_of_a_loop_have_a_bound(name):
    check_numbers_of({name: 200}, "owner/model")
    with pytest.raises(ModelError, match=f"has '{name}' 201 in its config.json, and models have 200 at most"):
        check_numbers_of({name: 201}, "owner/model")
