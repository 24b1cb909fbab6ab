"""Rotary positions of a stranger's configuration: what no model has is refused; a long text leaves nothing."""

import pytest
from configured import configure

from wanda_core.errors import ModelError
from wanda_core.evaluation.perplexity import perplexity
from wanda_core.model.folder import checked_config
from wanda_core.model.loading import load_model

FACTORS = [1.0 + 0.1 * i for i in range(8)]  # of heads of 16 numbers
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
REAL = [
    {"rope_type": "linear", "factor": 4.0},
    {"rope_type": "dynamic", "factor": 2.0},
    {"type": "dynamic", "factor": 8},
    {"rope_type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1, "mscale": 0.707, "mscale_all_dim": 0.0},
    {**LLAMA3, "original_max_position_embeddings": 128},
    {"rope_type": "longrope", "short_factor": FACTORS, "long_factor": FACTORS, "factor": 2.0},
    {"rope_type": "default"},
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scaling", REAL, ids=str)
def test_what_models_have_is_taken(folder, scaling):
    configure(folder, rope_scaling=scaling, max_position_embeddings=256)
    assert checked_config(folder, "owner/model")


@pytest.mark.parametrize(
    ("said", "scaling", "more"),
    [
        ("'factor' -1.0", {"rope_type": "dynamic", "factor": -1.0}, {}),
        ("'factor' 0", {"rope_type": "linear", "factor": 0}, {}),
        ("'factor' nan", {"rope_type": "yarn", "factor": float("nan")}, {}),
        ("'rope_theta' inf", {"rope_type": "default", "rope_theta": float("inf")}, {}),
        ("'long_factor' 0.0", {"rope_type": "longrope", "short_factor": FACTORS, "long_factor": [0.0] * 8}, {}),
        ("'original_max_position_embeddings' 0", {**LLAMA3, "original_max_position_embeddings": 0}, {}),
        ("'max_position_embeddings' -1", {"rope_type": "dynamic", "factor": 2.0}, {"max_position_embeddings": -1}),
        ("'max_position_embeddings' -5", {"rope_type": "dynamic", "factor": 2.0}, {"max_position_embeddings": -5}),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_no_model_has_is_refused_by_its_name(folder, said, scaling, more):
    configure(folder, rope_scaling=scaling, rope_parameters=scaling, **more)
    expected = f"has {said} in its config.json, and rotary positions need a number above 0; repair it or choose another"
    with pytest.raises(ModelError) as refused:
        checked_config(folder, "owner/model")
    assert expected in str(refused.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("alibi", [{}, {"alibi": True}], ids=str)
@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "dynamic", "factor": 4.0},
        {"rope_type": "longrope", "factor": 4.0, "short_factor": FACTORS, "long_factor": [9.0] * 8},
    ],
    ids=str,
)
def test_a_text_after_a_long_one_is_read_as_it_is_alone(folder, text, scaling, alibi):
    scaling = scaling | {"original_max_position_embeddings": 32}
    configure(folder, rope_scaling=scaling, rope_parameters=scaling, max_position_embeddings=128, **alibi)
    lm = load_model(str(folder), device="cpu")
    assert lm.longest == 128
    alone = perplexity(lm, text, seq_len=16, windows=2)
    perplexity(lm, text, seq_len=128, windows=1)
    assert perplexity(lm, text, seq_len=16, windows=2) == alone


TWO = {"layer_types": ["full_attention", "sliding_attention", "full_attention"], "model_type": "gemma3_text"}
GEMMA = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("outer", [{}, {"rope_type": "default"}, {"type": "dynamic"}], ids=str)
def test_settings_of_kinds_of_blocks_are_looked_at_whatever_stands_beside_them(folder, outer):
    configure(folder, **TWO, rope_parameters=outer | GEMMA)
    assert checked_config(folder, "owner/model")
    grows = {"full_attention": {"rope_type": "dynamic", "factor": -1.0, "rope_theta": 10_000.0}}
    configure(folder, rope_parameters=outer | GEMMA | grows)
    with pytest.raises(ModelError, match=r"has 'factor' -1\.0 in its config\.json, and rotary positions need"):
        checked_config(folder, "owner/model")
    grows["full_attention"]["factor"] = 2.0
    configure(folder, rope_parameters=outer | GEMMA | grows, max_position_embeddings=-1)
    with pytest.raises(ModelError, match="has 'max_position_embeddings' -1 in its config"):
        checked_config(folder, "owner/model")
