"""How much each block's pruning harms the output: against plain forward passes, and what allocation `measured` does."""

import copy
import dataclasses
import random
from collections import Counter

import pytest
import torch
from architectures import tiny_model
from families import tiny
from torch.nn.functional import kl_div

from wanda_core.calibration.batching import Batches
from wanda_core.calibration.profile import Profile, check_matches, load_profile, profile, save_profile
from wanda_core.errors import InputError
from wanda_core.maths.sensitivity import AT, Sensitivities
from wanda_core.model.block_calls import BlockCall
from wanda_core.model.language_model import LanguageModel
from wanda_core.progress import finish
from wanda_core.pruning import sensitivity
from wanda_core.pruning.allocation import allotted
from wanda_core.pruning.prune import needs_text, prune, prune_steps
from wanda_core.pruning.sensitivity import sensitivity_steps
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import calibrate

MEASURED = PruneSpec("wanda", 0.6, order="one-shot", allocation="measured")
# Plain, Conv1D, learned positions, experts in a list and fused, two kinds of attention, state space.
STRUCTURES = ["Llama", "GPT2", "OPT", "Mixtral", "Gemma3Text", "GptOss", "Mamba2"]


def by_plain_passes(lm, ids, taken: Profile, every: int) -> list[list[float]]:
    """The same figures by whole forward passes of a copy of which one block is pruned, sorted row by row."""
    dense = [lm.model(window[None]).logits[0, ::every].double().log_softmax(-1) for window in ids]
    found = []
    for block in range(len(lm.linears)):
        of_block = []
        for share in AT:
            other = copy.deepcopy(lm.model)
            pruned = dataclasses.replace(lm, model=other)
            for linear in pruned.linears[block]:
                score = linear.weight.abs() * taken.norms[linear.name]
                lowest = score.sort(dim=1, stable=True).indices[:, : int(score.shape[1] * share)]
                linear.replace(linear.weight.scatter(1, lowest, 0.0))
            said = [other(window[None]).logits[0, ::every].double().log_softmax(-1) for window in ids]
            losses = [kl_div(q, p, log_target=True, reduction="sum") / len(p) for q, p in zip(said, dense, strict=True)]
            of_block.append(float(torch.stack(losses).mean()))
        found.append(of_block)
    return found


@pytest.fixture
def calibrated(tiny_llama):
    calibration = calibrate(tiny_llama, samples=3, seq_len=24)
    return calibration, profile(tiny_llama, calibration)


@pytest.mark.parametrize("family", STRUCTURES)
@torch.no_grad()
def test_each_block_alone_as_in_whole_passes(family, tokenizer):
    lm = tiny(family, tokenizer, "cpu")
    calibration = calibrate(lm, samples=5, seq_len=40)  # experts that are sent few tokens would go by magnitude
    taken = profile(lm, calibration)
    before = {name: value.clone() for name, value in lm.model.state_dict().items()}
    found = finish(sensitivity_steps(lm, calibration, taken)).sensitivities
    assert all(torch.equal(value, before[name]) for name, value in lm.model.state_dict().items())
    expected = by_plain_passes(lm, calibration.ids[: sensitivity.WINDOWS], taken, sensitivity.EVERY)
    assert torch.allclose(torch.tensor(found.losses), torch.tensor(expected), rtol=2e-2, atol=1e-6)
    assert (found.windows, found.seq_len) == (4, 40)


def test_the_budget_is_met_and_the_sensitive_keep_more(tiny_llama, calibrated):
    calibration, taken = calibrated
    variant = prune(tiny_llama, MEASURED, calibration)
    measured = variant.report.sensitivities
    assert len(measured.losses) == len(variant.report.blocks) == 3
    assert sum(variant.report.blocks) / len(variant.report.blocks) == pytest.approx(0.6)
    assert len(set(variant.report.blocks)) == len(variant.report.blocks)
    assert variant.report.sparsity == pytest.approx(0.6, abs=0.03)  # whole weights of short rows
    again = prune(tiny_llama, MEASURED, profile=dataclasses.replace(taken, sensitivities=measured))
    assert again.report.blocks == variant.report.blocks
    assert again.report.sensitivities == measured


