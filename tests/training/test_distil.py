"""Training kept weights: what it changes and what not, that it learns, and that it goes on where it was."""

import copy
import json
import math
from dataclasses import replace

import pytest
import torch
from families import tiny
from model_state import assert_same, state_of
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import kl_div

from wanda_core.errors import InputError, ModelError, StorageError
from wanda_core.evaluation.perplexity import agreement
from wanda_core.model import devices
from wanda_core.progress import finish
from wanda_core.pruning.prune import prune
from wanda_core.pruning.variant import twin
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import calibrate
from wanda_core.training import distil as room
from wanda_core.training.distil import distil, distil_steps
from wanda_core.training.settings import Training

SHORT = Training(steps=4, batch=2, learning_rate=2e-3)


def weights(lm):
    return {linear.name: linear.weight for linear in lm.all_linears}


def same(first, second) -> bool:
    ours, theirs = weights(first), weights(second)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_training_brings_predictions_nearer_on_a_text_it_does_not_read(tiny_llama, pruned, windows, text):
    held_out = "She opened the door at noon and counted every train, and the birds began to sing."
    training = Training(steps=40, batch=2, learning_rate=2e-3)
    trained = distil(tiny_llama, pruned, windows, training, held_out=held_out, held_out_name="doors")
    report = trained.report.training
    assert report.kl[1] < 0.95 * report.kl[0]
    measure = {"seq_len": report.seq_len, "windows": report.windows}
    for variant, kl, top1 in zip((pruned, trained), report.kl, report.top1, strict=True):
        found = agreement(tiny_llama, variant.lm, held_out, **measure)
        assert (found.kl, found.top1) == (kl, top1)
    assert (report.held_out, report.settings, report.tokens) == ("doors", training.to_dict(), 40 * 2 * 24)
    assert report.calibration["fingerprint"] == windows.fingerprint
    assert trained.label == "Wanda 60% + least squares, then trained"
    assert pruned.label == "Wanda 60% + least squares"
    assert trained.report.linears == pruned.report.linears


def test_zeros_stay_and_everything_else_in_the_linears_moves(tiny_llama, pruned, windows, text):
    dense_before, pruned_before = state_of(tiny_llama.model), state_of(pruned.lm.model)
    trained = distil(tiny_llama, pruned, windows, SHORT, held_out=text)
    assert_same(dense_before, state_of(tiny_llama.model))
    assert_same(pruned_before, state_of(pruned.lm.model))
    assert not any(parameter.requires_grad for parameter in trained.lm.model.parameters())
    assert all(parameter.grad is None for parameter in trained.lm.model.parameters())
    ours, theirs = weights(pruned.lm), weights(trained.lm)
    for name in ours:
        assert torch.equal(ours[name] == 0, theirs[name] == 0)
        assert bool(
            (ours[name] != theirs[name])[ours[name] != 0].float().mean() > 0.95
        )  # but for what leads to removed weights alone
    linears = {linear.parameter[0] for linear in tiny_llama.all_linears}
    others = dict(pruned.lm.model.named_parameters())
    assert all(
        parameter is others[name] for name, parameter in trained.lm.model.named_parameters() if name not in linears
    )


