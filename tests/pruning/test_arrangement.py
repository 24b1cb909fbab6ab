"""Neurons and values in an order in which N:M costs least: hand-worked, against all orders, and the same function."""

import json
from itertools import combinations

import pytest
import torch
from architectures import tiny_model
from families import tiny
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from wanda_core.calibration.profile import profile
from wanda_core.checkpoint.naming import file_stem
from wanda_core.checkpoint.save import save
from wanda_core.errors import InputError, ModelError
from wanda_core.low_memory.prune import prune_to_folder
from wanda_core.machine import distributed
from wanda_core.maths import arrangement
from wanda_core.maths.arrangement import arranged, kept
from wanda_core.model.language_model import LanguageModel
from wanda_core.presets import preset
from wanda_core.progress import finish
from wanda_core.pruning.arrangement import arranged_steps
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec
from wanda_core.report.repeat import Repeat, command, python
from wanda_core.text.windows import calibrate

ARRANGED = PruneSpec("wanda", pattern="2:4", order="one-shot", arrange=True)
# Grouped attention, Conv1D with a fused c_attn, biases, experts fused, gate and up fused, interleaved with biases.
OTHERS = ["diffllama", "gemma3n_text", "jamba", "olmo2", "falcon", "gpt_neox", "qwen3_next", "deepseek_v3"]
STRUCTURES = ["Llama", "GPT2", "OPT", "Mixtral", "Phi3", "GptOss"]


def test_loud_columns_are_spread_over_the_groups():
    scores = torch.tensor([[9.0, 8.0, 7.0, 6.0, 1.0, 1.0, 1.0, 1.0]])
    assert kept(scores, torch.arange(8), 2, 4) == 9 + 8 + 1 + 1
    assert kept(scores, arranged(scores, 2, 4), 2, 4) == 9 + 8 + 7 + 6


def test_who_shares_a_group_matters_where_loudness_says_nothing():
    """Every column is as loud; two rows want four neighbours each that nobody else of them wants."""
    scores = torch.tensor([[1.0, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1.0, 1, 1, 1]])
    assert kept(scores, torch.arange(8), 2, 4) == 4
    assert kept(scores, arranged(scores, 2, 4), 2, 4) == 8


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 6), st.sampled_from([(1, 2), (1, 4), (2, 4), (4, 8)]))
def test_it_is_an_order_and_keeps_no_less(seed, rows, groups, pattern):
    n, m = pattern
    scores = torch.rand(rows, groups * m, generator=torch.Generator().manual_seed(seed)) ** 4
    before = scores.clone()
    order = arranged(scores, n, m)
    assert sorted(order.tolist()) == list(range(groups * m))
    assert kept(scores, order, n, m) >= kept(scores, torch.arange(groups * m), n, m)
    assert torch.equal(scores, before)
    assert torch.equal(order, arranged(scores, n, m))


