"""The tiny models of every architecture: that they are made, run, look back only, and are read again as saved."""

import importlib.util

import pytest
import torch
from architecture_overrides import OVERRIDES
from architectures import IMPOSSIBLE, NAMES, NOT_CAUSAL, NOT_RELOADABLE, tiny_config, tiny_model
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.utils import logging

VOCABULARY = 320  # tokens
POSSIBLE = [name for name in NAMES if name not in IMPOSSIBLE]
# Plain attention, Conv1D, experts of two designs, state space, a hybrid, and one whose blocks share keys and values.
FEW = ["bloom", "deepseek_v3", "gemma3n_text", "gpt2", "gpt_oss", "jamba", "llama", "mamba", "qwen3_next"]


@pytest.fixture(autouse=True)
def _quiet(transformers_as_before):
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _ids(seed: int, length: int = 12) -> torch.Tensor:
    return torch.randint(1, VOCABULARY, (1, length), generator=torch.Generator().manual_seed(seed))


def _logits(model, ids) -> torch.Tensor:
    with torch.no_grad():
        return model(ids, use_cache=False).logits


def _check_runs(name):
    model = tiny_model(name, VOCABULARY)
    size = sum(parameter.numel() for parameter in model.parameters())
    assert 10_000 < size < 500_000
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    here, there = _logits(model, _ids(1)), _logits(model, _ids(2))
    assert here.shape == (1, 12, VOCABULARY)
    assert torch.isfinite(here).all()
    assert (here - there).abs().max() > 0.05
    return model


def _check_looks_back_only(name, model):
    ids = _ids(1)
    changed = ids.clone()
    changed[0, -1] = ids[0, -1] % (VOCABULARY - 1) + 1
    moved = (_logits(model, ids) - _logits(model, changed)).abs().amax(-1)[0]
    assert moved[-1] > 1e-3
    assert bool(moved[:-1].max() > 1e-4) == (name in NOT_CAUSAL)


@pytest.mark.parametrize("name", FEW)
def test_a_few_run(name):
    _check_looks_back_only(name, _check_runs(name))


@pytest.mark.families
@pytest.mark.parametrize("name", POSSIBLE)
def test_every_architecture_runs_and_is_read_again(name, tmp_path):
    _check_looks_back_only(name, _check_runs(name))
    model = tiny_model(name, VOCABULARY)
    model.save_pretrained(tmp_path)  # before a pass: the first one changes the weights of rwkv
    if name in NOT_RELOADABLE:
        with pytest.raises(ValueError, match="Unrecognized configuration class"):
            AutoModelForCausalLM.from_pretrained(tmp_path)
    read_by = type(model) if name in NOT_RELOADABLE else AutoModelForCausalLM
    again = read_by.from_pretrained(tmp_path)
    torch.testing.assert_close(_logits(again, _ids(1)), _logits(model, _ids(1)), rtol=0, atol=1e-5)


@pytest.mark.families
@pytest.mark.parametrize("name", sorted(IMPOSSIBLE))
def test_the_impossible_ones_still_are(name):
    if name == "gemma3n" and importlib.util.find_spec("timm"):
        pytest.skip("timm is installed")
    with pytest.raises((ImportError, AttributeError, ValueError)):
        _logits(tiny_model(name, VOCABULARY), _ids(1))


def test_every_exception_names_an_architecture_of_transformers():
    assert not (IMPOSSIBLE.keys() | NOT_CAUSAL.keys() | NOT_RELOADABLE.keys()) - set(NAMES)
    assert not OVERRIDES.keys() - CONFIG_MAPPING.keys()


def test_a_hybrid_keeps_one_block_of_each_kind():
    assert tiny_config("qwen3_next", VOCABULARY).layer_types == ["linear_attention", "full_attention"]
    assert tiny_config("axk1", VOCABULARY).mlp_layer_types == ["dense", "sparse"]
    assert tiny_config("llama", VOCABULARY).num_hidden_layers == 2


def test_the_seed_decides_the_weights_and_nothing_else_moves():
    before = torch.random.get_rng_state()
    one, same, other = (tiny_model("llama", VOCABULARY, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])