def test_training_is_that_of_torch_on_masked_weights(tiny_llama, pruned, windows, text):
    """An oracle that shares nothing: torch's own Adam on whole matrices whose gradients are masked."""
    training = Training(steps=3, batch=2, learning_rate=1e-3, seed=4)
    trained = distil(tiny_llama, pruned, windows, training, held_out=text)
    lm = twin(pruned.lm)
    parameters = [nn.Parameter(linear.weight.clone()) for linear in lm.all_linears]
    for linear, parameter in zip(lm.all_linears, parameters, strict=True):
        linear.module.weight = parameter
    kept = [parameter.detach() != 0 for parameter in parameters]
    optimizer = torch.optim.Adam(parameters, lr=1.0, betas=(0.9, 0.95))
    order = torch.randperm(6, generator=torch.Generator().manual_seed(4)).tolist()
    for step in range(3):
        losses = []
        for number in order[2 * step : 2 * step + 2]:
            x = windows.ids[number][None].to(lm.device)
            with torch.no_grad():
                target = tiny_llama.model(x, use_cache=False).logits[0].log_softmax(-1)
            logits = lm.model(x, use_cache=False).logits[0].log_softmax(-1)
            losses.append(kl_div(logits, target, log_target=True, reduction="batchmean"))
        (sum(losses) / 2).backward()
        for parameter, mask in zip(parameters, kept, strict=True):
            parameter.grad *= mask
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 + math.cos(math.pi * step / 3)) / 2
        optimizer.step()
        optimizer.zero_grad()
    for name, weight in weights(trained.lm).items():
        assert torch.allclose(weight, lm.linear(name).weight, atol=2e-5), name


def test_each_window_is_read_once_before_any_is_read_again(tiny_llama, pruned, windows):
    trainer = room._Trainer(tiny_llama, pruned.lm, None, Training(steps=3, batch=4, seed=2), windows.ids, False)
    read = [x[0].tolist() for step in range(3) for x in trainer.windows_of(step)]
    known = windows.ids.tolist()
    assert sorted(map(known.index, read[:6])) == sorted(map(known.index, read[6:])) == [0, 1, 2, 3, 4, 5]
    assert read[:6] != read[6:]


@pytest.mark.parametrize("stopped_after", [1, 3, 5, 7])
def test_a_cancelled_training_goes_on_to_the_same_bits(tiny_llama, pruned, windows, text, tmp_path, stopped_after):
    state = tmp_path / "folder" / "state"
    whole = distil(tiny_llama, pruned, windows, SHORT, held_out=text)
    steps = distil_steps(tiny_llama, pruned, windows, SHORT, held_out=text, state=state)
    seen = 0
    for progress in steps:
        seen += progress.stage == "training"
        if seen > stopped_after:
            break
    steps.close()
    assert state.is_file() == (stopped_after >= 2)  # a step is two windows
    said = []
    resumed = distil(tiny_llama, pruned, windows, SHORT, held_out=text, state=state, say=said.append)
    assert same(whole.lm, resumed.lm)
    assert whole.report.training.kl == resumed.report.training.kl
    going_on = [sentence for sentence in said if sentence.startswith("going on after step")]
    assert len(going_on) == (stopped_after >= 2)
    if going_on:
        assert going_on[0].startswith(f"going on after step {stopped_after // 2} of 4")
    assert sorted(path.name for path in state.parent.iterdir()) == ["state"]