def test_another_sparsity_reads_no_text_again(tiny_llama, calibrated, tmp_path):
    calibration, taken = calibrated
    kept = finish(sensitivity_steps(tiny_llama, calibration, taken))
    assert needs_text(MEASURED, taken)
    assert not needs_text(MEASURED, kept)
    stages = [step.stage for step in prune_steps(tiny_llama, dataclasses.replace(MEASURED, sparsity=0.4), profile=kept)]
    assert set(stages) == {"pruning"}
    read = load_profile(save_profile(kept, tmp_path / "norms.safetensors"))
    assert read.sensitivities == kept.sensitivities
    assert load_profile(save_profile(taken, tmp_path / "norms.safetensors")).sensitivities is None


def test_cancelled_at_any_step_the_dense_model_is_as_before(tiny_llama, calibrated):
    calibration, taken = calibrated
    before = {name: value.clone() for name, value in tiny_llama.model.state_dict().items()}
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in tiny_llama.model.modules())
    count = len(list(sensitivity_steps(tiny_llama, calibration, taken)))
    for stop in sorted(random.Random(0).sample(range(1, count), 20)):
        steps = sensitivity_steps(tiny_llama, calibration, taken)
        for _ in range(stop):
            next(steps)
        steps.close()
    modules = tiny_llama.model.modules()
    assert hooks == sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)
    assert all(torch.equal(value, before[name]) for name, value in tiny_llama.model.state_dict().items())


def test_between_two_steps_one_call_is_run_or_one_stream_compared(tiny_llama, calibrated, monkeypatch):
    """Who leaves is waited for until the next step, and the last of many blocks is run for twice as many streams."""
    calibration, taken = calibrated
    done = []
    for holder, name in ((BlockCall, "run"), (sensitivity, "predictions"), (sensitivity, "removed_of")):
        whole = getattr(holder, name)
        counted = lambda *args, name=name, whole=whole: done.append(name) or whole(*args)  # noqa: E731
        monkeypatch.setattr(holder, name, counted)
    monkeypatch.setattr(Batches, "size", lambda *_: 1)
    in_one: dict[str, list[Counter]] = {"sensitivity": [], "agreement": []}
    before = "reading"
    for step in sensitivity_steps(tiny_llama, calibration, taken):
        in_one.setdefault(before, []).append(Counter(done))
        done.clear()
        before = step.stage
    blocks, windows = len(tiny_llama.linears), len(calibration.ids)
    runs = windows * sum(1 + 2 * index + len(AT) for index in range(blocks))
    assert sum(count["run"] for count in in_one["sensitivity"]) == runs
    assert max(count.total() for count in in_one["sensitivity"]) == 1
    assert sum(count["predictions"] for count in in_one["agreement"]) == windows * (1 + len(AT) * blocks)
    assert max(count.total() for count in in_one["agreement"]) == 2  # the dense model's and one stream's


@pytest.mark.parametrize("spec", [PruneSpec("magnitude", 0.6, allocation="measured"), MEASURED])
def test_without_sensitivities_it_says_what_to_do(spec, tiny_llama, calibrated):
    with pytest.raises(InputError, match=r"needs a profile .* with sensitivities; measure one"):
        allotted(spec, tiny_llama.walk("read"), calibrated[1])


def test_a_profile_of_another_model_is_refused(tiny_llama, calibrated):
    other = dataclasses.replace(calibrated[1], sensitivities=Sensitivities(((0.1, 0.2),), 4, 24))
    with pytest.raises(InputError, match="sensitivities of 1 blocks and the model has 3"):
        check_matches(other, tiny_llama)


@torch.no_grad()
def test_blocks_that_hand_keys_and_values_on_keep_each_stream_to_itself(tokenizer):
    lm = LanguageModel(tiny_model("gemma3n_text", len(tokenizer)), tokenizer, "tiny", "test")
    calibration = calibrate(lm, samples=3, seq_len=16)
    taken = profile(lm, calibration)
    found = finish(sensitivity_steps(lm, calibration, taken)).sensitivities
    expected = by_plain_passes(lm, calibration.ids, taken, sensitivity.EVERY)
    assert torch.allclose(torch.tensor(found.losses), torch.tensor(expected), rtol=2e-2, atol=1e-6)


def test_a_strangers_profile_is_not_opened_with_a_list_of_any_length(tmp_path):
    for head, said in (((10**9).to_bytes(8, "little"), "in 1,000 MB"), (b"{" * 100_001, "lists 100,001 tensors")):
        file = tmp_path / "norms.safetensors"
        file.write_bytes(head if len(head) == 8 else len(head).to_bytes(8, "little") + head)
        with pytest.raises(InputError, match=f"cannot be read .*{said}"):
            load_profile(file)