def test_of_a_large_matrix_some_rows_speak_for_all(monkeypatch):
    scores = torch.rand(64, 32, generator=torch.Generator().manual_seed(0)) ** 4
    by_all = arranged(scores, 2, 4)
    monkeypatch.setattr(arrangement, "MOST_SUMS", 64 * 8**2 // 4)
    by_some = arranged(scores, 2, 4)
    assert not torch.equal(by_some, by_all)
    for order in (by_some, by_all):
        assert sorted(order.tolist()) == list(range(32))
        assert kept(scores, order, 2, 4) > kept(scores, torch.arange(32), 2, 4)


@pytest.mark.parametrize("seed", range(5))
def test_it_comes_close_to_the_best_of_all_orders(seed):
    scores = torch.rand(6, 8, generator=torch.Generator().manual_seed(seed)) ** 4
    every = [[*first, *(set(range(8)) - set(first))] for first in combinations(range(8), 4)]
    best = max(kept(scores, torch.tensor(order), 2, 4) for order in every)
    found = kept(scores, arranged(scores, 2, 4, rounds=40), 2, 4)
    assert 0.97 * best <= found <= best * (1 + 1e-6)


@pytest.mark.parametrize("family", STRUCTURES)
@torch.no_grad()
def test_another_order_is_the_same_function(family, tokenizer):
    lm = tiny(family, tokenizer, "cpu")
    calibration = calibrate(lm, samples=4, seq_len=32)
    taken = profile(lm, calibration)
    before = {name: value.clone() for name, value in lm.model.state_dict().items()}
    found, norms = finish(arranged_steps(lm, ARRANGED, taken))
    said, again = (each.model(calibration.ids).logits for each in (lm, found))
    assert torch.allclose(said, again, atol=1e-4 * float(said.abs().max()))
    after = found.model.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert len(moved) >= 2 * len(lm.linears)
    for name in moved:
        assert torch.equal(after[name].flatten().sort().values, before[name].flatten().sort().values)
    assert all(torch.equal(value, before[name]) for name, value in lm.model.state_dict().items())
    measured = profile(found, calibration).norms
    for name, norm in norms.norms.items():
        assert torch.allclose(norm, measured[name], rtol=1e-3, atol=1e-5), name


def test_values_of_heads_move_where_they_are_told_apart(tiny_llama):
    taken = profile(tiny_llama, calibrate(tiny_llama, samples=4, seq_len=32))
    found, norms = finish(arranged_steps(tiny_llama, ARRANGED, taken))
    name = "model.layers.1.self_attn.o_proj"
    before, after = taken.norms[name], norms.norms[name]
    assert not torch.equal(before, after)
    for head in before.reshape(-1, 16).split(1):  # nothing leaves its head
        at = [i for i in range(0, 64, 16) if torch.equal(after[i : i + 16].sort().values, head[0].sort().values)]
        assert at
    q, k = (f"model.layers.1.self_attn.{kind}_proj.weight" for kind in "qk")
    for name in (q, k):
        assert found.model.get_parameter(name) is tiny_llama.model.get_parameter(name)


@pytest.mark.parametrize("name", OTHERS)
@torch.no_grad()
def test_whatever_cannot_be_told_apart_stays(name, tokenizer):
    """DiffLlama pairs its heads' values, Gemma 3n reads those of earlier blocks, others fuse or compress them."""
    lm = LanguageModel(tiny_model(name, len(tokenizer)), tokenizer, "tiny", "local")
    calibration = calibrate(lm, samples=4, seq_len=32)
    found, norms = finish(arranged_steps(lm, ARRANGED, profile(lm, calibration)))
    said, again = (each.model(calibration.ids).logits for each in (lm, found))
    assert torch.allclose(said, again, atol=1e-4 * float(said.abs().max()))
    measured = profile(found, calibration).norms
    for name, norm in norms.norms.items():
        assert torch.allclose(norm, measured[name], rtol=1e-3, atol=1e-5), name


def test_several_processes_are_refused(tiny_llama, monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 2)
    with pytest.raises(InputError, match="2 processes would each look for an order"):
        finish(arranged_steps(tiny_llama, ARRANGED, None))


def test_a_method_without_norms_looks_at_none(tiny_llama):
    calibration = calibrate(tiny_llama, samples=4, seq_len=32)
    spec = PruneSpec("magnitude", pattern="2:4", arrange=True)
    with_norms = prune(tiny_llama, spec, profile=profile(tiny_llama, calibration))
    for ours, plain in zip(with_norms.lm.all_linears, prune(tiny_llama, spec).lm.all_linears, strict=True):
        assert torch.equal(ours.weight, plain.weight)


def test_it_is_said_in_commands_names_and_the_card(tiny_llama, tmp_path):
    spec = PruneSpec("wanda", pattern="2:4", arrange=True)
    repeat = Repeat("builtin", spec)
    assert (
        command(repeat, "out") == "wanda-lab prune --model builtin --method wanda --pattern 2:4 --arrange --output out"
    )
    assert "wanda.PruneSpec(method='wanda', pattern='2:4', arrange=True)" in python(repeat, "out")
    best = preset("best", pattern="2:4", arrange=True)
    assert "--preset best --pattern 2:4 --arrange" in command(Repeat("builtin", best), "out")
    assert file_stem("m", spec) == "m-wanda-2-4-arranged"
    assert file_stem("m", best) == "m-best-2-4-arranged"
    folder = save(prune(tiny_llama, spec, calibrate(tiny_llama, samples=2, seq_len=32)), tmp_path / "pruned")
    assert "came into another order\nfirst" in (folder / "README.md").read_text()


@pytest.mark.parametrize("order", ["one-shot", "faithful", "in-flight"])
def test_a_model_is_arranged_and_pruned_and_more_of_the_scores_stays(tiny_llama, order):
    calibration = calibrate(tiny_llama, samples=4, seq_len=32)
    said = tiny_llama.model(calibration.ids).logits
    kept_score = {}
    for arrange in (False, True):
        variant = prune(tiny_llama, PruneSpec("wanda", pattern="2:4", order=order, arrange=arrange), calibration)
        total = 0.0
        for linear in variant.lm.all_linears:
            assert ((linear.weight.reshape(-1, 4) == 0).sum(dim=1) == 2).all()
            if linear.kind.endswith(("down_proj", "o_proj")):
                norms = variant.profile.norms[linear.name]
                total += float((linear.weight * norms).square().sum())
        kept_score[arrange] = total
    assert kept_score[True] > 1.01 * kept_score[False]
    assert torch.equal(tiny_llama.model(calibration.ids).logits, said)
    assert variant.label == "Wanda 2:4 arranged"


@pytest.mark.parametrize(
    "spec", [preset("best", pattern="2:4", arrange=True), PruneSpec("magnitude", pattern="2:4", arrange=True)]
)
def test_it_is_saved_as_an_ordinary_folder(tiny_llama, spec, tmp_path):
    calibration = calibrate(tiny_llama, samples=4, seq_len=32)
    variant = prune(tiny_llama, spec, calibration)
    folder = save(variant, tmp_path / "pruned")
    again = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        assert torch.allclose(again(calibration.ids).logits, variant.lm.model(calibration.ids).logits, atol=1e-5)
    record = json.loads((folder / "wanda.json").read_text())
    assert record["recipe"]["arrange"] is True
    assert PruneSpec(**record["recipe"]) == spec
    assert "arrange" not in PruneSpec("wanda", pattern="2:4").to_dict()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"arrange": True}, "choose a pattern such as 2:4"),
        ({"arrange": True, "pattern": "2:4", "method": "random"}, "a method other than random"),
        ({"arrange": 1, "pattern": "2:4"}, "neither true nor false"),
    ],
)
def test_what_means_nothing_is_refused(given, words):
    with pytest.raises(InputError, match=words):
        PruneSpec(**given)


def test_low_memory_and_models_without_neurons_are_refused(tiny_llama, tokenizer, tmp_path):
    with pytest.raises(InputError, match="leave arrange out, or prune in memory"):
        prune_to_folder(tiny_llama, ARRANGED, tmp_path / "out")
    with pytest.raises(ModelError, match="does not tell which rows make which neurons"):
        prune(tiny("Mamba2", tokenizer, "cpu"), ARRANGED)