def test_an_interrupt_in_the_middle_of_a_step_leaves_the_state_of_the_last_whole_one(
    tiny_llama, pruned, windows, text, tmp_path, monkeypatch
):
    state = tmp_path / "state"
    whole = distil(tiny_llama, pruned, windows, SHORT, held_out=text)
    taken = []
    real = room.KeptWeights.step

    def stop(self, number, rate):
        taken.append(number)
        if number == 3:
            name = next(iter(self.parameters))
            self.parameters[name].data[self.kept[name]] += 1  # half a step
            raise KeyboardInterrupt
        real(self, number, rate)

    monkeypatch.setattr(room, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(room, "SAVE_SHARE", 1e9)
    monkeypatch.setattr(room.KeptWeights, "step", stop)
    with pytest.raises(KeyboardInterrupt):
        distil(tiny_llama, pruned, windows, SHORT, held_out=text, state=state)
    monkeypatch.setattr(room.KeptWeights, "step", real)
    assert taken == [1, 2, 3]
    said = []
    resumed = distil(tiny_llama, pruned, windows, SHORT, held_out=text, state=state, say=said.append)
    assert any(sentence.startswith("going on after step 2 of 4") for sentence in said)
    assert same(whole.lm, resumed.lm)


def test_a_finished_state_gives_the_result_again_without_a_step(tiny_llama, pruned, windows, text, tmp_path):
    whole = distil(tiny_llama, pruned, windows, SHORT, held_out=text, state=tmp_path / "state")
    stages = []
    again = distil(
        tiny_llama, pruned, windows, SHORT, held_out=text, state=tmp_path / "state", on_progress=stages.append
    )
    assert same(whole.lm, again.lm)
    assert [step.done for step in stages if step.stage == "training"] == [8]


def test_the_state_of_another_training_is_neither_used_nor_lost(tiny_llama, pruned, windows, text, tmp_path):
    state = tmp_path / "state"
    distil(tiny_llama, pruned, windows, SHORT, held_out=text, state=state)
    before = state.read_bytes()
    others = calibrate(tiny_llama, text, samples=6, seq_len=24, seed=2)
    less = prune(tiny_llama, PruneSpec("wanda", 0.5), windows)
    for variant, calibration, training, what in (
        (pruned, windows, replace(SHORT, steps=5), "another settings"),
        (pruned, others, SHORT, "another calibration"),
        (less, windows, SHORT, "another pruned model"),
    ):
        with pytest.raises(InputError, match=what):
            distil(tiny_llama, variant, calibration, training, held_out=text, state=state)
    with pytest.raises(InputError, match="another held-out text"):
        distil(tiny_llama, pruned, windows, SHORT, held_out=text[9:], state=state)
    assert state.read_bytes() == before


def test_a_damaged_state_is_told_and_left(tiny_llama, pruned, windows, text, tmp_path):
    state = tmp_path / "state"
    distil(tiny_llama, pruned, windows, SHORT, held_out=text, state=state)
    whole = state.read_bytes()
    foreign = tmp_path / "foreign"
    save_file({"x": torch.ones(3)}, foreign)
    for damaged in (whole[:-5], whole[:-1] + bytes([whole[-1] ^ 1]), b"my notes", foreign.read_bytes()):
        state.write_bytes(damaged)
        with pytest.raises(InputError, match="no whole state of a training"):
            distil(tiny_llama, pruned, windows, SHORT, held_out=text, state=state)
        assert state.read_bytes() == damaged


def test_a_state_holds_the_kept_weights_alone(tiny_llama, pruned, windows, text, tmp_path):
    distil(tiny_llama, pruned, windows, SHORT, held_out=text, state=tmp_path / "state")
    kept = sum(int((linear.weight != 0).sum()) for linear in pruned.lm.all_linears)
    assert sum(tensor.numel() for tensor in load_file(tmp_path / "state").values()) == 3 * kept


def test_a_state_that_cannot_be_written_ends_training_with_a_sentence(tiny_llama, pruned, windows, text, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="could not be written"):
        distil(tiny_llama, pruned, windows, SHORT, held_out=text, state=tmp_path / "file" / "state")
    assert (tmp_path / "file").read_text() == "mine"


def test_memory_and_time_are_said_before_they_are_taken(tiny_llama, pruned, windows, text):
    said = []
    steps = distil_steps(tiny_llama, pruned, windows, SHORT, held_out=text, say=said.append)
    for progress in steps:
        if progress.stage == "training" and progress.done == 0:
            assert len(said) == 1
            assert said[0].startswith("training takes 0.00 GB beside both models, of ")
        if progress.stage == "training" and progress.done == 2:
            assert len(said) == 2
            assert said[1].startswith("a step takes ")
            assert "s, so the other 3 take about " in said[1]
            assert progress.detail.startswith("KL ")
            assert progress.seconds is not None


def test_too_little_memory_computes_blocks_twice_and_none_refuses(tiny_llama, pruned, windows, text, monkeypatch):
    memory = room.training_memory(pruned.lm, windows.ids[:1].to(pruned.lm.device))
    assert memory.checkpointed < memory.plain
    whole = distil(tiny_llama, pruned, windows, SHORT, held_out=text)
    for share, enough in ((0.5, True), (-0.5, False)):
        between = memory.weights + memory.checkpointed + share * (memory.plain - memory.checkpointed)
        for where in (room, devices):
            monkeypatch.setattr(where, "free_memory", lambda device: int(between / room.PLAIN_SHARE))  # noqa: B023
        said = []
        if not enough:
            with pytest.raises(ModelError, match="training beside both models"):
                distil(tiny_llama, pruned, windows, SHORT, held_out=text)
            continue
        twice = distil(tiny_llama, pruned, windows, SHORT, held_out=text, say=said.append)
        assert "with each block computed twice" in said[0]
        assert same(whole.lm, twice.lm)


def test_what_does_not_belong_together_is_refused(tiny_llama, tiny_gpt2, pruned, windows, text):
    with pytest.raises(InputError, match="was not pruned from it"):
        distil(tiny_gpt2, pruned, windows, SHORT, held_out=text)
    trained = distil(tiny_llama, pruned, windows, SHORT, held_out=text)
    with pytest.raises(InputError, match="was trained already, 4 steps long"):
        distil(tiny_llama, trained, windows, SHORT, held_out=text)
    half = replace(pruned.lm, model=copy.deepcopy(pruned.lm.model).to(torch.bfloat16))
    with pytest.raises(InputError, match="load it in float32"):
        distil(tiny_llama, replace(pruned, lm=half), windows, SHORT, held_out=text)


def test_a_rate_that_leads_nowhere_is_told(tiny_llama, pruned, windows, text, monkeypatch):
    monkeypatch.setattr(room, "divergence", lambda logits, target: (math.nan, logits))
    with pytest.raises(ModelError, match="not finite any more at learning rate"):
        distil(tiny_llama, pruned, windows, SHORT, held_out=text)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 0}, "steps 0"),
        ({"batch": True}, "batch True"),
        ({"learning_rate": math.nan}, "learning_rate nan"),
        ({"learning_rate": "fast"}, "learning_rate 'fast'"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_settings_are_checked_when_they_are_made(given, message):
    with pytest.raises(InputError, match=message):
        Training(**given)


def test_the_rate_rises_and_falls():
    rates = [Training(steps=40, learning_rate=0.01).rate(step) for step in range(40)]
    assert rates[0] == 0.005
    assert math.isclose(rates[20], 0.005)
    assert max(rates) == rates[1] > 0.0099
    assert 0 < rates[-1] < 1e-4
    assert json.loads(json.dumps(Training().to_dict())) == Training().to_dict()


@pytest.mark.parametrize("family", ["GPT2", "OPT", "Mixtral", "Jamba"])
def test_other_families_are_trained_and_keep_their_zeros(family, tokenizer, device, text):
    dense = tiny(family, tokenizer, device)
    calibration = calibrate(dense, text, samples=4, seq_len=20)
    pruned = prune(dense, PruneSpec("wanda", pattern="2:4"), calibration)
    trained = finish(distil_steps(dense, pruned, calibration, Training(6, 2, 1e-3), held_out=text))
    assert trained.report.training.kl[1] < trained.report.training.kl[0]
    ours, theirs = weights(pruned.lm), weights(trained.lm)
    assert all(torch.equal(ours[name] == 0, theirs[name] == 0) for name in ours)
    assert not same(pruned.lm, trained.lm)


@pytest.mark.builtin
@pytest.mark.long
def test_the_real_models_head_learns_and_keeps_its_zeros(builtin_head):
    calibration = calibrate(builtin_head, samples=4, seq_len=64)
    pruned = prune(builtin_head, PruneSpec("wanda", 0.7, order="one-shot"), calibration)
    trained = distil(builtin_head, pruned, calibration, Training(4, 1, 3e-4))
    report = trained.report.training
    assert report.held_out == "built-in evaluation text"
    assert report.kl[1] < 0.9 * report.kl[0]
    assert trained.report.sparsity == pruned.report.sparsity
    ours, theirs = weights(pruned.lm), weights(trained.lm)
    assert all(torch.equal(ours[name] == 0, theirs[name] == 0) for name in ours)
